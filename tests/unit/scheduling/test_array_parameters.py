"""Arrays that take parameters from a ConfigMap, played through cycle by cycle."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.stops import Policy
from batch_operator.manifests.pods import pod
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import ReadConfigMap, StartAttempt
from support.builders import definition, definition_spec, job, pod_template
from support.world import CrashError, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_operator.api.job import Pending
    from batch_operator.scheduling.mutations import Mutation

SAMPLES = ("default", "samples", "lines")
FROM_LINES = {"configMap": {"name": "samples", "key": "lines", "parameters": ["sample"]}}


def world_of(*lines: str, max_vcpus: int = 4, **fields: Any) -> World:
    """A world with a definition that refers to `sample`, and the ConfigMap if it has lines."""
    world = World(max_vcpus=max_vcpus)
    template = pod_template(command=["run", "Ref::sample"])
    world.definitions = [definition("work", definition_spec(podTemplate=template, **fields))]
    if lines:
        world.config_maps[SAMPLES] = lines
    world.restart()
    return world


def submit(world: World, name: str = "a", size: int = 2, **spec: Any) -> None:
    array = {"size": size, "parameters": FROM_LINES}
    world.submit(job(name, arrayProperties=array, **spec))
    world.settle()


def commands(world: World, name: str = "") -> list[list[str]]:
    """Of every start, or of those of one job."""
    return [
        pod(start)["spec"]["containers"][0]["command"]
        for start in world.started
        if name in {"", start.job.name}
    ]


def waits_for(world: World, name: str = "a") -> Pending | None:
    return world.jobs[f"uid-{name}"].status.pending


def end(world: World, phase: Phase = Phase.SUCCEEDED) -> None:
    for one in world.live():
        world.move(one, phase)
    world.settle()


def test_each_child_runs_with_its_line() -> None:
    world = world_of("a", "b")
    submit(world)

    assert commands(world) == [["run", "a"], ["run", "b"]]


def test_a_config_map_is_read_once_for_all_children_and_attempts() -> None:
    world = world_of("a", "b", max_vcpus=1, retryStrategy={"attempts": 2})
    submit(world)
    end(world, Phase.FAILED)
    while world.live():
        end(world)

    assert world.reads == [SAMPLES]
    assert world.state("a") == "SUCCEEDED"


def test_a_new_job_gets_the_lines_that_are_there_now() -> None:
    """The ConfigMap may have been deleted and made anew while an older job is still at work."""
    world = world_of("a", "b")
    submit(world)
    world.config_maps[SAMPLES] = ("c", "d")
    submit(world, "b")

    assert commands(world) == [["run", "a"], ["run", "b"], ["run", "c"], ["run", "d"]]


def test_a_new_job_does_not_wait_because_an_older_one_found_nothing() -> None:
    world = world_of()
    submit(world)
    world.config_maps[SAMPLES] = ("a", "b")
    submit(world, "b")

    assert sorted(world.starts) == [("a", 0, 1), ("a", 1, 1), ("b", 0, 1), ("b", 1, 1)]


def test_nothing_is_read_for_children_that_wait_for_another_job() -> None:
    """The job that is waited for may be the one that makes the ConfigMap."""
    world = world_of()
    world.submit(job("first", parameters={"sample": "x"}))
    submit(world, dependsOn=[{"job": "first"}])

    assert world.reads == []
    pending = waits_for(world)
    assert pending is not None
    assert pending.reason == "WaitingForDependencies"

    world.config_maps[SAMPLES] = ("a", "b")
    end(world)

    assert world.reads == [SAMPLES]
    assert commands(world)[1:] == [["run", "a"], ["run", "b"]]


def test_a_job_whose_config_map_is_missing_is_stalled_and_looks_again() -> None:
    world = world_of()
    submit(world)
    status = world.jobs["uid-a"].status

    assert world.reads == [SAMPLES]
    assert status.pending is not None
    assert status.pending.reason == "ParametersNotReady"
    assert status.pending.message == "there is no ConfigMap samples"
    assert [one.type for one in status.conditions] == ["Stalled"]

    world.tick(4)
    world.settle()
    before = len(world.reads)
    world.config_maps[SAMPLES] = ("a", "b")
    world.tick(1)
    world.settle()

    assert before == 1
    assert commands(world) == [["run", "a"], ["run", "b"]]


def test_lines_that_do_not_do_are_read_again_and_take_nothing_from_other_jobs() -> None:
    world = world_of("a", "b", max_vcpus=1)
    submit(world)
    submit(world, "large", size=3)
    pending = waits_for(world, "large")

    assert pending is not None
    assert "has 2 lines, but index 2 needs 3" in pending.message

    world.config_maps[SAMPLES] = ("a", "b", "c")
    world.tick(5)
    world.settle()
    while world.live():
        end(world)

    assert (world.state("a"), world.state("large")) == ("SUCCEEDED", "SUCCEEDED")


def test_children_that_run_go_on_without_their_config_map_and_the_rest_says_why_not() -> None:
    """Deleted while the operator was down; timeouts and retries of those that run still count."""
    world = world_of("a", "b", "c", max_vcpus=2, retryStrategy={"attempts": 2})
    submit(world, size=3)
    for one in world.live():
        world.move(one, Phase.RUNNING, node_name="node", bound_at=world.now)
    del world.config_maps[SAMPLES]
    world.restart()
    world.settle()
    status = world.jobs["uid-a"].status

    assert len(world.live()) == 2
    assert status.pending is not None
    assert "2 running" in status.pending.message
    assert "there is no ConfigMap samples" in status.pending.message

    first, second = world.live()
    world.move(first, Phase.SUCCEEDED)
    world.move(second, Phase.FAILED)
    world.settle()
    array = world.jobs["uid-a"].status.array

    assert array is not None
    assert (array.indexes.succeeded, array.attempts[0].indexes) == ("0", "1")
    assert world.live() == []

    world.config_maps[SAMPLES] = ("a", "b", "c")
    world.tick(300)
    world.settle()
    end(world)

    assert world.state("a") == "SUCCEEDED"
    assert commands(world)[2:] == [["run", "b"], ["run", "c"]]


NOTICED: dict[str, Callable[[World], None]] = {
    "a new job has it read again": lambda world: submit(world, "new"),
    "the operator starts anew": lambda world: world.restart(),
}


@pytest.mark.parametrize("how", NOTICED)
def test_a_config_map_that_is_made_anew_with_other_lines_holds_what_is_left(how: str) -> None:
    world = world_of("a", "b", max_vcpus=1, retryStrategy={"attempts": 2})
    submit(world)
    world.config_maps[SAMPLES] = ("c", "d")
    NOTICED[how](world)
    end(world, Phase.FAILED)
    status = world.jobs["uid-a"].status

    assert [one.index for one in world.started if one.job.name == "a"] == [0]
    assert [one.type for one in status.conditions] == ["Stalled"]
    assert status.pending is not None
    assert "has other lines than when the first children were ready" in status.pending.message

    world.config_maps[SAMPLES] = ("a", "b")
    world.tick(300)
    world.settle()
    while world.live():
        end(world)

    assert world.state("a") == "SUCCEEDED"
    assert [one[1] for one in commands(world, "a")] == ["a", "a", "b"]


def test_no_child_starts_before_it_is_stored_which_lines_they_get() -> None:
    """So it makes no difference at which write the operator dies."""
    begun = []
    for crash_before in range(5):
        world = world_of("a", "b")
        world.crash_before = crash_before
        with contextlib.suppress(CrashError):
            submit(world)
        world.crash_before = None
        first = commands(world)
        begun.append(len(first))
        world.config_maps[SAMPLES] = ("c", "d")
        world.restart()
        world.settle()

        assert first == [["run", "a"], ["run", "b"]][: len(first)]
        recorded = world.jobs["uid-a"].status.array
        assert commands(world) in (first, [["run", "c"], ["run", "d"]])
        assert recorded is not None
        assert recorded.parameters_digest is not None
    assert begun == sorted(begun)
    assert begun[-1] > 0


def test_which_lines_they_get_is_recorded_when_the_first_children_are_ready() -> None:
    """Another job has had the ConfigMap read, and the one that is waited for makes it anew."""
    world = world_of("a", "b", max_vcpus=9)
    submit(world, "other", size=2)
    world.submit(job("first", parameters={"sample": "x"}))
    submit(world, "a", dependsOn=[{"job": "first"}])
    world.config_maps[SAMPLES] = ("c", "d")
    world.restart()
    end(world)

    assert commands(world, "a") == [["run", "c"], ["run", "d"]]


def rerun_of(world: World, first: str, name: str, lines: dict[str, Any] = FROM_LINES) -> None:
    """Submits a job that runs the failed indexes of another again."""
    world.submit(job(name, arrayProperties={"rerunFailedOf": first, "parameters": lines}))
    world.settle()


def fail(world: World, *bad: int) -> None:
    """Ends what runs, these indexes in failure."""
    for one in world.live():
        world.move(one, Phase.FAILED if one.index in bad else Phase.SUCCEEDED)
    world.settle()


def test_what_failed_runs_again_with_the_lines_that_it_had() -> None:
    """And what failed in that once more, which knows of the first array only what it was told."""
    world = world_of("a", "b", "c")
    submit(world, size=3)
    rerun_of(world, "a", "again")
    fail(world, 1, 2)
    fail(world, 2)
    rerun_of(world, "again", "once-more")

    assert commands(world, "again") == [["run", "b"], ["run", "c"]]
    assert commands(world, "once-more") == [["run", "c"]]


OTHER_LINES: dict[str, tuple[str, ...]] = {
    "of what failed": ("a", "x", "c"),
    "of what succeeded": ("x", "b", "c"),
    "too few of them": ("a", "b"),
}


@pytest.mark.parametrize("what", OTHER_LINES)
def test_what_failed_does_not_run_again_with_other_lines(what: str) -> None:
    """Nor does a rerun of the rerun, even when the first array is gone."""
    world = world_of("a", "b", "c", max_vcpus=3)
    submit(world, size=3)
    fail(world, 1)
    rerun_of(world, "a", "again")
    fail(world, 1)
    world.cache.jobs.remove(world.jobs.pop("uid-a"))
    world.config_maps[SAMPLES] = OTHER_LINES[what]
    world.restart()
    rerun_of(world, "again", "once-more")
    pending = waits_for(world, "once-more")

    assert commands(world, "once-more") == []
    assert [one.type for one in world.jobs["uid-once-more"].status.conditions] == ["Stalled"]
    assert pending is not None
    assert pending.reason == "ParametersNotReady"
    assert pending.message == (
        "key lines of ConfigMap samples has other lines than again had, of which the failed "
        "indexes are to run again: delete it and create it again with those, or submit this job "
        "again with a ConfigMap of another name"
    )

    world.config_maps[SAMPLES] = ("a", "b", "c")
    world.tick(300)
    world.settle()

    assert commands(world, "once-more") == [["run", "b"]]


def test_what_failed_may_run_again_with_a_config_map_of_another_name() -> None:
    """That is how a line that was wrong is corrected."""
    world = world_of("a", "wrong")
    submit(world)
    fail(world, 1)
    world.config_maps["default", "corrected", "lines"] = ("a", "right")
    corrected = {"configMap": {**FROM_LINES["configMap"], "name": "corrected"}}
    rerun_of(world, "a", "again", corrected)

    assert commands(world, "again") == [["run", "right"]]


def test_a_rerun_whose_children_are_not_known_yet_reads_no_lines() -> None:
    world = world_of("a", "b")
    rerun_of(world, "a", "again")
    pending = waits_for(world, "again")

    assert world.reads == []
    assert pending is not None
    assert pending.reason == "DependencyNotFound"


def test_an_array_with_nothing_left_to_start_reads_nothing() -> None:
    world = world_of("a", "b")
    submit(world)
    del world.config_maps[SAMPLES]
    world.restart()
    world.settle()
    world.tick(600)
    world.settle()

    assert world.reads == [SAMPLES]


def test_a_terminated_job_ends_without_its_config_map() -> None:
    world = world_of()
    submit(world, terminate={"reason": "wrong input"})

    assert world.state("a") == "FAILED"
    assert world.reads == []


def test_an_empty_memo_decides_the_same() -> None:
    world = world_of("a", "b", "c", max_vcpus=1)
    submit(world)
    submit(world, "b", size=3)
    submit(world, "large", size=4)
    [running] = world.live()
    world.move(running, Phase.SUCCEEDED)
    world.tick(5)
    snapshot = world.cache.snapshot(world.now, Policy(), 1000)
    fresh, known = run_cycle(snapshot, Memo()), run_cycle(snapshot, world.memo)

    assert decided(fresh.mutations) == decided(known.mutations)
    assert decided(known.mutations) == [ReadConfigMap(SAMPLES, "uid-large"), ("a", 1, ("b",))]


def decided(mutations: tuple[Mutation, ...]) -> list[Any]:
    """What is read, and what starts with which values."""
    found: list[Any] = [one for one in mutations if isinstance(one, ReadConfigMap)]
    for one in mutations:
        if isinstance(one, StartAttempt):
            assert one.plan.per_index is not None
            values = one.plan.per_index.at(one.index)
            found.append((one.job.name, one.index, tuple(values.values())))
    return found
