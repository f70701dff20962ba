"""Stopping jobs and waiting child by child, played through cycle by cycle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from batch_operator.api.job import BatchJobSpec
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import StopPod
from support.builders import definition, definition_spec, job
from support.world import CrashError, World

PREEMPTED = "Preempted: for job urgent"


def change(world: World, name: str, **fields: Any) -> None:
    """What a user does to a job's spec after its submission."""
    stored = world.jobs[f"uid-{name}"]
    spec = BatchJobSpec.model_validate({**stored.spec.to_wire(), **fields})
    world.submit(replace(stored, spec=spec, generation=stored.generation + 1))


def run(world: World, *, fail: set[tuple[str, int]] | None = None, steps: int = 50) -> None:
    """Every live Pod goes one phase on, and ends, until there is none."""
    for _ in range(steps):
        world.settle()
        if not world.live():
            return
        world.tick()
        for pod in world.live():
            if pod.phase is Phase.UNBOUND:
                world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
            else:
                bad = (world.jobs[pod.job_uid].name, pod.index) in (fail or set())
                world.move(pod, Phase.FAILED if bad else Phase.SUCCEEDED)
    raise AssertionError("there is no end to it")


def array(world: World, name: str = "a") -> dict[str, str]:
    status = world.jobs[f"uid-{name}"].status.array
    assert status is not None
    return status.indexes.to_wire()


def test_cancelling_a_pending_job_fails_it_at_once() -> None:
    world = World()
    world.submit(job("first"))
    world.submit(job("second", dependsOn=[{"job": "first"}]))
    world.settle()
    change(world, "second", cancel={"reason": "not needed"})
    world.settle()

    assert world.state("second") == "FAILED"
    assert world.jobs["uid-second"].status.status_reason == "not needed"
    assert world.jobs["uid-second"].status.attempts == []


def test_cancelling_a_running_job_changes_nothing_but_that_it_is_not_retried() -> None:
    world = World()
    world.submit(job(retryStrategy={"attempts": 3}))
    world.settle()
    world.move(world.live()[0], Phase.RUNNING, node_name="node", bound_at=world.now)
    change(world, "job", cancel={"reason": "not needed"})
    world.settle()

    assert world.state("job") == "RUNNING"

    world.move(world.live()[0], Phase.FAILED)
    world.settle()

    assert world.state("job") == "FAILED"
    assert world.starts == [("job", 0, 1)]


def test_terminating_an_array_stops_every_child() -> None:
    world = World(max_vcpus=2)
    world.submit(job("a", arrayProperties={"size": 4}, retryStrategy={"attempts": 3}))
    world.settle()
    for pod in world.live():
        world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
    world.settle()
    change(world, "a", terminate={"reason": "wrong input"})
    world.settle()
    status = world.jobs["uid-a"].status

    assert status.state == "FAILED"
    assert status.status_reason == "wrong input"
    assert array(world) == {"failed": "0-3"}
    assert len(world.starts) == 2


def test_a_request_on_a_job_that_is_over_changes_nothing_but_the_generation() -> None:
    world = World()
    world.submit(job())
    run(world)
    before = world.jobs["uid-job"].status
    change(world, "job", terminate={"reason": "late"})
    world.settle()
    after = world.jobs["uid-job"].status

    assert after == before.model_copy(update={"observed_generation": 2})


def test_a_suspended_job_starts_nothing_until_it_is_released() -> None:
    world = World()
    world.submit(job("a", suspend=True))
    world.settle()
    pending = world.jobs["uid-a"].status.pending

    assert world.starts == []
    assert pending is not None
    assert pending.reason == "Suspended"

    change(world, "a", suspend=False)
    run(world)

    assert world.state("a") == "SUCCEEDED"


def test_what_waits_for_a_node_is_taken_back_when_its_job_is_suspended() -> None:
    """Child 0 has a node and goes on; child 1 would start as soon as it had one."""
    world = World()
    world.submit(job("a", arrayProperties={"size": 2}))
    world.settle()
    first, second = world.live()
    world.move(first, Phase.RUNNING, node_name="node", bound_at=world.now)
    change(world, "a", suspend=True)
    world.settle()

    assert world.live() == [world.pods[first.pod_name]]
    assert array(world) == {"runnable": "1", "running": "0"}
    assert world.pods[second.pod_name].deleting

    change(world, "a", suspend=False)
    run(world)

    assert world.state("a") == "SUCCEEDED"
    assert world.starts == [("a", 0, 1), ("a", 1, 1), ("a", 1, 2)]


