"""When what waits will start, by hand: 5 s from an end to the next start, then the run time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.forecast import EVERY, forecasting
from batch_operator.scheduling.mutations import WriteStatus
from support.builders import (
    START,
    definition,
    job,
    queue,
    scheduling_policy,
)
from support.world import World

if TYPE_CHECKING:
    import pytest

    from batch_operator.scheduling.outlook import Forecast

WORK = ("default", "work")


def world_of(*jobs: Any, max_vcpus: int = 2, runs_s: tuple[float, ...] = (60,) * 10) -> World:
    """Jobs that were submitted one after the other; those that start run since START."""
    world = World(max_vcpus=max_vcpus)
    return played(world, *jobs, runs_s=runs_s)


def played(world: World, *jobs: Any, runs_s: tuple[float, ...] = (60,) * 10) -> World:
    world.restart()
    for one in jobs:
        world.submit(one)
    world.settle()
    for seconds in runs_s:
        world.memo.run_times.observe(WORK, seconds)
    for pod in world.live():
        world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
    world.settle()
    return world


def numbered(count: int, **spec: Any) -> list[Any]:
    return [job(f"j{number}", at_s=number, **spec) for number in range(count)]


def forecast(world: World) -> Forecast:
    """One that is made without a break, apart from the world's own."""
    making = forecasting(world.cache.snapshot(world.now, Policy(), 1000), world.memo)
    while True:
        try:
            next(making)
        except StopIteration as complete:
            return complete.value


def told(world: World) -> dict[str, tuple[float, float] | None]:
    """By job: seconds from START to p50 and p90."""
    return {
        uid.removeprefix("uid-"): (
            ((one.p50 - START).total_seconds(), (one.p90 - START).total_seconds())
            if one.p50 and one.p90
            else None
        )
        for uid, one in forecast(world).estimates.items()
    }


def basis(world: World, name: str) -> str:
    return forecast(world).estimates[f"uid-{name}"].basis


def test_one_after_the_other_in_the_order_of_the_queue() -> None:
    """Two run until 60; the next two until 65 + 60."""
    world = world_of(*numbered(7))

    assert told(world) == {
        "j2": (65, 65),
        "j3": (65, 65),
        "j4": (130, 130),
        "j5": (130, 130),
        "j6": (195, 195),
    }
    assert basis(world, "j6") == "run times of 10 successes of work"


def test_half_take_no_longer_than_p50_and_nine_of_ten_than_p90() -> None:
    """Of 10, 20, … 100 s these are 50 and 90."""
    world = world_of(*numbered(3), max_vcpus=1, runs_s=tuple(range(10, 101, 10)))

    assert told(world) == {"j1": (55, 95), "j2": (110, 190)}


def test_a_large_one_waits_for_both_and_blocks_those_behind_it() -> None:
    large = {"containerOverrides": [{"resources": {"requests": {"cpu": "2"}}}]}
    world = world_of(job("a"), job("large", at_s=1, **large), job("b", at_s=2), job("c", at_s=3))

    assert told(world) == {"large": (65, 65), "b": (130, 130), "c": (130, 130)}


def test_the_children_of_an_array_start_as_its_max_parallel_lets_them() -> None:
    """`a` has one of two vCPUs for itself, child by child; so the other one is for `b` and `c`."""
    array = job("a", arrayProperties={"size": 3, "maxParallel": 1})
    world = world_of(array, job("b", at_s=1), job("c", at_s=2), job("d", at_s=3))

    assert told(world) == {"c": (65, 65), "d": (130, 130)}


def test_a_timeout_stands_in_for_what_was_not_learned() -> None:
    timeout = {"timeout": {"attemptDurationSeconds": 90}}
    world = world_of(*numbered(2, **timeout), max_vcpus=1, runs_s=())

    assert told(world) == {"j1": (95, 95)}
    assert basis(world, "j1") == "the timeout of work"


def test_where_nothing_is_known_nothing_is_told_but_why() -> None:
    world = world_of(*numbered(2), max_vcpus=1, runs_s=())

    assert told(world) == {"j1": None}
    assert basis(world, "j1") == "no estimate: nothing is known of the run times of work"


def test_what_waits_behind_one_of_unknown_length_has_no_estimate() -> None:
    world = World(max_vcpus=1)
    world.definitions.append(definition("other"))
    other = job("b", at_s=1, jobDefinition="other")
    played(world, job("a"), other, job("c", at_s=2))

    assert told(world) == {"b": (65, 65), "c": None}
    assert basis(world, "c") == "no estimate: nothing is known of the run times of other"


def test_a_queue_of_higher_priority_is_served_first() -> None:
    world = World(max_vcpus=1)
    world.queues.append(queue("urgent", priority=9))
    urgent = job("u", at_s=5, jobQueue="urgent")
    played(world, *numbered(2))
    world.submit(urgent)
    world.settle()

    assert told(world) == {"u": (65, 65), "j1": (130, 130)}


def test_shares_take_turns() -> None:
    """`a` has used more by the time the first vCPU is free, `b` then; and so on."""
    world = World(max_vcpus=1)
    world.queues = [queue(schedulingPolicy="fair")]
    world.policies = [scheduling_policy("fair")]
    jobs = [job(f"a{n}", at_s=n, shareIdentifier="a") for n in range(3)]
    jobs += [job(f"b{n}", at_s=9 + n, shareIdentifier="b") for n in range(2)]
    played(world, *jobs)
    found = told(world)

    assert found["b0"] == (65, 65)
    assert found["a1"] == (130, 130)
    assert found["b1"] == (195, 195)
    assert found["a2"] == (260, 260)


