"""Long-running parts: started with a log of their own, found again by pid, stopped cleanly.

A pid alone can belong to somebody else after a reboot, so the start time that the kernel gives is
kept with it, and a process is only ever signalled when both still match.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from localcluster.layout import Cluster, ClusterError, write_whole

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

TAIL_LINES = 20
PATIENCE_S = 180.0
"""For a part to be ready: idle machines need seconds, and a part that ends is told at once."""


def start(
    cluster: Cluster, part: str, command: Sequence[str], env: Mapping[str, str] | None = None
) -> None:
    """Start a part in the background unless it runs already."""
    if pid_of(cluster, part) is not None:
        return
    log = cluster.log(part)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
    record = {"pid": process.pid, "started": _start_time(process.pid), "command": list(command)}
    try:
        write_whole(_record(cluster, part), json.dumps(record))
    except BaseException:
        process.kill()  # without its record nobody would ever find it again
        raise


def pid_of(cluster: Cluster, part: str) -> int | None:
    """The pid of a part that runs."""
    path = _record(cluster, part)
    if not path.exists():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    pid = int(record["pid"])
    started = _start_time(pid)
    return pid if started is not None and started == record["started"] else None


def parts(cluster: Cluster) -> list[str]:
    """Parts that were started and not stopped, in no particular order."""
    folder = cluster.folder / "run"
    return sorted(path.stem for path in folder.glob("*.json")) if folder.exists() else []


def stop(cluster: Cluster, part: str, patience_s: float = 20.0) -> None:
    """End a part: SIGTERM, and SIGKILL when it does not go."""
    pid = pid_of(cluster, part)
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        give_up = time.monotonic() + patience_s
        while pid_of(cluster, part) is not None and time.monotonic() < give_up:
            _reap(pid)
            time.sleep(0.05)
        if pid_of(cluster, part) is not None:
            _signal(pid, signal.SIGKILL)
            _reap(pid)
    _record(cluster, part).unlink(missing_ok=True)


def wait_until(cluster: Cluster, part: str, ready: Callable[[], bool]) -> None:
    """Wait for a part to be ready.

    Raises:
        ClusterError: it ended, or was not ready in time; the message has the end of its log.
    """
    give_up = time.monotonic() + PATIENCE_S
    while not ready():
        pid = pid_of(cluster, part)
        if pid is None:
            raise ClusterError(f"{part} ended instead of coming up.\n{_advice(cluster, part)}")
        if time.monotonic() > give_up:
            raise ClusterError(
                f"{part} did not come up in {PATIENCE_S:.0f} s.\n{_advice(cluster, part)}"
            )
        time.sleep(0.1)


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether an HTTP endpoint says 200."""
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def run(command: Sequence[str], *, check: bool = True, stdin: str | None = None) -> str:
    """Run a short command and return its output.

    Raises:
        ClusterError: it failed, and the message has the command and what it printed; or there is
            no such program.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, check=False)
    except FileNotFoundError as error:
        is_ours = "/" in command[0]
        remedy = "make setup and hack/cluster build" if is_ours else "your package manager"
        raise ClusterError(f"{command[0]} is missing: install it with {remedy}") from error
    if check and done.returncode != 0:
        raise ClusterError(f"{' '.join(command)} failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


def _advice(cluster: Cluster, part: str) -> str:
    """The end of the part's log, and what to do when it does not help."""
    path = cluster.log(part)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    afresh = f"To start afresh, without the cluster's data: hack/cluster down --name {cluster.name}"
    return "\n".join([f"The end of {path}:", *(f"  {line}" for line in lines), afresh])


def _record(cluster: Cluster, part: str) -> Path:
    return cluster.folder / "run" / f"{part}.json"


def _start_time(pid: int) -> str | None:
    """The kernel's start time of a process that is not a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap(pid: int) -> None:
    """Collect a child of ours; a part started by an earlier command is not our child."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