def test_a_job_that_is_suspended_while_it_waits_for_a_node_says_so_and_loses_no_try() -> None:
    world = World()
    world.submit(job("a"))
    world.settle()
    change(world, "a", suspend=True)
    world.cycle()
    world.cycle()
    at_once = world.jobs["uid-a"].status.pending
    world.settle()
    later = world.jobs["uid-a"].status

    assert at_once is not None
    assert at_once.reason == "Suspended"
    assert (later.state, later.pending) == ("RUNNABLE", at_once)
    assert [one.status_reason for one in later.attempts] == [
        "Suspended: spec.suspend was set before a node had it"
    ]

    change(world, "a", suspend=False)
    run(world)

    assert world.state("a") == "SUCCEEDED"


def test_a_job_can_be_suspended_ten_times_while_it_waits_for_a_node() -> None:
    """Then its Pod stays, and starts: the next time would cost it a try."""
    world = World()
    world.submit(job("a"))
    for _ in range(11):
        change(world, "a", suspend=False)
        world.settle()
        change(world, "a", suspend=True)
        world.settle()
    pending = world.jobs["uid-a"].status.pending

    assert [one.number for one in world.live()] == [11]
    assert pending is not None
    assert pending.reason == "WaitingForNode"


def test_whatever_the_operator_forgets_a_suspension_is_counted_once() -> None:
    calm = 0
    for k in range(30):
        world = World()
        world.submit(job("a", arrayProperties={"size": 2}))
        world.settle()
        change(world, "a", suspend=True)
        world.crash_before = world.writes + k
        try:
            world.settle()
        except CrashError:
            world.crash_before = None
            world.restart()
            world.settle()
        else:
            world.crash_before, calm = None, calm + 1
        change(world, "a", suspend=False)
        run(world)

        assert world.state("a") == "SUCCEEDED", k
        assert len(world.starts) == 4, k
    assert 0 < calm < 30


def test_an_attempt_that_runs_too_long_is_stopped_and_not_retried() -> None:
    world = World()
    world.submit(job(timeout={"attemptDurationSeconds": 60}, retryStrategy={"attempts": 3}))
    world.settle()
    world.move(world.live()[0], Phase.RUNNING, node_name="node", bound_at=world.now)
    world.settle()
    world.tick(61)
    world.settle()
    status = world.jobs["uid-job"].status

    assert status.state == "FAILED"
    assert status.status_reason == "Job attempt duration exceeded timeout"
    assert world.starts == [("job", 0, 1)]


def test_the_first_failure_stops_the_rest_where_that_is_asked_for() -> None:
    world = World(max_vcpus=3)
    world.submit(job("a", arrayProperties={"size": 9, "maxFailedIndexes": 0}))
    world.settle()
    pods = world.live()
    for pod in pods:
        world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
    world.move(world.pods[pods[1].pod_name], Phase.FAILED)
    world.settle()
    world.settle()

    assert world.state("a") == "FAILED"
    assert array(world) == {"failed": "0-8"}
    assert len(world.starts) == 3


def test_n_to_n_lets_a_child_start_the_moment_its_own_parent_has_succeeded() -> None:
    world = World(max_vcpus=100)
    world.submit(job("a", arrayProperties={"size": 3}))
    world.submit(job("b", arrayProperties={"size": 3}, dependsOn=[{"job": "a", "type": "N_TO_N"}]))
    world.settle()
    pods = {pod.index: pod for pod in world.live()}

    assert array(world, "b") == {"pending": "0-2"}

    world.move(pods[1], Phase.SUCCEEDED)
    world.settle()

    assert [one for one in world.starts if one[0] == "b"] == [("b", 1, 1)]
    assert array(world, "b") == {"pending": "0,2", "runnable": "1"}

    world.move(pods[2], Phase.FAILED)
    world.settle()

    assert array(world, "b") == {"pending": "0", "runnable": "1", "failed": "2"}

    run(world)

    assert world.state("b") == "FAILED"
    assert array(world, "b") == {"succeeded": "0-1", "failed": "2"}


def test_sequential_runs_children_one_after_the_other_and_a_failure_ends_the_rest() -> None:
    world = World(max_vcpus=100)
    world.submit(job("a", arrayProperties={"size": 5}, dependsOn=[{"type": "SEQUENTIAL"}]))
    run(world, fail={("a", 2)})

    assert world.starts == [("a", 0, 1), ("a", 1, 1), ("a", 2, 1)]
    assert world.peak_milli == 1000
    assert array(world) == {"succeeded": "0-1", "failed": "2-4"}


