"""The cluster's own cgroups: what its Pods run in, and how what a kill left behind is found.

The real node's parts join one of them before they start, and what they start is born there: also a
shim whose containerd is gone, whose pid nobody has written down.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from localcluster.layout import ClusterError

if TYPE_CHECKING:
    from localcluster.layout import Cluster

ROOT = Path("/sys/fs/cgroup")
PARTS, PODS = "parts", "kubepods"
"""Below the cluster's folder: its programs, and what the kubelet calls the Pods' folder."""
NEEDED = ("cpu", "cpuset", "memory", "pids")
PATIENCE_S = 10.0


def roots() -> list[Path]:
    """The root of every hierarchy: the one of v2, or those of the controllers under v1."""
    if _is_unified():
        return [ROOT]
    return [one for one in sorted(ROOT.glob("*")) if (one / "cgroup.procs").exists()]


def obstacle() -> str | None:
    """Why the cgroups of this machine cannot carry a node, if they cannot."""
    if not roots():
        return f"no cgroups are mounted at {ROOT}"
    closed = [str(one) for one in roots() if not os.access(one, os.W_OK)]
    if closed:
        return f"{closed[0]} is read-only"
    missing = _missing_controllers()
    if missing:
        return f"{ROOT} does not hand on {', '.join(missing)} to the cgroups below it"
    return None


def make(cluster: Cluster) -> None:
    for folder in _folders(cluster):
        for one in (folder, folder / PARTS):
            one.mkdir(exist_ok=True)
            _inherit_cpuset(one)


def joining(cluster: Cluster) -> list[str]:
    """What to put before a command so that it joins the cluster's cgroups and is born there."""
    script = 'while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'
    lists = [str(folder / PARTS / "cgroup.procs") for folder in _folders(cluster)]
    return ["sh", "-ec", script, "sh", *lists, "--"]


def kill(cluster: Cluster, below: str = "") -> None:
    """End every process in the cluster's cgroups, or in those below one of their folders.

    Raises:
        ClusterError: some do not end.
    """
    give_up = time.monotonic() + PATIENCE_S
    while pids := _pids([folder / below for folder in _folders(cluster)]):
        if time.monotonic() > give_up:
            listed = ",".join(map(str, sorted(pids)))
            raise ClusterError(
                f"processes of cluster {cluster.name!r} do not end, not even when killed; see what "
                f"they wait for with `ps -o pid,stat,wchan,args -p {listed}`, then try again"
            )
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def remove(cluster: Cluster) -> None:
    """Remove the cluster's cgroups, in which no process is left."""
    give_up = time.monotonic() + PATIENCE_S
    # The kernel takes a moment to let go of a cgroup whose last process has ended.
    while left := [one for one in _folders(cluster) if one.exists()]:
        for folder in left:
            for path, _, _ in os.walk(folder, topdown=False):
                with suppress(OSError):
                    Path(path).rmdir()
        if time.monotonic() > give_up:
            return  # an empty cgroup does no harm
        if any(one.exists() for one in left):
            time.sleep(0.05)


def _folders(cluster: Cluster) -> list[Path]:
    return [root / cluster.namespace for root in roots()]


def _is_unified() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _missing_controllers() -> list[str]:
    """Under v2: the controllers that the cgroups below the root do not get and cannot be given."""
    if not _is_unified():
        return []
    handed_on = ROOT / "cgroup.subtree_control"
    missing = []
    for name in NEEDED:
        if name not in handed_on.read_text(encoding="utf-8").split():
            try:
                handed_on.write_text(f"+{name}", encoding="utf-8")
            except OSError:
                missing.append(name)
    return missing


def _inherit_cpuset(cgroup: Path) -> None:
    """A fresh v1 cpuset is empty, and takes no process until it is given CPUs and memory nodes."""
    if _is_unified():
        return  # here an empty one means the parent's
    for name in ("cpuset.mems", "cpuset.cpus"):
        own = cgroup / name
        if own.exists() and not own.read_text(encoding="utf-8").strip():
            own.write_text((cgroup.parent / name).read_text(encoding="utf-8"), encoding="utf-8")


def _pids(folders: list[Path]) -> set[int]:
    found: set[int] = set()
    for folder in folders:
        for path, _, _ in os.walk(folder):
            with suppress(OSError):  # a cgroup may go while we look
                text = Path(path, "cgroup.procs").read_text(encoding="utf-8")
                found.update(int(word) for word in text.split())
    # A process of another pid namespace is listed as 0, which to kill(2) is ourselves.
    return found - {0}
