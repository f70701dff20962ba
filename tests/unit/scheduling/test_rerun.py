"""Reruns of failed indexes, played through cycle by cycle, with a death before every write."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from batch_operator.lifecycle.attempt import Phase
from batch_operator.scheduling.mutations import StartAttempt
from support.builders import job
from support.world import CrashError, World

FAILURES = {("first", 1), ("first", 4), ("second", 4), ("step", 2)}


def rerun(of: str) -> dict[str, str]:
    return {"rerunFailedOf": of}


def workload() -> World:
    """An array, a rerun of it, a rerun of that, and one that finds nothing to do."""
    world = World()
    world.submit(job("first", arrayProperties={"size": 6}))
    world.submit(job("second", arrayProperties=rerun("first")))
    world.submit(job("third", arrayProperties=rerun("second")))
    world.submit(job("fourth", arrayProperties=rerun("third")))
    return world


def run(world: World) -> None:
    for _ in range(50):
        world.settle()
        if not world.live():
            return
        world.tick()
        for pod in world.live():
            bad = (world.jobs[pod.job_uid].name, pod.index) in FAILURES
            world.move(pod, Phase.FAILED if bad else Phase.SUCCEEDED)
    raise AssertionError("there is no end to it")


def outcomes(world: World) -> dict[str, tuple[str, str | None]]:
    return {
        one.name: (one.status.state.value, one.status.array.members if one.status.array else None)
        for one in world.jobs.values()
    }


def test_only_what_failed_runs_again() -> None:
    world = workload()
    run(world)

    assert outcomes(world) == {
        "first": ("FAILED", None),
        "second": ("FAILED", "1,4"),
        "third": ("SUCCEEDED", "4"),
        "fourth": ("SUCCEEDED", ""),
    }
    assert world.starts[6:] == [("second", 1, 1), ("second", 4, 1), ("third", 4, 1)]


def test_a_rerun_may_be_submitted_when_its_array_is_long_over() -> None:
    world = World()
    world.submit(job("first", arrayProperties={"size": 6}))
    run(world)
    world.tick(3600)
    world.submit(job("second", arrayProperties=rerun("first")))
    run(world)

    assert outcomes(world)["second"] == ("FAILED", "1,4")


def test_the_size_that_children_see_is_that_of_the_array_whose_work_they_do() -> None:
    world = workload()
    run(world)
    sizes = {start.job.name: start.array_size for start in world.started}

    assert sizes == {"first": 6, "second": 6, "third": 6}


def test_nothing_starts_in_the_cycle_that_records_the_children() -> None:
    world = World()
    world.submit(job("first", arrayProperties={"size": 6}))
    run(world)
    world.submit(job("second", arrayProperties=rerun("first")))
    begun = [
        [one.index for one in world.cycle() if isinstance(one, StartAttempt)] for _ in range(2)
    ]

    assert begun == [[], [1, 4]]
    assert outcomes(world)["second"] == ("PENDING", "1,4")


def test_the_death_of_the_operator_before_any_write_changes_nothing() -> None:
    calm = workload()
    run(calm)
    for k in count():
        world = workload()
        world.crash_before = k
        try:
            run(world)
        except CrashError:
            world.crash_before = None
            world.restart()
            run(world)
        else:
            break

        assert outcomes(world) == outcomes(calm), f"died before write {k}"
        assert world.starts == calm.starts, f"died before write {k}"

    assert world.writes == calm.writes


def test_the_deletion_of_the_first_array_changes_nothing_once_its_failures_are_recorded() -> None:
    world = World(max_vcpus=1)
    world.submit(job("first", arrayProperties={"size": 6}))
    world.submit(job("second", arrayProperties=rerun("first")))
    while world.state("first") != "FAILED":
        for pod in world.live():
            bad = (world.jobs[pod.job_uid].name, pod.index) in FAILURES
            world.move(pod, Phase.FAILED if bad else Phase.SUCCEEDED)
        world.settle()
    world.cache.jobs.remove(world.jobs.pop("uid-first"))
    world.restart()
    run(world)

    assert outcomes(world) == {"second": ("FAILED", "1,4")}


def test_a_deleted_array_can_be_waited_for_no_more() -> None:
    world = workload()
    world.settle()
    world.cache.jobs.remove(world.jobs.pop("uid-first"))
    world.settle()
    pending = world.jobs["uid-second"].status.pending

    assert pending is not None
    assert pending.reason == "DependencyNotFound"


def test_reruns_of_each_other_wait_for_ever_and_say_so() -> None:
    world = World()
    world.submit(job("a", arrayProperties=rerun("b")))
    world.submit(job("b", arrayProperties=rerun("a")))
    world.settle()
    pending = world.jobs["uid-a"].status.pending

    assert pending is not None
    assert pending.reason == "CircularDependency"
    assert "a → b → a" in pending.message
    assert world.state("a") == "PENDING"


@pytest.mark.parametrize(
    ("array", "size"),
    [({"indexes": "3,7-8"}, 9), ({"indexes": "3,7-8", "size": 50}, 50), ({"size": 4}, 4)],
)
def test_the_size_that_children_see_is_above_every_index(array: dict[str, Any], size: int) -> None:
    world = World()
    world.submit(job("a", arrayProperties=array))
    run(world)

    assert {start.array_size for start in world.started} == {size}


def test_a_size_that_is_not_above_every_index_is_refused() -> None:
    world = World()
    world.submit(job("a", arrayProperties={"indexes": "3,7-8", "size": 8}))
    world.settle()

    assert world.state("a") == "FAILED"
    assert "goes up to 8, and size is 8" in (world.jobs["uid-a"].status.status_reason or "")


def test_a_pipeline_is_run_again_step_by_step() -> None:
    """Its second step failed where the first did, and once more by itself."""
    each = [{"job": "first", "type": "N_TO_N"}]
    world = World()
    world.submit(job("first", arrayProperties={"size": 6}))
    world.submit(job("step", arrayProperties={"size": 6}, dependsOn=each))
    run(world)
    world.submit(job("again", arrayProperties=rerun("first")))
    each = [{"job": "again", "type": "N_TO_N"}]
    world.submit(job("step-again", arrayProperties=rerun("step"), dependsOn=each))
    run(world)

    assert outcomes(world)["step-again"] == ("SUCCEEDED", "1-2,4")
