"""etcd, API server, controller manager and scheduler of the embedded cluster."""

from __future__ import annotations

import ssl
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from localcluster import certificates, kubeconfig, processes, programs

if TYPE_CHECKING:
    from pathlib import Path

    from localcluster.layout import Cluster, Facts

PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, verbs: [get, list, watch]}
  - {level: None, resources: [{group: coordination.k8s.io}]}
  - {level: Metadata}
"""


def host_address(facts: Facts) -> str:
    """This machine's end of the wire to the real node; the API server listens there too."""
    return f"10.213.{facts.subnet}.1"


def server(facts: Facts) -> str:
    return f"https://127.0.0.1:{facts.api_port}"


def start(cluster: Cluster, facts: Facts) -> None:
    """Bring the control plane up, part by part.

    Raises:
        ClusterError: a part did not come up.
    """
    keys = cluster.folder / "pki"
    _issue_certificates(cluster, facts, keys)
    etcd_url = f"http://127.0.0.1:{facts.etcd_port}"
    processes.start(cluster, "etcd", _etcd(cluster, facts, etcd_url))
    processes.wait_until(cluster, "etcd", lambda: processes.answers(f"{etcd_url}/health"))
    processes.start(cluster, "kube-apiserver", _api_server(cluster, facts, keys, etcd_url))
    trust = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    processes.wait_until(
        cluster, "kube-apiserver", lambda: processes.answers(f"{server(facts)}/readyz", trust)
    )
    processes.start(cluster, "kube-controller-manager", _manager(cluster, facts, keys))
    processes.start(cluster, "kube-scheduler", _scheduler(cluster, facts))
    lax = ssl.create_default_context()
    lax.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE  # both serve health with certificates that they made themselves
    for part, port in (
        ("kube-controller-manager", facts.manager_port),
        ("kube-scheduler", facts.scheduler_port),
    ):
        url = f"https://127.0.0.1:{port}/healthz"
        processes.wait_until(cluster, part, partial(processes.answers, url, lax))


def kubectl_command(cluster: Cluster) -> list[str]:
    """How kubectl is called for the cluster."""
    return [programs.path("kubectl"), "--kubeconfig", str(cluster.kubeconfig)]


def kubectl(cluster: Cluster, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl against the cluster and return what it prints."""
    return processes.run([*kubectl_command(cluster), *arguments], stdin=stdin)


def kubectl_succeeds(cluster: Cluster, *arguments: str) -> bool:
    command = [*kubectl_command(cluster), *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _issue_certificates(cluster: Cluster, facts: Facts, keys: Path) -> None:
    certificates.make_authority(keys)
    certificates.issue(
        keys,
        "kube-apiserver",
        "/CN=kube-apiserver",
        addresses=["127.0.0.1", host_address(facts), f"10.215.{facts.subnet}.1"],
        names=["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"],
    )
    subjects = {
        "admin": "/O=system:masters/CN=admin",
        "kube-controller-manager": "/CN=system:kube-controller-manager",
        "kube-scheduler": "/CN=system:kube-scheduler",
        "kwok": "/O=system:masters/CN=kwok",
        "kube-proxy": "/CN=system:kube-proxy",
        "kubelet": f"/O=system:nodes/CN=system:node:{cluster.name}",
        "kubelet-client": "/O=system:masters/CN=kube-apiserver-kubelet-client",
    }
    for name, subject in subjects.items():
        certificates.issue(keys, name, subject)
    for name in ("admin", "kube-controller-manager", "kube-scheduler", "kwok"):
        target = cluster.kubeconfig if name == "admin" else keys / f"{name}.kubeconfig"
        kubeconfig.write(
            target, server=server(facts), certificates=keys, user=name, cluster=cluster.name
        )
    for name in ("kube-proxy", "kubelet"):
        kubeconfig.write(
            keys / f"{name}.kubeconfig",
            server=f"https://{host_address(facts)}:{facts.api_port}",
            certificates=keys,
            user=name,
            cluster=cluster.name,
        )


def _etcd(cluster: Cluster, facts: Facts, url: str) -> list[str]:
    peer = f"http://127.0.0.1:{facts.etcd_peer_port}"
    return [
        programs.path("etcd"),
        f"--data-dir={cluster.folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # Throw-away clusters: the disk's patience is not what we want to measure.
        "--unsafe-no-fsync",
        "--quota-backend-bytes=8589934592",
        "--log-level=warn",
    ]


def _api_server(cluster: Cluster, facts: Facts, keys: Path, etcd_url: str) -> list[str]:
    advertised = host_address(facts) if facts.has_real_node else "127.0.0.1"
    command = [
        programs.path("kube-apiserver"),
        f"--etcd-servers={etcd_url}",
        "--bind-address=0.0.0.0" if facts.has_real_node else "--bind-address=127.0.0.1",
        f"--advertise-address={advertised}",
        f"--secure-port={facts.api_port}",
        f"--tls-cert-file={keys / 'kube-apiserver.crt'}",
        f"--tls-private-key-file={keys / 'kube-apiserver.key'}",
        f"--client-ca-file={keys / 'ca.crt'}",
        f"--kubelet-client-certificate={keys / 'kubelet-client.crt'}",
        f"--kubelet-client-key={keys / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys / 'sa.pub'}",
        f"--service-account-signing-key-file={keys / 'sa.key'}",
        f"--service-cluster-ip-range=10.215.{facts.subnet}.0/24",
        "--max-requests-inflight=2000",
        "--max-mutating-requests-inflight=1000",
    ]
    if not facts.has_real_node:
        # Kubernetes refuses a loopback address for the endpoints of its own Service.
        command = [one for one in command if not one.startswith("--advertise-address")]
        command.append("--endpoint-reconciler-type=none")
    if facts.has_audit:
        policy = cluster.folder / "audit-policy.yaml"
        policy.write_text(AUDIT_POLICY, encoding="utf-8")
        command += [
            f"--audit-policy-file={policy}",
            f"--audit-log-path={cluster.audit_log}",
            "--audit-log-maxsize=2000",
            "--audit-log-mode=batch",
            "--audit-log-batch-max-size=200",
            "--audit-log-batch-buffer-size=200000",
        ]
    return command


def _manager(cluster: Cluster, facts: Facts, keys: Path) -> list[str]:
    config = keys / "kube-controller-manager.kubeconfig"
    return [
        programs.path("kube-controller-manager"),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--secure-port={facts.manager_port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={cluster.folder / 'kube-controller-manager'}",
        f"--root-ca-file={keys / 'ca.crt'}",
        f"--service-account-private-key-file={keys / 'sa.key'}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        # Left at their defaults, the clients' limits are what a benchmark measures.
        "--kube-api-qps=5000",
        "--kube-api-burst=10000",
    ]


def _scheduler(cluster: Cluster, facts: Facts) -> list[str]:
    config = cluster.folder / "pki" / "kube-scheduler.kubeconfig"
    return [
        programs.path("kube-scheduler"),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--secure-port={facts.scheduler_port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={cluster.folder / 'kube-scheduler'}",
        "--leader-elect=false",
        "--kube-api-qps=5000",
        "--kube-api-burst=10000",
    ]
