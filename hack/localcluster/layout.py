"""Where everything lies: one state folder, and in it one folder per cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
GO_MODULES = REPOSITORY / "hack" / "go"

COMPUTE_ENVIRONMENT_LABEL = "batch-operator.io/compute-environment"
REAL_NODE_ENVIRONMENT = "local"
FAKE_NODE_ENVIRONMENT = "fake"
MANAGED_BY_KWOK = "kwok.x-k8s.io/node"

EMBEDDED, KIND, EXISTING = "embedded", "kind", "context"
"""Who provides a cluster: our own processes, kind, or the user."""


class ClusterError(Exception):
    """Something that the person at the terminal has to know; the message says what to do next."""


def home() -> Path:
    """The state folder: $BATCH_OPERATOR_HOME, or a folder of its own under the user's state.

    Raises:
        ClusterError: its path has a character that means something else where paths are listed.
    """
    chosen = os.environ.get("BATCH_OPERATOR_HOME")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    # Resolved, because the kernel lists mounts by their real paths.
    folder = Path(chosen or Path(base) / "batch-operator").resolve()
    if _AMBIGUOUS.search(str(folder)):
        raise ClusterError(
            f'the state folder {str(folder)!r} has a space or one of , : " \\ in its path, which '
            "mount options and search paths cannot hold: set BATCH_OPERATOR_HOME to another folder"
        )
    return folder


@dataclass(frozen=True, slots=True)
class Facts:
    """What was chosen when a cluster was first brought up, and holds until it is removed.

    `subnet` numbers the cluster's addresses: 10.213.N.0/30 joins the real node to this machine,
    10.214.N.0/24 is for its Pods, 10.215.N.0/24 for Services.
    """

    provider: str
    subnet: int
    etcd_port: int
    etcd_peer_port: int
    api_port: int
    manager_port: int
    scheduler_port: int
    kwok_port: int
    has_real_node: bool
    has_audit: bool

    @property
    def has_fake_nodes_only(self) -> bool:
        """Whether Pods are only played: no container runs, and there is no log."""
        return self.provider == EMBEDDED and not self.has_real_node


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster's folder and what follows from its name."""

    name: str

    @property
    def folder(self) -> Path:
        return home() / "clusters" / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    @property
    def namespace(self) -> str:
        """The real node's network namespace."""
        return f"batch-operator-{self.name}"

    def log(self, part: str) -> Path:
        return self.folder / "logs" / f"{part}.log"

    def facts(self) -> Facts | None:
        path = self.folder / "facts.json"
        if not path.exists():
            return None
        return Facts(**json.loads(path.read_text(encoding="utf-8")))

    def keep(self, facts: Facts) -> None:
        write_whole(self.folder / "facts.json", json.dumps(asdict(facts), indent=1))


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step: a kill leaves the old text or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)


def known_clusters() -> list[Cluster]:
    folder = home() / "clusters"
    if not folder.exists():
        return []
    return [Cluster(path.name) for path in sorted(folder.iterdir()) if path.is_dir()]


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def free_subnet() -> int:
    """A number for a new cluster's addresses that no cluster of ours and no route uses.

    Raises:
        ClusterError: there is none left.
    """
    taken = {facts.subnet for one in known_clusters() if (facts := one.facts()) is not None}
    taken |= {number for number in range(1, 255) if Path(f"/sys/class/net/{wire(number)}").exists()}
    taken |= {int(number) for line in _routes() for number in _OURS.findall(line)}
    found = next((number for number in range(1, 255) if number not in taken), None)
    if found is None:
        raise ClusterError("every 10.213.N.0/30 is in use: hack/cluster down what you do not need")
    return found


def wire(subnet: int) -> str:
    """The name of this machine's end of the wire to a cluster's real node."""
    return f"batchop{subnet}"


_AMBIGUOUS = re.compile(r'[\s,:"\\]')
_OURS = re.compile(r"\b10\.21[34]\.(\d+)\.")


def _routes() -> list[str]:
    if shutil.which("ip") is None:
        return []
    done = subprocess.run(["ip", "route"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()
