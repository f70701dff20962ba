"""The cycle against a small world: what starts, in which order, and what survives a crash."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import BatchJobStatus
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.evaluate import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import (
    DeletePod,
    Mutation,
    ReleasePod,
    StartAttempt,
    WriteStatus,
)
from support.builders import definition, definition_spec, environment, job, pod_template, queue
from support.world import CrashError, World


def run_to_the_end(world: World, *, fail: set[tuple[str, int, int]] | None = None) -> None:
    """Play kubelet: every Pod that lives goes one phase on, and ends in the way that is asked."""
    for _ in range(200):
        world.settle()
        if all(one.status.state in {"SUCCEEDED", "FAILED"} for one in world.jobs.values()):
            return
        world.tick()
        for pod in world.live():
            name = world.jobs[pod.job_uid].name
            if pod.phase is Phase.UNBOUND:
                world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
            else:
                is_bad = (name, pod.index, pod.number) in (fail or set())
                world.move(pod, Phase.FAILED if is_bad else Phase.SUCCEEDED)
    raise AssertionError("the jobs did not end")


def test_a_job_runs_to_its_end_and_then_nothing_is_written() -> None:
    world = World()
    world.submit(job())
    run_to_the_end(world)
    before = world.writes
    world.tick(3600)
    world.restart()
    world.settle()

    assert world.state("job") == "SUCCEEDED"
    assert world.writes == before
    assert not any(pod.tracked for pod in world.pods.values())


def test_an_array_runs_every_index_once_and_never_more_than_max_parallel() -> None:
    world = World(max_vcpus=100)
    world.submit(job("a", arrayProperties={"size": 20, "maxParallel": 3}))
    world.settle()

    assert len(world.live()) == 3
    run_to_the_end(world)

    assert sorted(world.starts) == [("a", index, 1) for index in range(20)]
    assert world.peak_milli == 3000
    array = world.jobs["uid-a"].status.array
    assert array is not None
    assert array.indexes.succeeded == "0-19"


def test_an_environment_never_holds_more_than_max_vcpus() -> None:
    world = World(max_vcpus=3)
    for number in range(10):
        world.submit(job(f"j{number}", at_s=number))
    run_to_the_end(world)

    assert world.peak_milli == 3000
    assert [name for name, _, _ in world.starts] == [f"j{number}" for number in range(10)]


def test_higher_priority_queues_go_first_where_they_share_an_environment() -> None:
    world = World(max_vcpus=1)
    world.queues = [queue("low", priority=1), queue("high", priority=2)]
    world.restart()
    world.submit(job("early", jobQueue="low"))
    world.submit(job("urgent", at_s=1, jobQueue="high"))
    run_to_the_end(world)

    assert [name for name, _, _ in world.starts] == ["urgent", "early"]


def test_a_large_job_at_the_head_blocks_smaller_ones_behind_it() -> None:
    """AWS Batch's head-of-line blocking is the default."""
    world = World(max_vcpus=2)
    world.definitions = [
        definition(),
        definition("large", definition_spec(podTemplate=pod_template("2"))),
    ]
    world.restart()
    world.submit(job("first"))
    world.submit(job("large", at_s=1, jobDefinition="large"))
    world.submit(job("small", at_s=2))
    world.settle()
    pending = {name: world.jobs[f"uid-{name}"].status.pending for name in ("large", "small")}

    assert [name for name, _, _ in world.starts] == ["first"]
    assert pending["large"] is not None
    assert pending["large"].reason == "InsufficientCapacity"
    assert pending["small"] is not None
    assert pending["small"].reason == "BehindOthers"
    assert pending["small"].position == 2


def test_a_job_that_fits_nowhere_says_so_and_blocks_nobody() -> None:
    world = World(max_vcpus=2)
    world.definitions.append(definition("huge", definition_spec(podTemplate=pod_template("3"))))
    world.restart()
    world.submit(job("huge", jobDefinition="huge"))
    world.submit(job("small", at_s=1))
    world.settle()
    status = world.jobs["uid-huge"].status

    assert [name for name, _, _ in world.starts] == ["small"]
    assert status.pending is not None
    assert status.pending.reason == "ComputeEnvironmentMaxResource"
    assert "raise maxvCpus" in status.pending.message
    assert (status.status_reason or "").startswith("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX")
    assert [one.type for one in status.conditions] == ["Stalled"]


