"""How far a forecast looks, and what it knows of backfill and of units; by what queues show.

From an end to the next start 5 s pass; where nothing else is said a run takes 60 s, from START.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.forecast import EVERY, forecasting
from batch_operator.scheduling.play import FRONT_MAX, FRONT_MIN, FRONTS_MAX, LOTS_PER_ROW
from batch_operator.scheduling.shares import ShareBook
from support.builders import (
    START,
    consumable,
    definition,
    definition_spec,
    environment,
    job,
    queue,
    scheduling_policy,
)
from support.world import World

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Consumable, Job

    Times = tuple[float, float] | None

RUNS_S = {"work": 60, "short": 30, "long": 600}
TWO = {"containerOverrides": [{"resources": {"requests": {"cpu": "2"}}}]}
TOKEN = {"consumableResources": [{"name": "token", "quantity": 1}]}


def played(
    world: World, *jobs: Job, resources: tuple[Consumable, ...] = ()
) -> dict[str, dict[str, Times]]:
    """By queue what its front shows: jobs, in order, with seconds from START to p50 and p90.

    What starts at once runs from START. All run times are known, from 20 successes.
    """
    world.definitions += [definition(name, definition_spec()) for name in ("short", "long")]
    world.written_kinds = {"BatchJob", "JobQueue"}
    world.restart()
    world.cache.consumables.replace(list(resources), 1)
    for one in jobs:
        world.submit(one)
    world.settle()
    for name, seconds in RUNS_S.items():
        for _ in range(20):
            world.memo.run_times.observe(("default", name), seconds)
    for pod in world.live():
        world.move(pod, Phase.RUNNING, node_name="node", bound_at=world.now)
    for _ in range(3):
        world.settle()
        world.tick(EVERY.total_seconds())
    return {one.name: dict(map(shown, one.status.front)) for one in world.queues}


def shown(row: Any) -> tuple[str, Times]:
    told = row.estimated_start
    if told is None:
        return row.job, None
    return row.job, ((told.p50 - START).total_seconds(), (told.p90 - START).total_seconds())


def numbered(count: int, prefix: str = "j", **spec: Any) -> list[Job]:
    return [job(f"{prefix}{number:03}", at_s=number, **spec) for number in range(count)]


# How far it looks


def with_queues(*extra: Any, max_vcpus: int = 2) -> World:
    world = World(max_vcpus=max_vcpus)
    world.queues += extra
    return world


@pytest.mark.parametrize(
    ("waiting", "behind"), [(FRONT_MAX, (130.0, 130.0)), (FRONT_MAX + 1, None)]
)
def test_behind_a_queue_of_which_not_all_is_looked_at_nothing_is_told(
    waiting: int, behind: Times
) -> None:
    """Whoever is not looked at there would start before those in a queue with a lower priority."""
    world = with_queues(queue("low", priority=0), max_vcpus=FRONT_MAX)
    jobs = numbered(FRONT_MAX + waiting)
    found = played(world, *jobs, job("last", at_s=999, jobQueue="low"))

    assert list(found["main"].values()) == [(65, 65)] * FRONT_MAX
    assert found["low"] == {"last": behind}


def test_a_queue_elsewhere_is_told_of_all_the_same() -> None:
    """It shares no compute environment with the one of which not all is looked at."""
    order = [{"order": 1, "computeEnvironment": "other"}]
    world = with_queues(queue("low", priority=0, computeEnvironmentOrder=order), max_vcpus=1)
    world.environments.append(environment("other", maxvCpus=1))
    first, second = (job(f"low-{n}", at_s=n, jobQueue="low") for n in range(2))
    found = played(world, *numbered(FRONT_MAX + 2), first, second)

    assert found["low"] == {"low-1": (65, 65)}


def test_once_enough_jobs_are_found_the_queues_behind_show_a_few_each() -> None:
    full = FRONTS_MAX // FRONT_MAX
    more = [queue(f"q{number:02}", priority=99 - number) for number in range(full + 1)]
    world = with_queues(*more, max_vcpus=1)
    jobs = [
        one
        for number in range(full + 1)
        for one in numbered(FRONT_MAX, f"q{number:02}-", jobQueue=f"q{number:02}")
    ]
    found = played(world, *jobs, *numbered(FRONT_MIN + 5))
    counts = [len(found[one.name]) for one in more]

    # The first of the first queue runs.
    assert counts[0] == FRONT_MAX - 1
    assert counts[1:full] == [FRONT_MAX] * (full - 1)
    assert counts[full] == len(found["main"]) == FRONT_MIN


def test_a_step_of_a_forecast_ranks_a_few_shares_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a queue with a share for each of its jobs keeps no cycle waiting.

    Only to begin with each share is ranked once, as in a cycle that serves the queue.
    """
    shares = LOTS_PER_ROW * FRONT_MAX + 100
    world = World(max_vcpus=1)
    world.queues, world.policies = [queue(schedulingPolicy="fair")], [scheduling_policy()]
    played(world, *(job(f"j{n}", at_s=n, shareIdentifier=f"s{n:03}") for n in range(shares)))
    ranked: list[object] = []
    usage = ShareBook.usage
    monkeypatch.setattr(
        ShareBook, "usage", lambda book, *args: ranked.append(args) or usage(book, *args)
    )
    making = forecasting(world.cache.snapshot(world.now, Policy(), 1000), world.memo)
    next(making)
    waiting = shares - 1

    assert len(ranked) == waiting
    ranked.clear()
    for steps in making:
        assert len(ranked) < 10 * (steps + 1)
        ranked.clear()