def test_after_any_runs_whatever_the_outcome_and_after_failed_only_after_a_failure() -> None:
    world = World(max_vcpus=100)
    world.submit(job("good"))
    world.submit(job("bad"))
    world.submit(job("cleanup", dependsOn=[{"job": "bad", "type": "AFTER_ANY"}]))
    world.submit(job("repair", dependsOn=[{"job": "bad", "type": "AFTER_FAILED"}]))
    world.submit(job("idle", dependsOn=[{"job": "good", "type": "AFTER_FAILED"}]))
    run(world, fail={("bad", 0)})

    assert world.state("cleanup") == world.state("repair") == "SUCCEEDED"
    assert world.state("idle") == "FAILED"
    assert world.jobs["uid-idle"].status.status_reason == "Dependency never satisfied"


def test_a_dependency_on_one_child_waits_for_that_child_only() -> None:
    world = World(max_vcpus=100)
    world.submit(job("a", arrayProperties={"size": 3}))
    world.submit(job("b", dependsOn=[{"job": "a", "index": 1}]))
    world.settle()
    world.move({pod.index: pod for pod in world.live()}[1], Phase.SUCCEEDED)
    world.settle()

    assert ("b", 0, 1) in world.starts


def test_a_circle_of_dependencies_is_spelled_out_in_each_of_its_jobs() -> None:
    world = World()
    for name, after in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
        world.submit(job(name, dependsOn=[{"job": after}]))
    world.settle()
    said = {name: world.jobs[f"uid-{name}"].status for name in "abcd"}

    assert {one.conditions[0].reason for one in said.values()} == {"CircularDependency"}
    assert "a → b → c → a" in said["a"].conditions[0].message
    assert said["d"].pending is not None
    assert "a → b → c → a" in said["d"].pending.message


def test_a_dependency_that_is_deleted_when_its_time_to_live_is_over_strands_nobody() -> None:
    world = World(max_vcpus=100)
    world.submit(job("short", ttlSecondsAfterFinished=0))
    world.submit(job("long"))
    world.submit(job("last", dependsOn=[{"job": "short"}, {"job": "long"}]))
    world.settle()
    short, long = world.live()
    world.move(short, Phase.SUCCEEDED)
    world.settle()
    world.tick(300)
    world.settle()

    assert "uid-short" in world.jobs

    world.move(long, Phase.SUCCEEDED)
    run(world)
    world.tick(300)
    world.settle()

    assert world.state("last") == "SUCCEEDED"
    assert "uid-short" not in world.jobs


def test_memory_grows_after_each_loss_and_other_failures_do_not_grow_it() -> None:
    grow = {"attempts": 4, "onOutOfMemory": {"factor": 2, "maxMemory": "1Gi"}}
    world = World()
    world.definitions = [definition("work", definition_spec(retryStrategy=grow))]
    world.restart()
    world.submit(job())
    factors = []
    for reason in ("OutOfMemoryError: Container killed due to memory usage", None):
        factors += _factors(world)
        world.move(world.live()[0], Phase.FAILED, exit_code=137, reason=reason)
    factors += _factors(world)

    assert factors == [1.0, 2.0, 2.0]


def _factors(world: World) -> list[float]:
    before = len(world.started)
    world.settle()
    return [start.memory_factor for start in world.started[before:]]


def test_after_enough_lost_nodes_attempts_keep_to_on_demand_capacity() -> None:
    rule = {"attempts": 4, "onHostLost": {"moveToOnDemandAfter": 1}}
    world = World()
    world.submit(job("a", arrayProperties={"size": 2}, retryStrategy=rule))
    world.settle()
    lost = world.live()[0]
    world.move(lost, Phase.FAILED, status_reason="Host EC2 (instance node) terminated.")
    world.settle()
    array_status = world.jobs["uid-a"].status.array

    assert "batch-operator.io/capacity-type" not in world.started[0].node_selector
    assert world.started[-1].node_selector["batch-operator.io/capacity-type"] == "on-demand"
    assert array_status is not None
    assert [(row.times, row.indexes) for row in array_status.hosts_lost] == [(1, "0")]


def begin(world: World) -> None:
    """Every Pod that waits gets a node, and runs there."""
    for pod in world.live():
        if pod.phase is Phase.UNBOUND:
            world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)


def preempt(world: World) -> None:
    """What the scheduler decides for whatever lives."""
    for pod in world.live():
        world.carry_out(StopPod(pod, PREEMPTED))


