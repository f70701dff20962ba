"""How long jobs take, as learned from those that succeeded, and what of it outlives a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.job_definition import (
    COUNT_MAX,
    RUN_TIME_S_MAX,
    JobDefinitionStatus,
    LearnedRunTimes,
)
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.plan import Definition
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.mutations import Urgency, WriteStatus
from batch_operator.scheduling.run_times import KEPT_MAX, RunTime, RunTimes, to_store
from support.builders import START, definition, definition_spec, job
from support.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.lifecycle.attempt import PodAttempt

WORK = ("default", "work")


def stored(count: int, p50_s: int, p90_s: int) -> LearnedRunTimes:
    return LearnedRunTimes(count=count, p50_seconds=p50_s, p90_seconds=p90_s)


def learned(durations: Iterable[float], prior: LearnedRunTimes | None = None) -> RunTimes:
    run_times = RunTimes()
    run_times.recall(WORK, prior)
    for seconds in durations:
        run_times.observe(WORK, seconds)
    return run_times


# What is expected


def test_half_and_nine_of_ten_of_the_attempts_took_no_longer() -> None:
    assert learned(range(1, 11)).estimate(WORK) == RunTime(10, 5, 9)
    assert learned([7]).estimate(WORK) == RunTime(1, 7, 7)


def test_only_the_latest_attempts_say_how_long_the_next_one_takes() -> None:
    known = learned([1000.0] * 500 + [10.0] * KEPT_MAX)

    assert known.estimate(WORK) == RunTime(500 + KEPT_MAX, 10, 10)


def test_nothing_is_expected_of_what_never_ran() -> None:
    assert learned([]).estimate(WORK) is None
    assert learned([5]).estimate(("default", "other")) is None


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        pytest.param([10, 100], RunTime(2, 10, 60), id="some attempts took longer"),
        pytest.param([70, 100], RunTime(2, 60, 60), id="all did"),
        pytest.param([], RunTime(0, 60, 60), id="nothing else is known"),
    ],
)
def test_no_attempt_is_expected_to_outlive_its_timeout(
    durations: list[float], expected: RunTime
) -> None:
    assert learned(durations).estimate(WORK, timeout_s=60) == expected


def test_a_definition_that_is_gone_is_forgotten() -> None:
    known = learned([5])
    known.forget(WORK)
    known.observe(WORK, 5)

    assert known.estimate(WORK) is None


def test_impossible_durations_stay_within_what_a_status_can_hold() -> None:
    known = learned([-5, 1e12], stored(COUNT_MAX, 1, 1))
    for _ in range(KEPT_MAX):
        known.observe(WORK, 1e12)
    kept = to_store(known.estimate(WORK), None)

    assert kept == stored(COUNT_MAX, RUN_TIME_S_MAX, RUN_TIME_S_MAX)


def test_after_a_restart_what_was_stored_holds_until_eight_new_attempts_say_otherwise() -> None:
    seven = learned([10.0] * 7, stored(100, 50, 60))
    eight = learned([10.0] * 8, stored(100, 50, 60))

    assert seven.estimate(WORK) == RunTime(107, 50, 60)
    assert eight.estimate(WORK) == RunTime(108, 10, 10)


def test_an_echo_of_what_was_stored_replaces_nothing() -> None:
    known = learned([10.0] * 9)
    known.recall(WORK, stored(500, 99, 99))

    assert known.estimate(WORK) == RunTime(9, 10, 10)


# What is stored


@pytest.mark.parametrize(
    ("known", "before", "after"),
    [
        pytest.param(None, None, None, id="nothing is known"),
        pytest.param(None, stored(3, 5, 5), stored(3, 5, 5), id="nothing new is known"),
        pytest.param(RunTime(1, 5.2, 6), None, stored(1, 6, 6), id="the first, rounded up"),
        pytest.param(RunTime(19, 9, 9), stored(10, 5, 5), stored(10, 5, 5), id="few more"),
        pytest.param(RunTime(20, 5, 5), stored(10, 5, 5), stored(20, 5, 5), id="twice as many"),
        pytest.param(
            RunTime(263, 120, 150), stored(200, 100, 150), stored(200, 100, 150), id="not all new"
        ),
        pytest.param(
            RunTime(264, 120, 150), stored(200, 100, 150), stored(264, 120, 150), id="p50 changed"
        ),
        pytest.param(
            RunTime(264, 100, 130), stored(200, 100, 150), stored(264, 100, 130), id="p90 changed"
        ),
        pytest.param(
            RunTime(264, 110, 165), stored(200, 100, 150), stored(200, 100, 150), id="by a tenth"
        ),
        pytest.param(
            RunTime(264, 2, 3), stored(200, 1, 2), stored(200, 1, 2), id="by the second that counts"
        ),
    ],
)
def test_a_definition_is_written_to_only_for_news(
    known: RunTime | None, before: LearnedRunTimes | None, after: LearnedRunTimes | None
) -> None:
    assert to_store(known, before) == after


def test_a_definition_is_written_to_once_in_64_attempts_whatever_they_take() -> None:
    """But for the first: 1, 2, 4 … attempts are news."""
    run_times, kept, writes = learned([]), None, 0
    for number in range(64 * 20):
        run_times.observe(WORK, 10.0 ** (number // 64 % 4))
        now = to_store(run_times.estimate(WORK), kept)
        writes += now is not kept
        kept = now

    assert writes <= 7 + 20


# In the cycle


class Learning(World):
    """A world that keeps the statuses of definitions, too."""

    def __init__(self, **fields: Any) -> None:
        self.told: list[WriteStatus] = []
        super().__init__(**fields)

    def cycle(self) -> Any:
        mutations = super().cycle()
        for one in mutations:
            if isinstance(one, WriteStatus) and one.kind == "JobDefinition" and one.status:
                self.told.append(one)
                self._tell(one)
        return mutations

    def _tell(self, write: WriteStatus) -> None:
        self._version += 1
        for number, known in enumerate(self.definitions):
            if known.object is not None and known.object.uid == write.uid:
                status: Any = write.status
                now = replace(known.object, status=status, resource_version=self._version)
                self.definitions[number] = Definition(now, known.revisions)
                self.cache.definitions.upsert(now)

    def learned(self, number: int = 0) -> LearnedRunTimes | None:
        known = self.definitions[number].object
        assert known is not None
        return known.status.run_times

    def pod(self, name: str) -> PodAttempt:
        return next(one for one in self.live() if one.job_uid == f"uid-{name}")

    def run(self, name: str, seconds: float, phase: Phase = Phase.SUCCEEDED, **spec: Any) -> None:
        """One job from submission to end; its only attempt takes so long."""
        self.submit(job(name, **spec))
        self.settle()
        self.move(self.pod(name), Phase.RUNNING, node_name="node", bound_at=self.now)
        self.settle()
        self.tick(seconds)
        self.move(self.pod(name), phase)
        self.settle()


def test_a_definition_tells_how_long_its_jobs_took() -> None:
    world = Learning()
    world.settle()
    world.told.clear()
    world.run("one", 30)

    assert world.learned() == stored(1, 30, 30)
    assert [one.urgency for one in world.told] == [Urgency.LAZY]
    world.run("two", 50)

    assert world.learned() == stored(2, 30, 50)


def test_an_outcome_is_learned_from_once_however_often_it_is_looked_at() -> None:
    """It is seen until the status that counts it is stored, which may be later."""
    world = Learning()
    world.submit(job())
    world.settle()
    world.move(world.pod("job"), Phase.RUNNING, node_name="node")
    world.tick(30)
    world.move(world.pod("job"), Phase.SUCCEEDED)
    for _ in range(3):
        world.cache.touch("uid-job")
        run_cycle(world.cache.snapshot(world.now, Policy(), 1000), world.memo)  # none is stored

    assert world.memo.run_times.estimate(WORK) == RunTime(1, 30, 30)
    world.cache.touch("uid-job")
    world.settle()

    assert world.learned() == stored(1, 30, 30)


def test_failures_teach_nothing() -> None:
    world = Learning()
    world.run("bad", 30, Phase.FAILED)

    assert world.learned() is None


def test_all_revisions_of_a_definition_are_learned_from_together() -> None:
    world = Learning()
    old, new = definition_spec(), definition_spec(parameters={"a": "b"})
    known = definition("work", new, 2)
    world.definitions = [Definition(known.object, {1: old, 2: new})]
    world.restart()
    world.run("one", 10, jobDefinition="work:1")
    world.run("two", 20, jobDefinition="work:2")

    assert world.learned() == stored(2, 10, 20)


def test_a_restart_goes_on_from_what_was_told_and_tells_nothing_again() -> None:
    world = Learning()
    for number in range(3):
        world.run(f"j{number}", 30)
    told = len(world.told)
    world.restart()
    world.settle()

    assert len(world.told) == told
    assert world.learned() == stored(2, 30, 30)
    assert world.memo.run_times.estimate(WORK) == RunTime(2, 30, 30)
    for number in range(8):
        world.run(f"k{number}", 90)

    assert world.memo.run_times.estimate(WORK) == RunTime(10, 90, 90)
    assert world.learned() == stored(8, 30, 30)


def test_where_nothing_changes_nothing_is_written() -> None:
    world = Learning()
    world.run("one", 30)
    told = len(world.told)
    for _ in range(10):
        world.tick(3600)
        world.settle()

    assert len(world.told) == told


def test_telling_of_run_times_calls_for_no_look_at_the_jobs_that_wait() -> None:
    """A definition may have a hundred thousand of them."""
    world = Learning(max_vcpus=1)
    world.submit(job("waits", at_s=1, suspend=True))
    world.run("one", 30)
    world.submit(job("two", at_s=2))
    world.settle()
    before = world.memo.looks["uid-waits"]
    world.move(world.pod("two"), Phase.RUNNING, node_name="node")
    world.tick(30)
    world.move(world.pod("two"), Phase.SUCCEEDED)
    world.settle()

    assert world.learned() == stored(2, 30, 30)
    assert world.memo.looks["uid-waits"] is before


def test_a_definition_that_is_deleted_and_applied_again_begins_anew() -> None:
    world = Learning()
    world.run("one", 30)
    world.submit(job("two"))
    world.settle()
    known = world.definitions[0].object
    assert known is not None
    world.cache.definitions.remove(known)
    world.settle()
    world.move(world.pod("two"), Phase.SUCCEEDED, started_at=START)
    world.cycle()
    again = replace(known, uid="uid-again", resource_version=10**6, status=JobDefinitionStatus())
    world.cache.definitions.upsert(again)
    world.cycle()

    assert world.memo.run_times.estimate(WORK) is None