def test_the_second_environment_takes_what_the_first_has_no_room_for() -> None:
    world = World()
    world.environments = [environment("one", maxvCpus=1), environment("two", maxvCpus=1)]
    world.queues = [
        queue(
            computeEnvironmentOrder=[
                {"order": 2, "computeEnvironment": "two"},
                {"order": 1, "computeEnvironment": "one"},
            ]
        )
    ]
    world.restart()
    world.submit(job("a", arrayProperties={"size": 3}))
    world.settle()

    assert sorted(pod.environment for pod in world.live()) == ["one", "two"]


def test_a_dependent_job_waits_and_fails_with_its_dependency() -> None:
    world = World()
    world.submit(job("a"))
    world.submit(job("b", dependsOn=[{"job": "a"}]))
    world.submit(job("c", dependsOn=[{"job": "b"}]))
    world.settle()

    assert world.state("b") == "PENDING"
    run_to_the_end(world, fail={("a", 0, 1)})

    assert world.state("b") == world.state("c") == "FAILED"
    assert world.jobs["uid-b"].status.status_reason == "Dependent Job failed"
    assert [name for name, _, _ in world.starts] == ["a"]


def test_a_retry_goes_to_the_front_of_the_queue() -> None:
    """AWS best practice 6: a retried job moves to the front of its queue."""
    world = World(max_vcpus=1)
    world.submit(job("first", retryStrategy={"attempts": 2}))
    world.submit(job("second", at_s=1))
    run_to_the_end(world, fail={("first", 0, 1)})

    assert world.starts == [("first", 0, 1), ("first", 0, 2), ("second", 0, 1)]
    assert world.state("first") == "SUCCEEDED"
    assert [row.exit_code for row in world.jobs["uid-first"].status.attempts] == [1, 0]


def test_array_children_retry_and_fail_on_their_own() -> None:
    world = World(max_vcpus=100)
    world.submit(job("a", arrayProperties={"size": 4}, retryStrategy={"attempts": 2}))
    run_to_the_end(world, fail={("a", 1, 1), ("a", 2, 1), ("a", 2, 2)})
    status = world.jobs["uid-a"].status

    assert status.state == "FAILED"
    assert status.status_reason == "Array Child Job failed"
    assert status.array is not None
    assert status.array.indexes.succeeded == "0-1,3"
    assert status.array.indexes.failed == "2"
    assert [(row.exit_code, row.indexes) for row in status.array.failures] == [(1, "2")]


def test_a_status_that_is_stored_as_it_was_wanted_needs_no_other_look() -> None:
    world = World(max_vcpus=1)
    world.submit(job())
    world.settle()
    world.move(world.live()[0], Phase.RUNNING, node_name="node", bound_at=world.now)

    assert [looks(world), looks(world)] == [1, 0]
    assert world.state("job") == "RUNNING"


def test_a_status_that_somebody_else_has_written_is_mended() -> None:
    world = World(max_vcpus=1)
    world.submit(job())
    world.settle()
    kept = world.jobs["uid-job"].status
    wrong = kept.model_copy(update={"status_reason": "all is well"})
    world.submit(replace(world.jobs["uid-job"], status=wrong))
    world.settle()

    assert world.jobs["uid-job"].status == kept


def looks(world: World) -> int:
    """How many jobs the next cycle looks at; what it decides is carried out."""
    result = run_cycle(world.cache.snapshot(world.now, Policy(), 1000), world.memo)
    for mutation in result.mutations:
        if isinstance(mutation, WriteStatus) and mutation.kind == "BatchJob" and mutation.status:
            world.carry_out(mutation)
    return result.looked_at


def test_a_finished_job_is_deleted_after_its_time_to_live() -> None:
    world = World()
    world.submit(job(ttlSecondsAfterFinished=60))
    run_to_the_end(world)
    world.settle()

    assert "uid-job" in world.jobs
    world.tick(61)
    world.settle()

    assert "uid-job" not in world.jobs


def mixed_workload() -> World:
    world = World(max_vcpus=3)
    world.submit(job("single"))
    world.submit(job("array", at_s=1, arrayProperties={"size": 4}, retryStrategy={"attempts": 2}))
    world.submit(job("after", at_s=2, dependsOn=[{"job": "array"}]))
    world.submit(job("never", at_s=3, dependsOn=[{"job": "bad"}]))
    world.submit(job("bad", at_s=4))
    return world


FAILURES = {("array", 1, 1), ("bad", 0, 1)}


def outcomes(world: World) -> dict[str, object]:
    return {
        one.name: (
            one.status.state,
            one.status.status_reason,
            len(one.status.attempts),
            one.status.array and one.status.array.indexes,
        )
        for one in world.jobs.values()
    }