def test_a_preempted_job_runs_again_with_as_many_tries_as_before() -> None:
    world = World()
    world.submit(job())
    world.settle()
    begin(world)
    world.settle()
    preempt(world)
    world.settle()

    assert world.starts == [("job", 0, 1), ("job", 0, 2)]
    assert world.state("job") == "RUNNABLE"

    begin(world)
    world.move(world.live()[0], Phase.FAILED)
    world.settle()
    rows = world.jobs["uid-job"].status.attempts

    assert world.state("job") == "FAILED"
    assert [row.status_reason for row in rows] == [
        "Preempted: for job urgent",
        "Essential container in task exited",
    ]


def test_a_preempted_job_goes_to_the_front_of_its_queue() -> None:
    world = World(max_vcpus=1)
    for number, name in enumerate(("first", "second", "third")):
        world.submit(job(name, at_s=number))
    world.settle()
    begin(world)
    world.move(world.live()[0], Phase.SUCCEEDED)
    world.settle()
    preempt(world)
    run(world)

    assert world.starts == [("first", 0, 1), ("second", 0, 1), ("second", 0, 2), ("third", 0, 1)]


def test_a_pod_that_no_node_had_is_made_again_after_a_preemption() -> None:
    world = World()
    world.submit(job("a", arrayProperties={"size": 2}))
    world.settle()
    preempt(world)
    world.settle()
    status = world.jobs["uid-a"].status.array

    assert world.starts[2:] == [("a", 0, 2), ("a", 1, 2)]
    assert status is not None
    assert [(row.times, row.indexes) for row in status.preempted] == [(1, "0-1")]


def test_whatever_the_operator_forgets_a_preemption_is_counted_once() -> None:
    world = World()
    world.submit(job("a", arrayProperties={"size": 3}))
    world.settle()
    begin(world)
    world.settle()
    preempt(world)
    world.restart()
    world.settle()
    world.restart()
    run(world)

    assert world.state("a") == "SUCCEEDED"
    assert sorted(world.starts) == [("a", index, number) for index in range(3) for number in (1, 2)]


def test_a_marked_pod_is_stopped_by_an_operator_that_did_not_mark_it() -> None:
    world = World()
    world.submit(job())
    world.settle()
    begin(world)
    pod = world.live()[0]
    world.move(pod, Phase.RUNNING, requeued=PREEMPTED)
    world.restart()
    world.settle()

    assert world.pods[pod.pod_name].phase is Phase.FAILED
    assert world.starts == [("job", 0, 1), ("job", 0, 2)]


def test_ten_preemptions_are_no_tries_and_the_eleventh_is_one() -> None:
    world = World()
    world.submit(job())
    for _ in range(11):
        world.settle()
        begin(world)
        preempt(world)
    world.settle()
    status = world.jobs["uid-job"].status

    assert (status.state, status.status_reason) == ("FAILED", "Preempted: for job urgent")
    assert len(status.attempts) == 11


def test_a_job_with_all_its_tries_and_all_its_preemptions_has_a_row_for_each() -> None:
    world = World()
    world.submit(job(retryStrategy={"attempts": 10}))
    for number in range(20):
        world.settle()
        begin(world)
        if number % 2:
            world.move(world.live()[0], Phase.FAILED)
        else:
            preempt(world)
    world.settle()

    assert world.state("job") == "FAILED"
    assert len(world.jobs["uid-job"].status.attempts) == 20


def test_a_terminated_job_is_not_started_again_whatever_its_attempt_was_marked_with() -> None:
    world = World(max_vcpus=2)
    world.submit(job("a", arrayProperties={"size": 3}))
    world.settle()
    begin(world)
    world.settle()
    preempt(world)
    change(world, "a", terminate={"reason": "wrong input"})
    world.settle()
    status = world.jobs["uid-a"].status

    assert (status.state, status.status_reason) == ("FAILED", "wrong input")
    assert array(world, "a") == {"failed": "0-2"}
    assert len(world.starts) == 2


def test_an_empty_memo_decides_the_same_after_a_preemption() -> None:
    world = World()
    world.submit(job("a", arrayProperties={"size": 2}))
    world.settle()
    begin(world)
    preempt(world)
    snapshot = world.cache.snapshot(world.now, Policy(), 1000)
    known = run_cycle(snapshot, world.memo).mutations
    world.restart()
    fresh = run_cycle(world.cache.snapshot(world.now, Policy(), 1000), Memo()).mutations

    assert [one for one in known if one in fresh] == list(known)