# Backfill


def test_who_passes_the_blocked_job_is_told_an_earlier_start_than_it() -> None:
    """`large` waits for `long`; `small` is over by then, and `slow` is not."""
    jobs = [
        job("short", jobDefinition="short"),
        job("long", at_s=1, jobDefinition="long"),
        job("large", at_s=2, **TWO),
        job("slow", at_s=3, jobDefinition="long"),
        job("small", at_s=4, jobDefinition="short"),
    ]
    plain, backfill = World(max_vcpus=2), World(max_vcpus=2)
    backfill.queues = [queue(backfill=True)]

    assert played(plain, *jobs)["main"] == {
        "large": (605, 605),
        "slow": (670, 670),
        "small": (670, 670),
    }
    assert played(backfill, *jobs)["main"] == {
        "large": (605, 605),
        "slow": (670, 670),
        "small": (35, 35),
    }


# Units of consumable resources


def test_who_waits_for_units_is_told_when_they_come_back() -> None:
    """There is room for all of them: each starts when the one before it is over."""
    world = World(max_vcpus=9)
    jobs = [job(f"j{number}", at_s=number, **TOKEN) for number in range(3)]
    found = played(world, *jobs, resources=(consumable("token", 1),))

    assert found["main"] == {"j1": (65, 65), "j2": (130, 130)}


def test_units_that_never_come_back_give_nobody_a_start() -> None:
    """Of three two are used up by who runs, and one is left: the second to ask gets none."""
    world = World(max_vcpus=2)
    grants = [{"jobUid": f"uid-j{one}", "quantity": 1, "indexes": "0"} for one in range(2)]
    status = {"grants": grants}
    token = consumable("token", 3, kind="NON_REPLENISHABLE", status=status)
    jobs = [job(f"j{number}", at_s=number, **TOKEN) for number in range(4)]
    found = played(world, *jobs, resources=(token,))

    assert found["main"] == {"j2": (65, 65), "j3": None}


def test_who_was_granted_its_units_needs_none_of_those_that_are_left() -> None:
    """It waits for room only; what is left is for the one behind it."""
    world = World(max_vcpus=1)
    grant = {"jobUid": "uid-granted", "quantity": 1, "indexes": "0"}
    token = consumable("token", 2, kind="NON_REPLENISHABLE", status={"grants": [grant]})
    jobs = [job("first"), job("granted", at_s=1, **TOKEN), job("asks", at_s=2, **TOKEN)]
    found = played(world, *jobs, resources=(token,))

    assert found["main"] == {"granted": (65, 65), "asks": (130, 130)}


def test_who_waits_behind_units_that_never_come_back_is_told_of_its_own_start() -> None:
    """A job that nothing is left for stands aside."""
    world = World(max_vcpus=1)
    grant = {"jobUid": "uid-first", "quantity": 1, "indexes": "0"}
    token = consumable("token", 1, kind="NON_REPLENISHABLE", status={"grants": [grant]})
    jobs = [job("first", **TOKEN), job("none-left", at_s=1, **TOKEN), job("behind", at_s=2)]
    found = played(world, *jobs, resources=(token,))

    assert found["main"] == {"none-left": None, "behind": (65, 65)}
