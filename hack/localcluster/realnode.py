"""One real node: containerd, a kubelet and kube-proxy in a network namespace of their own.

The namespace keeps the node's bridge, its iptables rules and its kubelet's ports away from this
machine and from other clusters, and takes them all with it when it is removed. A pair of virtual
interfaces joins it to this machine, where the API server listens.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from localcluster import controlplane, images, processes, programs
from localcluster.layout import (
    COMPUTE_ENVIRONMENT_LABEL,
    REAL_NODE_ENVIRONMENT,
    ClusterError,
    Facts,
    wire,
)

if TYPE_CHECKING:
    from localcluster.layout import Cluster

PARTS = ("containerd", "kubelet", "kube-proxy")
CGROUPS = Path("/sys/fs/cgroup")

# Debian's packages for what is no Go module, by the program that shows they are there.
PACKAGES = {
    "runc": "runc",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "iptables": "iptables",
    "openssl": "openssl",
    "mount": "mount",
    "nsenter": "util-linux",
}


def install_packages() -> None:
    """See to it that the system's programs are there.

    Raises:
        ClusterError: they are missing and cannot be installed; the message has the command.
    """
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    command = f"apt-get install -y {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise ClusterError(f"install these with your package manager first: {' '.join(missing)}")
    print(f"Installing {', '.join(missing)} with apt-get …", flush=True)
    env = "DEBIAN_FRONTEND=noninteractive"
    processes.run(["env", env, "apt-get", "update", "-qq"])
    processes.run(["env", env, *command.split(), "-qq", "--no-install-recommends"])


def start(cluster: Cluster, facts: Facts) -> None:
    """Bring the node up and wait until it is Ready.

    Raises:
        ClusterError: a part did not come up.
    """
    _make_network(cluster, facts)
    # Not `ip netns exec`: it mounts a new /sys, which hides the cgroups from the kubelet.
    inside = ["nsenter", f"--net=/run/netns/{cluster.namespace}"]
    folder = cluster.folder / "node"
    _write_containerd_config(cluster, folder)
    path = f"{Path(programs.path('containerd')).parent}:{os.environ['PATH']}"
    processes.start(
        cluster,
        "containerd",
        [*inside, programs.path("containerd"), "--config", str(folder / "containerd.toml")],
        env={"PATH": path},
    )
    processes.wait_until(cluster, "containerd", lambda: _listens(_socket(cluster)))
    _load_basic_images(cluster, folder)
    _write_kubelet_config(cluster, facts, folder)
    processes.start(
        cluster,
        "kubelet",
        [
            *inside,
            programs.path("kubelet"),
            f"--config={folder / 'kubelet.json'}",
            f"--kubeconfig={cluster.folder / 'pki' / 'kubelet.kubeconfig'}",
            f"--root-dir={folder / 'kubelet'}",
            f"--cert-dir={folder / 'kubelet-certificates'}",
            f"--hostname-override={cluster.name}",
            f"--node-ip={node_address(facts)}",
            f"--node-labels={COMPUTE_ENVIRONMENT_LABEL}={REAL_NODE_ENVIRONMENT}",
        ],
    )
    processes.start(
        cluster,
        "kube-proxy",
        [
            *inside,
            programs.path("kube-proxy"),
            f"--kubeconfig={cluster.folder / 'pki' / 'kube-proxy.kubeconfig'}",
            "--proxy-mode=iptables",
            f"--hostname-override={cluster.name}",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
            "--metrics-bind-address=127.0.0.1:10249",
            "--healthz-bind-address=127.0.0.1:10256",
        ],
    )
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    processes.wait_until(
        cluster,
        "kubelet",
        lambda: (
            controlplane.kubectl_succeeds(cluster, "get", "node", cluster.name)
            and controlplane.kubectl(cluster, "get", "node", cluster.name, "-o", ready) == "True"
        ),
        patience_s=90,
    )


def stop(cluster: Cluster) -> None:
    """Stop the node's containers and parts, unmount what they mounted, remove its network."""
    for part in ("kubelet", "kube-proxy"):
        processes.stop(cluster, part)
    if processes.pid_of(cluster, "containerd") is not None:
        _remove_containers(cluster)
    processes.stop(cluster, "containerd")
    _unmount_below(cluster.folder)
    if Path(f"/run/netns/{cluster.namespace}").exists():
        processes.run(["ip", "netns", "delete", cluster.namespace], check=False)
    facts = cluster.facts()
    if facts is not None and Path(f"/sys/class/net/{wire(facts.subnet)}").exists():
        processes.run(["ip", "link", "delete", wire(facts.subnet)], check=False)
    for folder in _cgroup_folders(cluster):
        _remove_cgroups(folder)


def load(cluster: Cluster, archive: Path) -> None:
    """Import an image archive so that Pods on the node can use it."""
    _ctr(cluster, "images", "import", "--local", str(archive))


def node_address(facts: Facts) -> str:
    return f"10.213.{facts.subnet}.2"


def _make_network(cluster: Cluster, facts: Facts) -> None:
    if Path(f"/run/netns/{cluster.namespace}").exists():
        return
    try:
        _join_network(cluster, facts)
    except ClusterError:
        # Half a network would be taken for a whole one the next time.
        processes.run(["ip", "netns", "delete", cluster.namespace], check=False)
        raise


