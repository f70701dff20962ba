from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from localcluster import processes
from localcluster.layout import Cluster, ClusterError

if TYPE_CHECKING:
    from pathlib import Path

# Parts outlive the command that starts them: that is what they are for.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

SLEEP = ["sleep", "600"]


def _wait_for_end(pid: int) -> None:
    give_up = time.monotonic() + 10
    while processes._start_time(pid) is not None:
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_part_is_found_again_and_stopped(cluster: Cluster) -> None:
    processes.start(cluster, "sleep", SLEEP)
    pid = processes.pid_of(cluster, "sleep")
    processes.start(cluster, "sleep", SLEEP)

    assert pid is not None
    assert processes.pid_of(cluster, "sleep") == pid

    processes.stop(cluster, "sleep")

    assert processes._start_time(pid) is None
    assert processes.parts(cluster) == []


def test_a_part_that_was_killed_is_started_anew(cluster: Cluster) -> None:
    processes.start(cluster, "sleep", SLEEP)
    first = processes.pid_of(cluster, "sleep")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    _wait_for_end(first)

    assert processes.pid_of(cluster, "sleep") is None

    processes.start(cluster, "sleep", SLEEP)

    assert processes.pid_of(cluster, "sleep") not in {None, first}
    processes.stop(cluster, "sleep")


def test_a_pid_that_now_is_somebody_elses_is_left_alone(cluster: Cluster) -> None:
    processes.start(cluster, "sleep", SLEEP)
    record = cluster.folder / "run" / "sleep.json"
    kept = record.read_text(encoding="utf-8")
    pid = json.loads(kept)["pid"]
    record.write_text(json.dumps({**json.loads(kept), "started": "1"}), encoding="utf-8")

    processes.stop(cluster, "sleep")

    assert processes._start_time(pid) is not None
    os.kill(pid, signal.SIGKILL)


def test_a_part_whose_record_is_not_written_does_not_go_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between the start and the record: nobody would ever find the process again."""
    pids = []

    def interrupt(_: Path, text: str) -> None:
        pids.append(json.loads(text)["pid"])
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "write_whole", interrupt)

    with pytest.raises(KeyboardInterrupt):
        processes.start(cluster, "sleep", SLEEP)
    _wait_for_end(pids[0])


@pytest.mark.parametrize(
    ("program", "remedy"),
    [
        ("no-such-program", "no-such-program is missing: install it with your package manager"),
        ("/nowhere/uv", "/nowhere/uv is missing: install it with make setup"),
    ],
)
def test_a_missing_program_is_named(program: str, remedy: str) -> None:
    with pytest.raises(ClusterError, match=remedy):
        processes.run([program, "--version"])


def test_a_part_that_ends_shows_its_log_and_the_way_out(cluster: Cluster) -> None:
    processes.start(cluster, "sh", ["sh", "-c", "echo the database is damaged"])

    with pytest.raises(ClusterError) as caught:
        processes.wait_until(cluster, "sh", lambda: False)

    assert "the database is damaged" in str(caught.value)
    assert f"hack/cluster down --name {cluster.name}" in str(caught.value)
