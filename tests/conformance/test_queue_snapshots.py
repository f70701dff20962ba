"""Job queue snapshots: what the status of a queue shows of who is next and who uses what."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from batch_operator.simulator.virtual_time import PLAIN
from conformance.rules import rule
from support.play import batch_job, play, written

if TYPE_CHECKING:
    from support.play import Played

SLOW = [{"runtime": "1h"}]
POLICY = written("SchedulingPolicy", "fair", {"fairsharePolicy": {}})


def full(jobs: dict[str, Any], **world: Any) -> Played:
    """`first` has the only vCPU for an hour; the others are behind it, as they are after 10 min."""
    given = {"max_vcpus": 1, "behaviors": SLOW, "until": "10m", **world}
    return play({"first": given.pop("first", {}), **jobs}, **given)


def shared(jobs: dict[str, Any], **world: Any) -> Played:
    queue = {"schedulingPolicy": "fair"}
    first = {"shareIdentifier": "red"}
    return full(jobs, others=[POLICY], queue=queue, **{"first": first, **world})


def front(played: Played) -> list[str]:
    return [row["job"] for row in played.queue()["front"]]


@rule("snapshot.front")
def test_the_first_hundred_that_wait_are_shown() -> None:
    """Job queue snapshots: frontOfQueue."""
    rows = full({f"j{number:03}": {} for number in range(120)}).queue()["front"]

    assert [row["job"] for row in rows] == [f"j{number:03}" for number in range(100)]
    assert [row["position"] for row in rows] == list(range(1, 101))
    assert {row["namespace"] for row in rows} == {"default"}
    assert [row["reason"] for row in rows[:2]] == ["InsufficientCapacity", "BehindOthers"]


@rule("snapshot.runnable-only")
def test_neither_what_runs_nor_what_waits_for_something_else_is_shown() -> None:
    """Job queue snapshots: frontOfQueue, RUNNABLE jobs."""
    others = {"dependent": {"dependsOn": [{"job": "first"}]}, "suspended": {"suspend": True}}

    assert front(full({**others, "waits": {}})) == ["waits"]


@rule("snapshot.array")
def test_an_array_is_one_row() -> None:
    """Job queue snapshots: frontOfQueue, children of arrays."""
    assert front(full({"array": {"arrayProperties": {"size": 9}}, "a": {}})) == ["array", "a"]


@rule("snapshot.order-fifo")
def test_who_came_first_is_shown_first() -> None:
    """Job queue snapshots: the order of a queue without a policy."""
    late = {"at": "5m", "apply": batch_job("a-late")}

    assert front(full({"z": {}, "b": {}}, events=[late])) == ["z", "b", "a-late"]


@rule("snapshot.order-fair")
def test_shares_take_turns_and_the_urgent_are_first_in_their_share() -> None:
    """Job queue snapshots: the order of a queue with fair share."""
    waiting = [
        batch_job("red-1", shareIdentifier="red"),
        batch_job("blue-1", shareIdentifier="blue"),
        batch_job("blue-2", shareIdentifier="blue"),
        batch_job("blue-urgent", shareIdentifier="blue", schedulingPriority=9),
    ]
    played = shared({}, events=[{"at": "60s", "apply": one} for one in waiting])

    assert front(played) == ["blue-urgent", "blue-1", "red-1", "blue-2"]


@rule("snapshot.earliest-time")
def test_a_place_has_the_time_since_when_a_job_is_in_it() -> None:
    """Job queue snapshots: earliestTimeAtPosition."""
    gone = {"at": "5m", "delete": {"kind": "BatchJob", "name": "a"}}
    stays, moves = (
        {row["job"]: (row["position"], row["since"]) for row in found.queue()["front"]}
        for found in (full({"a": {}, "b": {}}), full({"a": {}, "b": {}}, events=[gone]))
    )

    assert stays["b"][0] == 2
    assert moves["b"][0] == 1
    assert is_soon_after(stays["b"][1], 0)
    assert is_soon_after(moves["b"][1], 300)


def is_soon_after(told: str, seconds: float) -> bool:
    """A snapshot is made anew at most every 10 s."""
    at, begin = datetime.fromisoformat(told), datetime.fromisoformat(PLAIN.timestamp(seconds))
    return begin <= at <= begin + timedelta(seconds=15)


@rule("snapshot.updated")
def test_it_is_as_old_as_its_last_news() -> None:
    """Job queue snapshots: lastUpdatedAt."""
    late = {"at": "5m", "apply": batch_job("b")}
    quiet, busy = full({"a": {}}), full({"a": {}}, events=[late])

    assert is_soon_after(quiet.queue()["frontUpdatedAt"], 0)
    assert is_soon_after(busy.queue()["frontUpdatedAt"], 300)


@rule("snapshot.total")
def test_what_is_used_is_shown_by_compute_environment() -> None:
    """Job queue snapshots: totalCapacityUsage."""
    played = play(
        {f"j{number}": {} for number in range(5)}, max_vcpus=3, behaviors=SLOW, until="5m"
    )
    environment = played.outcome.statuses["ComputeEnvironment", "", "local"]

    assert (environment["vcpus"]["used"], environment["vcpus"]["max"]) == ("3", 3)
    assert played.queue()["jobs"] == {"RUNNABLE": 2, "RUNNING": 3}


@rule("snapshot.share-count")
def test_every_active_share_has_a_row() -> None:
    """Job queue snapshots: activeShareCount."""
    jobs = {f"j{number}": {"shareIdentifier": f"s{number:02}"} for number in range(30)}
    rows = shared(jobs).queue()["shares"]

    assert [row["shareIdentifier"] for row in rows] == ["red", *(f"s{n:02}" for n in range(30))]


@rule("snapshot.share-usage")
def test_a_row_has_what_its_share_holds_and_what_counts_against_it() -> None:
    """Job queue snapshots: topCapacityUtilization."""
    played = shared({"blue": {"shareIdentifier": "blue"}}, max_vcpus=2, behaviors=[
        {"job": "blue", "runtime": "2m"}, *SLOW
    ])  # fmt: skip
    rows = {row["shareIdentifier"]: row for row in played.queue()["shares"]}

    assert {share: row["vcpus"] for share, row in rows.items()} == {"red": "1", "blue": "0"}
    assert 100 < rows["blue"]["usage"]["vcpuSeconds"] <= 130
