"""Multi-node jobs against a small world: all or nothing, the main node first, its outcome alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from batch_operator.api import meta
from batch_operator.api.job import StopRequest
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.evaluate import Policy, Refusal
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import StartGang, StopPod, WriteStatus
from support.builders import definition, environment, job, multi_node_spec, queue
from support.world import CrashError, World

FINAL = {"SUCCEEDED", "FAILED"}


def world_of(*, max_vcpus: int = 4, **spec: Any) -> World:
    """A world with definition `gang`, of three nodes unless something else is said."""
    world = World(max_vcpus=max_vcpus)
    made = multi_node_spec(**{"numNodes": 3, **spec})
    world.definitions.append(definition("gang", made))
    world.restart()
    return world


def play(world: World, *, fail: set[tuple[int, int | None]] | None = None) -> None:
    """One step of Job controller, scheduler and kubelet; `fail` has attempts and groups."""
    world.tick()
    world.make_nodes()
    for pod in world.live():
        if pod.gated:
            continue
        if pod.phase is Phase.UNBOUND:
            world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now, pod_ip="10.0.0.1")
        elif pod.node_group in {None, 0} or (pod.number, pod.node_group) in (fail or ()):
            is_bad = (pod.number, pod.node_group) in (fail or ())
            world.move(pod, Phase.FAILED if is_bad else Phase.SUCCEEDED)


def run_to_the_end(world: World, *, fail: set[tuple[int, int | None]] | None = None) -> None:
    for _ in range(60):
        world.settle()
        is_over = all(one.status.state in FINAL for one in world.jobs.values())
        if is_over and not world.live() and not world.gang_jobs:
            return
        play(world, fail=fail)
    raise AssertionError("the jobs did not end")


def test_the_main_node_starts_first_and_the_others_once_it_runs() -> None:
    world = world_of(mainNode=1)
    world.submit(job("j", jobDefinition="gang"))
    world.settle()

    assert world.opened == []
    world.make_nodes()
    world.settle()

    assert world.opened == [(1, 0, {meta.ANNOTATION_NODE_INDEX: "1"})]
    (main,) = [one for one in world.live() if not one.gated]
    world.move(main, Phase.STARTING, node_name="n")
    world.settle()

    assert (len(world.opened), world.state("j")) == (1, "STARTING")
    world.move(world.pods[main.pod_name], Phase.RUNNING, pod_ip="10.0.0.7")
    world.settle()

    address = {meta.ANNOTATION_MAIN_NODE_ADDRESS: "10.0.0.7"}
    assert world.opened[1:] == [
        (1, 1, {meta.ANNOTATION_NODE_INDEX: "0", **address}),
        (1, 1, {meta.ANNOTATION_NODE_INDEX: "2", **address}),
    ]
    assert world.state("j") == "RUNNING"


def test_no_gate_is_opened_before_every_pod_is_there() -> None:
    world = world_of()
    world.submit(job("j", jobDefinition="gang"))
    world.settle()
    world.make_nodes()
    late = [one for one in world.pods.values() if one.node_group == 1][-1]
    world.cache.pods.forget(late.pod_uid)
    world.settle()
    pending = world.jobs["uid-j"].status.pending

    assert world.opened == []
    assert pending is not None
    assert "1 of its 3 Pods are still to be made" in pending.message
    assert "kubectl describe job" in pending.message


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    """Five vCPUs are free in two environments, three and two: no room for four nodes."""
    world = world_of(numNodes=4)
    world.environments = [environment("a", maxvCpus=3), environment("b", maxvCpus=4)]
    order = [{"order": 1, "computeEnvironment": "a"}, {"order": 2, "computeEnvironment": "b"}]
    world.queues = [queue(computeEnvironmentOrder=order)]
    world.restart()
    world.submit(job("array", arrayProperties={"size": 5}))
    world.submit(job("j", at_s=1, jobDefinition="gang"))
    world.settle()
    pending = world.jobs["uid-j"].status.pending

    assert not world.gang_jobs
    assert pending is not None
    assert pending.reason == "InsufficientCapacity"
    run_to_the_end(world)

    assert world.state("j") == "SUCCEEDED"
    assert {one.environment for one in world.pods.values() if one.node_group is not None} == {"b"}


def test_a_gang_holds_its_room_until_its_last_pod_has_ended() -> None:
    world = world_of(max_vcpus=3)
    world.submit(job("j", jobDefinition="gang"))
    world.submit(job("behind", at_s=1))
    while world.state("j") not in FINAL:
        world.settle()
        play(world, fail={(1, 1)})
        world.cycle()

        assert [name for name, _, _ in world.starts] == ["j"]
    run_to_the_end(world)

    assert [name for name, _, _ in world.starts] == ["j", "behind"]


def test_the_outcome_is_the_main_nodes_and_the_others_are_stopped() -> None:
    world = world_of()
    world.submit(job("j", jobDefinition="gang"))
    run_to_the_end(world)
    status = world.jobs["uid-j"].status
    workers = [one for one in world.pods.values() if one.node_group == 1]

    assert (status.state, [row.exit_code for row in status.attempts]) == ("SUCCEEDED", [0])
    assert [(one.phase, one.deadline_exceeded) for one in workers] == [(Phase.FAILED, True)] * 2
    assert not any(one.tracked for one in world.pods.values())


def test_a_worker_that_fails_changes_nothing() -> None:
    world = world_of()
    world.submit(job("j", jobDefinition="gang"))
    world.settle()
    world.make_nodes()
    world.settle()
    play(world)
    world.settle()
    worker = next(one for one in world.pods.values() if one.node_group == 1)
    world.move(worker, Phase.FAILED, node_name="n")
    world.settle()
    (row,) = world.jobs["uid-j"].status.nodes

    assert world.state("j") == "RUNNING"
    assert row.status_summary == {"RUNNABLE": 1, "RUNNING": 1, "FAILED": 1}
    run_to_the_end(world)

    assert world.state("j") == "SUCCEEDED"
    assert [name for name, _, _ in world.starts] == ["j"]


def test_a_retry_is_a_new_gang_after_the_last_has_ended() -> None:
    world = world_of(retryStrategy={"attempts": 2})
    world.submit(job("j", jobDefinition="gang"))
    for _ in range(30):
        world.settle()

        assert len({one.number for one in world.live()}) <= 1
        play(world, fail={(1, 0)})
    status = world.jobs["uid-j"].status

    assert status.state == "SUCCEEDED"
    assert world.starts == [("j", 0, 1), ("j", 0, 2)]
    assert [row.exit_code for row in status.attempts] == [1, 0]


def test_a_pod_that_is_lost_before_the_start_is_a_failed_attempt() -> None:
    """A gang can then never be complete; what is left of it goes before the next is asked for."""
    world = world_of(retryStrategy={"attempts": 2})
    world.submit(job("j", jobDefinition="gang"))
    world.settle()
    world.make_nodes()
    worker = next(one for one in world.pods.values() if one.node_group == 1)
    world.move(worker, Phase.FAILED, deleting=True, exit_code=None)
    run_to_the_end(world)
    first, second = world.jobs["uid-j"].status.attempts

    assert first.status_reason == "Task failed to start"
    assert first.reason == f"Pod {worker.pod_name} was lost before the main node started"
    assert second.exit_code == 0


def test_cancel_ends_a_gang_that_waits_and_spares_one_that_runs() -> None:
    for steps, expected in ((0, "FAILED"), (1, "FAILED"), (3, "SUCCEEDED")):
        world = world_of()
        world.submit(job("j", jobDefinition="gang"))
        for _ in range(steps):
            world.settle()
            play(world) if steps > 1 else world.make_nodes()
        world.settle()
        stored = world.jobs["uid-j"]
        spec = stored.spec.model_copy(update={"cancel": StopRequest(reason="no")})
        world.submit(replace(stored, spec=spec, generation=2))
        run_to_the_end(world)

        assert world.state("j") == expected, steps


def test_a_job_that_the_api_server_refuses_for_good_ends() -> None:
    """The main node's Job stands, another is refused: the gang can never be complete."""
    world = world_of(max_vcpus=3, retryStrategy={"attempts": 3})
    world.submit(job("j", jobDefinition="gang"))
    world.crash_before = 1
    try:
        world.settle()
    except CrashError:
        world.crash_before = None
    world.cache.refuse("uid-j", Refusal("bad", world.now + timedelta(seconds=5), final=True))
    world.submit(job("behind", at_s=1))
    run_to_the_end(world)

    assert world.jobs["uid-j"].status.status_reason == (
        "Invalid job: the API server refused its Pod: bad"
    )
    assert world.state("behind") == "SUCCEEDED"
    assert [one for one in world.starts if one[0] == "j"] == [("j", 0, 1)]


