"""Time limits of a queue, played through cycle by cycle: who is ended, moved, or only told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.holds import CAPACITY
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import StopPod
from support.builders import environment, job, queue
from support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_operator.api.job import BatchJobStatus

CANCELED = "Canceled by JobStateTimeLimit action due to reason: "
TERMINATED = "Terminated by JobStateTimeLimit action due to reason: "
MOVED = "Moved to the next compute environment: "


def limit(state: str, action: str, *, reason: str = "*", after_s: int = 600) -> dict[str, Any]:
    return {"state": state, "action": action, "reason": reason, "maxTimeSeconds": after_s}


def world_of(*rules: dict[str, Any], max_vcpus: int = 4, environments: str = "a") -> World:
    """A world whose queue has these limits; environments are named by one letter each."""
    world = World()
    order = [
        {"order": number, "computeEnvironment": name} for number, name in enumerate(environments)
    ]
    world.queues = [queue(computeEnvironmentOrder=order, jobStateTimeLimitActions=list(rules))]
    world.environments = [environment(name, maxvCpus=max_vcpus) for name in environments]
    world.restart()
    return world


def status(world: World, name: str = "job") -> BatchJobStatus:
    return world.jobs[f"uid-{name}"].status


def end(world: World, name: str = "job") -> tuple[str, str | None]:
    found = status(world, name)
    return found.state, found.status_reason


def begin(world: World, phase: Phase = Phase.RUNNING) -> None:
    """Every Pod that waits gets a node."""
    for pod in world.live():
        if pod.phase is Phase.UNBOUND:
            world.move(pod, phase, node_name="node", bound_at=world.now)


def wait(world: World, seconds: float) -> None:
    world.tick(seconds)
    world.settle()


def blocked(*rules: dict[str, Any], **spec: Any) -> World:
    """A job that runs, and behind it one that has no room, at the head of the queue."""
    world = world_of(*rules, max_vcpus=1)
    world.submit(job("first"))
    world.submit(job("job", at_s=1, **spec))
    world.settle()
    begin(world)
    world.settle()
    return world


# Who waits without a Pod


def test_a_job_at_the_head_of_its_queue_is_cancelled_when_it_finds_no_room_for_too_long() -> None:
    world = blocked(limit("RUNNABLE", "CANCEL", reason=CAPACITY))
    wait(world, 599)

    assert end(world) == (
        "RUNNABLE",
        f"{CAPACITY} - Service cannot fulfill the capacity requested for instance type [a]",
    )

    wait(world, 1)

    assert end(world) == ("FAILED", f"{CANCELED}{CAPACITY}")
    assert status(world).conditions[0].reason == "TimeLimitExceeded"
    assert world.state("first") == "RUNNING"


def test_the_operator_asks_to_be_woken_when_a_time_is_up() -> None:
    world = blocked(limit("RUNNABLE", "CANCEL", reason=CAPACITY))
    wait(world, 30)  # for a forecast it asks, too, while something has changed
    snapshot = world.cache.snapshot(world.now, Policy(), 1000)
    pending = status(world).pending

    assert pending is not None
    assert run_cycle(snapshot, world.memo).wake_at == pending.next_look_at
    assert run_cycle(snapshot, Memo()).wake_at == pending.next_look_at


def test_a_job_behind_the_head_has_another_reason_and_its_own_clock() -> None:
    world = blocked(limit("RUNNABLE", "CANCEL", reason=CAPACITY))
    world.submit(job("behind", at_s=2))
    world.settle()
    wait(world, 600)

    assert end(world)[0] == "FAILED"
    assert end(world, "behind")[0] == "RUNNABLE"

    wait(world, 599)
    assert end(world, "behind")[0] == "RUNNABLE"
    wait(world, 1)
    assert end(world, "behind")[0] == "FAILED"


def test_any_reason_but_none_of_another_state() -> None:
    world = blocked(limit("PENDING", "CANCEL"), limit("RUNNABLE", "CANCEL", after_s=900))
    world.submit(job("behind", at_s=2))
    world.settle()
    wait(world, 899)

    assert (end(world)[0], end(world, "behind")[0]) == ("RUNNABLE", "RUNNABLE")

    wait(world, 1)

    assert end(world, "behind") == ("FAILED", f"{CANCELED}BehindOthers")


def test_a_job_that_waits_for_its_dependencies_for_too_long_is_cancelled() -> None:
    world = world_of(limit("PENDING", "CANCEL", reason="WaitingForDependencies"))
    world.submit(job("first"))
    world.submit(job("job", dependsOn=[{"job": "first"}]))
    world.settle()
    wait(world, 600)

    assert end(world) == ("FAILED", f"{CANCELED}WaitingForDependencies")


def test_a_rerun_that_waits_for_the_failures_for_too_long_is_cancelled() -> None:
    world = world_of(limit("PENDING", "CANCEL"))
    world.submit(job("first", arrayProperties={"size": 2}))
    world.submit(job("job", arrayProperties={"rerunFailedOf": "first"}))
    world.settle()
    wait(world, 599)
    assert end(world)[0] == "PENDING"
    wait(world, 1)

    assert end(world) == ("FAILED", f"{CANCELED}WaitingForDependencies")


def test_a_job_whose_dependencies_are_over_at_the_last_moment_starts() -> None:
    world = world_of(limit("PENDING", "CANCEL"))
    world.submit(job("first"))
    world.submit(job("job", dependsOn=[{"job": "first"}]))
    world.settle()
    world.tick(599)
    world.move(world.live()[0], Phase.SUCCEEDED)
    world.cycle()
    assert (world.state("first"), world.state("job")) == ("SUCCEEDED", "PENDING")
    wait(world, 1)

    assert ("job", 0, 1) in world.starts


def test_a_job_whose_definition_never_comes_can_be_cancelled_too() -> None:
    world = world_of(limit("SUBMITTED", "CANCEL", reason="JobDefinitionNotFound"))
    world.submit(job(jobDefinition="absent"))
    world.settle()
    wait(world, 600)

    assert end(world) == ("FAILED", f"{CANCELED}JobDefinitionNotFound")


def test_children_that_wait_are_cancelled_and_those_that_run_go_on_but_once() -> None:
    world = world_of(limit("RUNNABLE", "CANCEL", reason=CAPACITY), max_vcpus=2)
    world.submit(job(arrayProperties={"size": 6}, retryStrategy={"attempts": 3}))
    world.settle()
    begin(world)
    world.settle()
    wait(world, 600)
    array = status(world).array

    assert array is not None
    assert array.indexes.to_wire() == {"running": "0-1", "failed": "2-5"}
    assert status(world).state == "PENDING"

    world.restart()
    good, bad = world.live()
    world.move(good, Phase.SUCCEEDED)
    world.move(bad, Phase.FAILED)
    world.settle()

    assert end(world) == ("FAILED", f"{CANCELED}{CAPACITY}")
    assert len(world.starts) == 2


def test_terminate_also_stops_the_children_that_run() -> None:
    world = world_of(limit("RUNNABLE", "TERMINATE", reason=CAPACITY), max_vcpus=2)
    world.submit(job(arrayProperties={"size": 6}, retryStrategy={"attempts": 3}))
    world.settle()
    begin(world)
    world.settle()
    wait(world, 600)

    assert end(world) == ("FAILED", f"{TERMINATED}{CAPACITY}")
    assert world.live() == []
    assert len(world.starts) == 2


def test_every_child_that_starts_gives_the_next_its_own_time() -> None:
    """AWS: the clock is that of the job at the head of the queue."""
    world = world_of(limit("RUNNABLE", "CANCEL"), max_vcpus=1)
    world.submit(job(arrayProperties={"size": 4}))
    world.settle()
    for _ in range(3):
        begin(world)
        wait(world, 599)
        world.move(world.live()[0], Phase.SUCCEEDED)
        world.settle()

    assert [index for _, index, _ in world.starts] == [0, 1, 2, 3]


def test_an_array_of_a_queue_without_limits_keeps_no_account_of_its_waiting() -> None:
    for rules, expected in (((), 0), ((limit("RUNNABLE", "NOTIFY"),), 1)):
        world = world_of(*rules, max_vcpus=1)
        world.submit(job(arrayProperties={"size": 3}))
        world.settle()
        begin(world)
        world.settle()
        array = status(world).array

        assert array is not None
        assert len(array.waiting) == expected


def test_a_new_limit_holds_for_those_who_wait_already() -> None:
    world = blocked()
    wait(world, 1000)
    world.queues = [
        queue(
            computeEnvironmentOrder=[{"order": 0, "computeEnvironment": "a"}],
            jobStateTimeLimitActions=[limit("RUNNABLE", "CANCEL")],
        )
    ]
    world.restart()
    world.settle()

    assert end(world)[0] == "FAILED"


# Attempts


def test_a_pod_that_no_node_takes_for_too_long_is_cancelled() -> None:
    world = world_of(limit("RUNNABLE", "CANCEL", reason="WaitingForNode"))
    world.submit(job(retryStrategy={"attempts": 3}))
    world.settle()
    wait(world, 599)
    assert world.state("job") == "RUNNABLE"
    wait(world, 1)

    assert end(world) == ("FAILED", f"{CANCELED}WaitingForNode")
    assert len(world.starts) == 1


@pytest.mark.parametrize(
    ("state", "phase", "code"),
    [
        ("STARTING", Phase.STARTING, "ContainersStarting"),
        ("RUNNING", Phase.RUNNING, "Running"),
    ],
)
def test_an_attempt_that_is_in_a_state_for_too_long_is_terminated_and_not_retried(
    state: str, phase: Phase, code: str
) -> None:
    world = world_of(limit(state, "TERMINATE"))
    world.submit(job("a", arrayProperties={"size": 2}, retryStrategy={"attempts": 3}))
    world.settle()
    first, second = world.live()
    world.move(first, phase, node_name="node", bound_at=world.now)
    world.settle()
    wait(world, 300)
    world.move(second, phase, node_name="node", bound_at=world.now)
    world.settle()
    wait(world, 300)
    array = status(world, "a").array

    assert array is not None
    assert array.indexes.failed == "0"
    assert [row.status_reason for row in array.failures] == [f"{TERMINATED}{code}"]
    assert [one.index for one in world.live()] == [1]
    assert len(world.starts) == 2


@pytest.mark.parametrize(
    ("timeout_s", "reason"),
    [(60, "Job attempt duration exceeded timeout"), (900, f"{TERMINATED}Running")],
)
def test_of_timeout_and_time_limit_the_shorter_one_ends_a_job(timeout_s: int, reason: str) -> None:
    world = world_of(limit("RUNNING", "TERMINATE"))
    world.submit(job(timeout={"attemptDurationSeconds": timeout_s}))
    world.settle()
    begin(world)
    world.settle()
    wait(world, 600)

    assert end(world) == ("FAILED", reason)


# Moves


def environments(world: World) -> list[str]:
    return [start.environment for start in world.started]


@pytest.mark.parametrize("phase", [Phase.UNBOUND, Phase.STARTING])
def test_an_attempt_that_does_not_come_to_run_is_tried_in_one_environment_after_the_other(
    phase: Phase,
) -> None:
    state = "RUNNABLE" if phase is Phase.UNBOUND else "STARTING"
    world = world_of(limit(state, "NEXT_COMPUTE_ENVIRONMENT"), environments="abc")
    world.submit(job())
    world.settle()
    for _ in range(4):
        if phase is Phase.STARTING:
            begin(world, phase)
            world.settle()
        wait(world, 600)

    assert environments(world) == ["a", "b", "c", "a", "b"]

    begin(world)
    world.move(world.live()[0], Phase.SUCCEEDED)
    world.settle()
    rows = status(world).attempts

    assert world.state("job") == "SUCCEEDED"
    assert [(row.status_reason or "").startswith(MOVED) for row in rows] == [True] * 4 + [False]
    assert rows[0].status_reason == (
        f"{MOVED}in a {state} for longer than 600 s "
        f"({'WaitingForNode' if phase is Phase.UNBOUND else 'ContainersStarting'})"
    )


def test_children_are_moved_one_by_one() -> None:
    world = world_of(limit("RUNNABLE", "NEXT_COMPUTE_ENVIRONMENT"), environments="ab")
    world.submit(job(arrayProperties={"size": 3}))
    world.settle()
    world.move(world.live()[1], Phase.RUNNING, node_name="node", bound_at=world.now)
    world.settle()
    wait(world, 600)
    array = status(world).array

    assert [(one.index, one.environment) for one in world.started[3:]] == [(0, "b"), (2, "b")]
    assert array is not None
    assert [(row.times, row.indexes) for row in array.moved] == [(1, "0,2")]


def test_where_there_is_no_other_environment_nothing_is_moved() -> None:
    world = world_of(limit("RUNNABLE", "NEXT_COMPUTE_ENVIRONMENT"))
    world.submit(job())
    world.settle()
    wait(world, 10_000)

    assert environments(world) == ["a"]
    assert world.state("job") == "RUNNABLE"


SMALL_NODES = {
    "type": "MANAGED",
    "provisioner": {"type": "kwok"},
    "instanceTypes": [{"name": "tiny", "vcpus": 1, "memory": "4Gi"}],
}
TOO_SMALL: dict[str, dict[str, Any]] = {
    "maxvCpus": {"maxvCpus": 1},
    "instance types": SMALL_NODES,
}


@pytest.mark.parametrize("small", TOO_SMALL)
@pytest.mark.parametrize(("names", "expected"), [("ab", ["a"]), ("abc", ["a", "c", "a"])])
def test_a_job_is_never_moved_to_an_environment_with_too_small(
    small: str, names: str, expected: list[str]
) -> None:
    """Neither to `b`, nor past it twice."""
    world = world_of(limit("RUNNABLE", "NEXT_COMPUTE_ENVIRONMENT"), environments=names)
    world.environments = [
        environment(name, **(TOO_SMALL[small] if name == "b" else {})) for name in names
    ]
    world.restart()
    world.submit(job(containerOverrides=[{"resources": {"requests": {"cpu": "2"}}}]))
    world.settle()
    for _ in range(2):
        wait(world, 600)

    assert environments(world) == expected
    assert world.state("job") == "RUNNABLE"


def test_a_child_is_moved_ten_times_and_waits_then() -> None:
    world = world_of(limit("RUNNABLE", "NEXT_COMPUTE_ENVIRONMENT", after_s=60), environments="ab")
    world.submit(job())
    world.settle()
    for _ in range(20):
        wait(world, 60)

    assert len(world.started) == 11
    assert world.state("job") == "RUNNABLE"


def test_what_is_full_is_passed_over_after_a_move_too() -> None:
    world = world_of(limit("RUNNABLE", "NEXT_COMPUTE_ENVIRONMENT"), environments="ab", max_vcpus=1)
    world.submit(job("first"))
    world.submit(job("other", at_s=1))
    world.settle()
    other = next(pod for pod in world.live() if pod.environment == "b")
    world.move(other, Phase.RUNNING, node_name="node", bound_at=world.now)
    world.settle()
    wait(world, 600)

    assert environments(world) == ["a", "b", "a"]


# Notices


def told(world: World) -> list[tuple[str, str]]:
    found = status(world).conditions
    return [(one.reason, one.message) for one in found if one.type == "TimeLimitExceeded"]


def test_a_notice_is_a_condition_that_is_written_once_and_goes_with_the_state() -> None:
    world = blocked(limit("RUNNABLE", "NOTIFY", reason=CAPACITY))
    wait(world, 599)
    assert told(world) == []
    wait(world, 1)

    assert told(world) == [("InsufficientCapacity", f"RUNNABLE for longer than 600 s ({CAPACITY})")]

    writes = world.writes
    wait(world, 5000)
    assert world.writes == writes

    world.move(next(pod for pod in world.live()), Phase.SUCCEEDED)
    world.settle()
    assert told(world) == []
    assert ("job", 0, 1) in world.starts


def test_a_notice_about_a_job_that_runs() -> None:
    world = world_of(limit("RUNNING", "NOTIFY"))
    world.submit(job())
    world.settle()
    begin(world)
    world.settle()
    wait(world, 600)

    assert told(world) == [("Running", "RUNNING for longer than 600 s (Running)")]

    world.move(world.live()[0], Phase.SUCCEEDED)
    world.settle()
    assert told(world) == []


# What is remembered makes no difference


def one_of_each() -> World:
    world = world_of(
        limit("RUNNABLE", "NEXT_COMPUTE_ENVIRONMENT", reason="WaitingForNode", after_s=300),
        limit("RUNNABLE", "CANCEL", reason=CAPACITY),
        limit("RUNNING", "TERMINATE", after_s=900),
        environments="ab",
        max_vcpus=2,
    )
    world.submit(job("moves"))
    world.submit(job("long", at_s=1))
    world.submit(job("a", at_s=2, arrayProperties={"size": 5}))
    world.settle()
    for pod in world.live():
        if pod.index or world.jobs[pod.job_uid].name == "long":
            world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
    world.settle()
    return world


@pytest.mark.parametrize("after_s", [299, 300, 600, 900])
def test_an_empty_memo_decides_the_same(after_s: int) -> None:
    world = one_of_each()
    world.tick(after_s)
    snapshot = world.cache.snapshot(world.now, Policy(), 1000)
    known = run_cycle(snapshot, world.memo).mutations
    fresh = run_cycle(snapshot, Memo()).mutations

    def stops(mutations: Any) -> list[StopPod]:
        return [one for one in mutations if isinstance(one, StopPod)]

    assert stops(known) == stops(fresh)
    assert bool(stops(known)) == (after_s >= 300)


def outcome(disturb: Callable[[World], None]) -> dict[str, tuple[str, str | None]]:
    world = one_of_each()
    for _ in range(20):
        disturb(world)
        wait(world, 100)
    return {name: end(world, name) for name in ("moves", "long", "a")}


def test_a_restart_at_any_time_changes_no_outcome() -> None:
    assert outcome(World.restart) == outcome(lambda _: None)
