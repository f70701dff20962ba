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

from localcluster import cgroups, controlplane, images, network, processes, programs
from localcluster.layout import COMPUTE_ENVIRONMENT_LABEL, REAL_NODE_ENVIRONMENT, ClusterError

if TYPE_CHECKING:
    from localcluster.layout import Cluster, Facts

PARTS = ("containerd", "kubelet", "kube-proxy")
RUN = Path("/run")
MOUNTS = Path("/proc/mounts")


def refuse_another_owner(cluster: Cluster) -> None:
    """See that what is below /run by this name is not a cluster of another state folder.

    Raises:
        ClusterError: it is; both would use one network and one containerd.
    """
    owner = _runtime(cluster) / "owner"
    if not owner.exists():
        return
    folder = Path(owner.read_text(encoding="utf-8"))
    if folder != cluster.folder and folder.exists():
        raise ClusterError(
            f"a cluster {cluster.name!r} of another state folder uses this machine: choose another "
            f"--name, or first\n  BATCH_OPERATOR_HOME={folder.parent.parent} hack/cluster down "
            f"--name {cluster.name}"
        )


def start(cluster: Cluster, facts: Facts) -> None:
    """Bring the node up and wait until it is Ready.

    Raises:
        ClusterError: a part did not come up.
    """
    if not network.is_whole(cluster, facts):
        # After an unclean end: what still runs has a network that is gone.
        stop(cluster, facts)
        network.make(cluster, facts)
    cgroups.make(cluster)
    folder = cluster.folder / "node"
    _write_containerd_config(cluster, folder)
    inside = [*cgroups.joining(cluster), *network.entering(cluster)]
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
            f"--node-ip={network.node_address(facts)}",
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
    processes.wait_until(cluster, "kubelet", lambda: _is_ready(cluster))


def stop(cluster: Cluster, facts: Facts) -> None:
    """End the node and leave nothing of it but its folder, also after its parts were killed.

    Raises:
        ClusterError: something cannot be ended or unmounted.
    """
    for part in ("kubelet", "kube-proxy"):
        processes.stop(cluster, part)
    # Before containerd, so that it can clear away after them.
    cgroups.kill(cluster, cgroups.PODS)
    processes.stop(cluster, "containerd")
    # Shims, and whatever else is in no record.
    cgroups.kill(cluster)
    for folder in (_runtime(cluster), cluster.folder):
        _unmount_below(folder)
    network.remove(cluster, facts)
    cgroups.remove(cluster)
    shutil.rmtree(_runtime(cluster), ignore_errors=True)


def load(cluster: Cluster, archive: Path) -> None:
    """Import an image archive so that Pods on the node can use it."""
    _ctr(cluster, "images", "import", "--local", str(archive))


def _is_ready(cluster: Cluster) -> bool:
    # After a kill the node is still called Ready for a while: the kubelet itself has to answer too.
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return (
        controlplane.kubectl_succeeds(
            cluster, "get", "--raw", f"/api/v1/nodes/{cluster.name}/proxy/healthz"
        )
        and controlplane.kubectl(cluster, "get", "node", cluster.name, "-o", ready) == "True"
    )


def _runtime(cluster: Cluster) -> Path:
    return RUN / cluster.namespace


def _socket(cluster: Cluster) -> Path:
    # A socket's path is limited to 108 bytes: it cannot lie in a folder of any depth.
    return _runtime(cluster) / "containerd.sock"


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


def _write_containerd_config(cluster: Cluster, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _runtime(cluster).mkdir(parents=True, exist_ok=True)
    (_runtime(cluster) / "owner").write_text(str(cluster.folder), encoding="utf-8")
    (folder / "containerd.toml").write_text(
        f"""\
version = 3
root = "{folder}/containerd"
state = "{_runtime(cluster)}/state"

[grpc]
  address = "{_socket(cluster)}"

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "{_snapshotter(folder)}"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{images.PAUSE}"

[plugins.'io.containerd.cri.v1.runtime']
  # Root without CAP_SYS_RESOURCE may not make a process less likely to be killed.
  restrict_oom_score_adj = true
  # With ours, and not among the machine's own: so they are found when the cluster is removed.
  netns_mounts_under_state_dir = true
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
                    "ranges": [[{"subnet": network.pod_addresses(facts)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(cni), encoding="utf-8")
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


def _ctr(cluster: Cluster, *arguments: str) -> str:
    address = ["--address", str(_socket(cluster)), "--namespace", "k8s.io"]
    return processes.run([programs.path("ctr"), *address, *arguments])


def _unmount_below(folder: Path) -> None:
    for path in sorted(_mounts_below(folder), key=len, reverse=True):
        processes.run(["umount", "--lazy", path], check=False)
    if left := _mounts_below(folder):
        # Deleting the folder would delete what is mounted there: perhaps a folder of this machine.
        raise ClusterError(f"{left[0]} cannot be unmounted: umount it, then try again")


def _mounts_below(folder: Path) -> list[str]:
    mounts = [line.split()[1] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    return [path for path in mounts if path.startswith(f"{folder}/")]