def test_a_gang_in_part_whose_environment_is_deleted_is_tried_elsewhere() -> None:
    """Its main node's Job stands; where the others would belong can be asked for no more."""
    for tries, expected in ((1, "FAILED"), (2, "SUCCEEDED")):
        world = world_of(retryStrategy={"attempts": tries})
        world.environments = [environment("a"), environment("b")]
        order = [{"order": 1, "computeEnvironment": "a"}, {"order": 2, "computeEnvironment": "b"}]
        world.queues = [queue(computeEnvironmentOrder=order)]
        world.restart()
        world.submit(job("j", jobDefinition="gang"))
        world.crash_before = 1
        with pytest.raises(CrashError):
            world.settle()
        world.crash_before = None
        world.cache.environments.remove(world.environments.pop(0))
        run_to_the_end(world)
        first, *others = world.jobs["uid-j"].status.attempts

        assert world.state("j") == expected
        assert (first.compute_environment, first.status_reason) == ("a", "Task failed to start")
        assert first.reason == "ComputeEnvironment a was deleted before all its Jobs were made"
        assert [one.compute_environment for one in others] == ["b"] * (tries - 1)


def test_a_gang_that_stands_whole_outlives_its_environment() -> None:
    world = world_of()
    world.submit(job("j", jobDefinition="gang"))
    world.settle()
    world.cache.environments.remove(world.environments.pop(0))
    run_to_the_end(world)

    assert world.state("j") == "SUCCEEDED"