def test_dying_before_any_write_changes_no_outcome_and_runs_nothing_twice() -> None:
    """The crash sweep: the operator dies before its k-th write, for every k there is."""
    calm = mixed_workload()
    run_to_the_end(calm, fail=FAILURES)
    calm.settle()
    swept = 0
    for k in count():
        world = mixed_workload()
        world.crash_before = k
        try:
            run_to_the_end(world, fail=FAILURES)
            world.settle()
        except CrashError:
            world.crash_before = None
            world.restart()
            run_to_the_end(world, fail=FAILURES)
            world.settle()
            swept += 1
        else:
            break

        assert outcomes(world) == outcomes(calm), f"died before write {k}"
        assert sorted(world.starts) == sorted(calm.starts), f"died before write {k}"
        assert world.peak_milli <= 3000

    assert swept == calm.writes


@settings(max_examples=60)
@given(
    jobs=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([None, 2, 5]),
            st.integers(1, 2),
            st.sampled_from([None, 0, 1, 2]),
        ),
        min_size=1,
        max_size=6,
    ),
    restarts=st.sets(st.integers(0, 30)),
    fail=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 2))),
)
def test_an_empty_memo_decides_the_same(
    jobs: list[tuple[int, int | None, int, int | None]],
    restarts: set[int],
    fail: set[tuple[int, int, int]],
) -> None:
    """The memo saves work and nothing else: at every step, without it the decisions are equal."""
    world = World(max_vcpus=3)
    for number, (at_s, size, attempts, after) in enumerate(jobs):
        fields: dict[str, object] = {"retryStrategy": {"attempts": attempts}}
        if size:
            fields["arrayProperties"] = {"size": size}
        if after is not None and after < number:
            fields["dependsOn"] = [{"job": f"j{after}"}]
        world.submit(job(f"j{number}", at_s=at_s, **fields))
    for step in range(40):
        if step in restarts:
            world.restart()
        snapshot = world.cache.snapshot(world.now, Policy(), 1000)
        fresh = run_cycle(snapshot, Memo())
        result = run_cycle(snapshot, world.memo)

        assert effective(result.mutations) == effective(fresh.mutations)

        world.carry_out(*result.mutations)
        world.tick()
        for pod in world.live():
            number = int(world.jobs[pod.job_uid].name[1:])
            if pod.phase is Phase.UNBOUND:
                world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
            else:
                bad = (number, pod.index, pod.number) in fail
                world.move(pod, Phase.FAILED if bad else Phase.SUCCEEDED)


def effective(mutations: tuple[Mutation, ...]) -> set[str]:
    """Mutations that change something, as text; of a status, the state."""
    found = set()
    for one in mutations:
        match one:
            case WriteStatus(kind="BatchJob", status=BatchJobStatus(state=state), name=name):
                found.add(f"{name} is {state}")
            case StartAttempt(job=started, index=index, number=number):
                found.add(f"start {started.name} {index} {number}")
            case ReleasePod(pod=pod) | DeletePod(pod=pod):
                found.add(f"{type(one).__name__} {pod.pod_name}")
            case _:
                pass
    return found


@pytest.mark.parametrize("size", [1, 10_000])
def test_index_sets_survive_their_notation(size: int) -> None:
    whole = IndexSet.range(size)

    assert IndexSet.parse(str(whole)) == whole


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("cycle.recall_rooms", "what is known of nodes from before"),
        ("budgets.spent_of", "the budgets of queue main"),
        ("cycle.fall_through", "moves to other environments"),
        ("front._decided", "the front of queue main"),
    ],
)
def test_an_error_in_one_part_of_the_operator_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, part: str, named: str
) -> None:
    """It is told of, and jobs start: a process that dies does the same again after its restart."""

    def broken(*_: object) -> None:
        raise RuntimeError("an error in this program")

    world = World()
    budget = {"name": "b", "amount": 1, "window": "DAY", "action": "NOTIFY"}
    world.queues = [queue(budgets=[budget])]
    world.restart()
    for number in range(8):
        world.submit(job(f"job-{number}"))
    monkeypatch.setattr(f"batch_operator.scheduling.{part}", broken)
    faults: set[str] = set()
    started: list[Mutation] = []
    for _ in range(5):
        result = run_cycle(world.cache.snapshot(world.now, Policy(), 1000), world.memo)
        faults |= {one.name for one in result.faults}
        started += [one for one in result.mutations if isinstance(one, StartAttempt)]
        world.tick(60)

    assert faults == {named}
    assert started