def _join_network(cluster: Cluster, facts: Facts) -> None:
    space, outside = cluster.namespace, wire(facts.subnet)
    host, node = controlplane.host_address(facts), node_address(facts)
    run = processes.run
    run(["ip", "netns", "add", space])
    run(["ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space])
    run(["ip", "address", "add", f"{host}/30", "dev", outside])
    run(["ip", "link", "set", outside, "up"])
    inside = ["ip", "-n", space]
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "address", "add", f"{node}/30", "dev", "eth0"])
    run([*inside, "link", "set", "eth0", "up"])
    run([*inside, "route", "add", "default", "via", host])
    # Pods reach the API server, and replies find their way back, without address translation.
    run(["ip", "route", "replace", f"10.214.{facts.subnet}.0/24", "via", node])
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    run(["ip", "netns", "exec", space, "sh", "-c", forward])


def _socket(cluster: Cluster) -> Path:
    # A socket's path is limited to 108 bytes: it cannot lie in a folder of any depth.
    return Path("/run") / f"batch-operator-{cluster.name}" / "containerd.sock"


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


def _write_containerd_config(cluster: Cluster, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _socket(cluster).parent.mkdir(parents=True, exist_ok=True)
    (folder / "containerd.toml").write_text(
        f"""\
version = 3
root = "{folder}/containerd"
state = "/run/batch-operator-{cluster.name}/state"

[grpc]
  address = "{_socket(cluster)}"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "{_snapshotter(folder)}"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{images.PAUSE}"

[plugins.'io.containerd.cri.v1.runtime']
  # Root without CAP_SYS_RESOURCE may not make a process less likely to be killed.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{Path(programs.path("bridge")).parent}"]
    conf_dir = "{folder}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
""",
        encoding="utf-8",
    )


def _snapshotter(folder: Path) -> str:
    """Overlayfs where the state folder's file system can carry one, else plain copies."""
    probe = folder / "overlay-probe"
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "merged")]
    processes.run(mount, check=False)
    works = os.path.ismount(probe / "merged")
    if works:
        processes.run(["umount", str(probe / "merged")])
    shutil.rmtree(probe, ignore_errors=True)
    return "overlayfs" if works else "native"


def _load_basic_images(cluster: Cluster, folder: Path) -> None:
    binary = Path(shutil.which("busybox") or "/bin/busybox").resolve()
    applets = processes.run([str(binary), "--list"]).split()
    for image in (images.busybox(binary, applets), images.pause(binary)):
        archive = folder / "image.tar"
        images.write_archive(image, archive)
        load(cluster, archive)
        archive.unlink()


def _write_kubelet_config(cluster: Cluster, facts: Facts, folder: Path) -> None:
    cni = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(folder / "cni-addresses"),
                    "ranges": [[{"subnet": f"10.214.{facts.subnet}.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(cni), encoding="utf-8")
    for cgroup in _cgroup_folders(cluster):
        cgroup.mkdir(exist_ok=True)
        _inherit_cpuset(cgroup)
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "x509": {"clientCAFile": str(cluster.folder / "pki" / "ca.crt")},
            "webhook": {"enabled": False},
            "anonymous": {"enabled": False},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        # Two kubelets under one root would remove each other's Pods.
        "cgroupRoot": f"/{cluster.namespace}",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": ["pods"],
        "containerRuntimeEndpoint": f"unix://{_socket(cluster)}",
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "failCgroupV1": False,
        "failSwapOn": False,
        "maxPods": 200,
        "podLogsDir": str(cluster.folder / "pod-logs"),
        "port": 10250,
        "registerNode": True,
        "staticPodPath": "",
    }
    (folder / "kubelet.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def _cgroup_folders(cluster: Cluster) -> list[Path]:
    """The cluster's own folder in every cgroup hierarchy (one under cgroup v2)."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS / cluster.namespace]
    return [one / cluster.namespace for one in sorted(CGROUPS.iterdir()) if one.is_dir()]


def _inherit_cpuset(cgroup: Path) -> None:
    """A fresh v1 cpuset is empty, and takes no process until it is given CPUs and memory nodes."""
    for name in ("cpuset.mems", "cpuset.cpus"):
        own = cgroup / name
        if own.exists() and not own.read_text(encoding="utf-8").strip():
            own.write_text((cgroup.parent / name).read_text(encoding="utf-8"), encoding="utf-8")


def _remove_cgroups(folder: Path) -> None:
    if not folder.exists():
        return
    for path in sorted(folder.rglob("*"), key=lambda one: -len(one.parts)):
        if path.is_dir():
            _remove_one_cgroup(path)
    _remove_one_cgroup(folder)


def _remove_one_cgroup(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return  # something in it is still ending; an empty cgroup left behind does no harm


def _ctr(cluster: Cluster, *arguments: str) -> str:
    address = ["--address", str(_socket(cluster)), "--namespace", "k8s.io"]
    return processes.run([programs.path("ctr"), *address, *arguments])


def _remove_containers(cluster: Cluster) -> None:
    for task in _ctr(cluster, "tasks", "list", "--quiet").split():
        address = ["--address", str(_socket(cluster)), "--namespace", "k8s.io"]
        processes.run(
            [programs.path("ctr"), *address, "tasks", "delete", "--force", task], check=False
        )
    for container in _ctr(cluster, "containers", "list", "--quiet").split():
        address = ["--address", str(_socket(cluster)), "--namespace", "k8s.io"]
        processes.run(
            [programs.path("ctr"), *address, "containers", "delete", container], check=False
        )


def _unmount_below(folder: Path) -> None:
    mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    below = [line.split()[1] for line in mounts if line.split()[1].startswith(f"{folder}/")]
    for path in sorted(below, key=len, reverse=True):
        processes.run(["umount", "--lazy", path], check=False)