def several() -> World:
    world = world_of(max_vcpus=5, retryStrategy={"attempts": 2}, mainNode=2)
    world.submit(job("one", jobDefinition="gang"))
    world.submit(job("two", at_s=1, jobDefinition="gang", nodeOverrides={"numNodes": 4}))
    world.submit(job("array", at_s=2, arrayProperties={"size": 3}))
    return world


FAILURES: set[tuple[int, int | None]] = {(1, 0), (2, 1)}


def test_a_crash_before_any_write_changes_no_outcome() -> None:
    calm = several()
    run_to_the_end(calm, fail=FAILURES)
    ends = {name: (one.status.state, len(one.status.attempts)) for name, one in calm.jobs.items()}
    for k in count():
        world = several()
        world.crash_before = k
        try:
            run_to_the_end(world, fail=FAILURES)
        except CrashError:
            world.crash_before = None
            world.restart()
            run_to_the_end(world, fail=FAILURES)
        else:
            break
        found = {
            name: (one.status.state, len(one.status.attempts)) for name, one in world.jobs.items()
        }

        assert found == ends, f"died before write {k}"
        assert sorted(world.starts) == sorted(calm.starts), f"died before write {k}"
    assert k == calm.writes


def test_an_empty_memo_decides_the_same() -> None:
    world = several()
    for _ in range(80):
        snapshot = world.cache.snapshot(world.now, Policy(), 1000)
        fresh = run_cycle(snapshot, Memo())
        result = run_cycle(snapshot, world.memo)

        assert told(result.mutations) == told(fresh.mutations)
        world.carry_out(*result.mutations)
        play(world, fail=FAILURES)
    assert {one.status.state for one in world.jobs.values()} == {"SUCCEEDED"}


def told(mutations: tuple[Any, ...]) -> set[str]:
    found = set()
    for one in mutations:
        if isinstance(one, StartGang):
            found.add(f"gang {one.job.name} {one.start.number} {one.groups}")
        elif not isinstance(one, WriteStatus):
            what = one.pod.pod_name if hasattr(one, "pod") else one.job.name
            found.add(f"{type(one).__name__} {what}")
        elif one.kind == "BatchJob" and one.status is not None:
            found.add(f"{one.name} is {one.status.state}")
    return found


PREEMPTED = "Preempted: for job urgent"


def is_requeued(world: World) -> None:
    """The gang that was marked is followed by another, which needs no second try to succeed."""
    run_to_the_end(world)
    status = world.jobs["uid-j"].status

    assert status.state == "SUCCEEDED"
    assert world.starts == [("j", 0, 1), ("j", 0, 2)]
    assert status.attempts[0].status_reason == PREEMPTED


def test_a_gang_that_runs_is_preempted_by_its_main_node() -> None:
    world = world_of()
    world.submit(job("j", jobDefinition="gang"))
    for _ in range(2):
        world.settle()
        play(world)
    world.settle()
    (main,) = [one for one in world.live() if one.node_group == 0]
    world.carry_out(StopPod(main, PREEMPTED))

    is_requeued(world)