def test_nothing_of_what_is_forecast_happens() -> None:
    world = world_of(*numbered(7))
    before = (dict(world.memo.used_milli), list(world.memo.backlogs["main"]))
    first, second = told(world), told(world)

    assert first == second
    assert (dict(world.memo.used_milli), list(world.memo.backlogs["main"])) == before


def test_what_happens_while_it_is_made_changes_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step a cycle; meanwhile what runs ends, what waits starts, and more is submitted."""
    world = world_of(*numbered(7))
    world.tick(EVERY.total_seconds())
    at_once = forecast(world)
    monkeypatch.setattr("batch_operator.scheduling.forecast.PIECE_STEPS", 1)
    world.cycle()
    cycles = 0
    while world.memo.outlook.making is not None:
        cycles += 1
        world.submit(job(f"more{cycles}", at_s=20 + cycles))
        for pod in world.live():
            world.move(pod, Phase.SUCCEEDED if cycles % 2 else Phase.RUNNING)
        world.cycle()

    assert cycles > 10
    assert world.memo.outlook.forecast == at_once


def test_a_cycle_that_leaves_a_forecast_unfinished_asks_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = world_of(*numbered(7))
    world.tick(EVERY.total_seconds())
    monkeypatch.setattr("batch_operator.scheduling.forecast.PIECE_STEPS", 1)
    found = run_cycle(world.cache.snapshot(world.now, Policy(), 1000), world.memo)

    assert world.memo.outlook.making is not None
    assert found.wake_at == world.now


# What the queue's status shows of it


def queue_status(world: World) -> Any:
    """What the next cycle wants to write of the queue, which is then stored."""
    found = [
        one.status
        for one in world.cycle()
        if isinstance(one, WriteStatus) and one.kind == "JobQueue" and one.status is not None
    ]
    if found:
        world._version += 1
        known = world.cache.snapshot(world.now, Policy(), 1000).queues["main"]
        stored = replace(known, status=found[-1], resource_version=world._version)
        world.cache.queues.upsert(stored)
    return found[-1] if found else None


def estimate_of(world: World, name: str) -> Any:
    """What the status of a job says of its start."""
    pending = world.jobs[f"uid-{name}"].status.pending
    assert pending is not None
    assert pending.estimated_start is not None
    return pending.estimated_start


def test_the_front_is_written_once_and_time_alone_writes_nothing() -> None:
    """Not before the time that was told has passed."""
    world = world_of(*numbered(4))
    world.tick(EVERY.total_seconds())
    status = queue_status(world)
    rows = [(one.position, one.job, one.reason) for one in status.front]

    assert rows == [(1, "j2", "InsufficientCapacity"), (2, "j3", "BehindOthers")]
    assert status.front[0].estimated_start.p90 == START + timedelta(seconds=65)
    for _ in range(64 - int(EVERY.total_seconds())):
        world.tick()
        assert queue_status(world) is None


def test_a_front_that_has_started_is_no_longer_shown() -> None:
    world = world_of(*numbered(3))
    world.tick(EVERY.total_seconds())
    assert [one.job for one in queue_status(world).front] == ["j2"]
    for pod in world.live():
        world.move(pod, Phase.SUCCEEDED)
    world.settle()
    world.tick(EVERY.total_seconds())
    world.settle()
    queue_status(world)

    assert world.memo.outlook.forecast is not None
    assert not world.memo.outlook.forecast.fronts


def pass_on(world: World) -> None:
    """Let the time pass in which nothing happens, until the operator has something to see to."""
    assert world.wake_at is not None
    world.now = max(world.now, world.wake_at)
    world.settle()


def test_what_is_late_moves_an_estimate_ever_less_often_until_there_is_none() -> None:
    """Runs of ten minutes, of which one never ends.

    What is told is never long past, and costs a few writes; after two days nobody looks so far
    ahead any more, and then nothing is written.
    """
    world = World(max_vcpus=1)
    world.written_kinds = {"BatchJob", "JobQueue"}
    played(world, *numbered(2), runs_s=(600,) * 10)
    pass_on(world)
    writes, told_of = world.writes, world.queues[0].status.front[0].estimated_start
    while told_of is not None and world.writes < writes + 100:
        pass_on(world)
        assert world.now <= told_of.p90 + EVERY
        told_of = world.queues[0].status.front[0].estimated_start

    assert told_of is None
    assert 10 < world.writes - writes < 50
    assert timedelta(days=1) < world.now - START < timedelta(days=4)
    assert world.wake_at is None


def test_a_job_is_not_told_of_a_start_that_is_long_past() -> None:
    world = world_of(job("a"), max_vcpus=1)
    world.submit(job("b", at_s=1))
    world.settle()
    pass_on(world)
    world.submit(replace(world.jobs["uid-b"], generation=2))
    world.settle()
    first = estimate_of(world, "b").p90
    while world.now < first + EVERY:
        pass_on(world)

    assert first == START + timedelta(seconds=65)
    assert estimate_of(world, "b").p90 > world.now