def test_a_gang_that_waits_for_its_nodes_is_preempted_by_its_main_node() -> None:
    world = world_of()
    world.submit(job("j", jobDefinition="gang"))
    world.settle()
    world.make_nodes()
    (main,) = [one for one in world.live() if one.node_group == 0]
    world.carry_out(StopPod(main, PREEMPTED))

    is_requeued(world)


def suspended(world: World, *, until: bool = True) -> None:
    stored = world.jobs["uid-j"]
    spec = stored.spec.model_copy(update={"suspend": until})
    world.submit(replace(stored, spec=spec, generation=stored.generation + 1))


@pytest.mark.parametrize("made", ["no Pods", "some Pods", "all Pods", "Pods let go"])
def test_a_gang_that_is_suspended_before_it_has_a_node_gives_its_room_back(made: str) -> None:
    world = world_of()
    world.submit(job("j", jobDefinition="gang"))
    world.settle()
    if made != "no Pods":
        world.make_nodes()
    if made == "some Pods":
        late = [one for one in world.pods.values() if one.node_group == 1][-1]
        world.cache.pods.forget(world.pods.pop(late.pod_name).pod_uid)
    if made == "Pods let go":
        world.settle()
    suspended(world)
    world.settle()
    status = world.jobs["uid-j"].status

    assert (world.live(), world.memo.used_milli["local"]) == ([], 0)
    assert status.pending is not None
    assert status.pending.reason == "Suspended"

    suspended(world, until=False)
    run_to_the_end(world)

    assert world.state("j") == "SUCCEEDED"
    assert world.starts == [("j", 0, 1), ("j", 0, 2)]


@pytest.mark.parametrize("has_pods", [False, True])
def test_a_crash_while_a_gang_is_suspended_costs_it_no_try(has_pods: bool) -> None:  # noqa: FBT001
    for k in count():
        world = world_of()
        world.submit(job("j", jobDefinition="gang"))
        world.settle()
        if has_pods:
            world.make_nodes()
        suspended(world)
        world.crash_before = world.writes + k
        try:
            world.settle()
        except CrashError:
            world.crash_before = None
            world.restart()
            world.settle()
        is_whole = world.crash_before is not None
        world.crash_before = None

        assert world.live() == [], f"died before write {k}"

        suspended(world, until=False)
        run_to_the_end(world)

        assert world.state("j") == "SUCCEEDED", f"died before write {k}"
        if is_whole:
            break
    assert k > 3


def test_a_gang_whose_main_node_runs_goes_on_when_it_is_suspended() -> None:
    world = world_of()
    world.submit(job("j", jobDefinition="gang"))
    for _ in range(2):
        world.settle()
        play(world)
    suspended(world)
    run_to_the_end(world)

    assert (world.state("j"), world.starts) == ("SUCCEEDED", [("j", 0, 1)])


def limited() -> World:
    """A gang in the first of two environments that is tried in the other after a minute."""
    world = world_of()
    order = [{"order": number, "computeEnvironment": name} for number, name in enumerate("ab")]
    move = {"state": "RUNNABLE", "reason": "*", "maxTimeSeconds": 60}
    move["action"] = "NEXT_COMPUTE_ENVIRONMENT"
    world.queues = [queue(computeEnvironmentOrder=order, jobStateTimeLimitActions=[move])]
    world.environments = [environment(name, maxvCpus=10) for name in "ab"]
    world.restart()
    world.submit(job("j", jobDefinition="gang"))
    world.settle()
    return world


def test_a_gang_whose_main_node_finds_no_node_is_moved_as_one() -> None:
    world = limited()
    world.make_nodes()
    world.settle()
    world.tick(60)
    run_to_the_end(world)
    first, second = world.jobs["uid-j"].status.attempts

    assert world.state("j") == "SUCCEEDED"
    assert (first.compute_environment, second.compute_environment) == ("a", "b")
    assert (first.status_reason or "").startswith("Moved to the next compute environment: in a")


def test_a_gang_that_has_no_pods_yet_is_not_moved() -> None:
    """What holds back its Pods, a quota say, is not that there are no nodes."""
    world = limited()
    world.tick(3600)
    world.settle()

    assert world.starts == [("j", 0, 1)]
    assert not any(one.phase.ended for one in world.gang_jobs.values())
