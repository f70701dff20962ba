"""How much is looked at in one cycle, and that what is left is not forgotten."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import pytest

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling import changed
from batch_operator.scheduling.changed import ATTEMPTS_PER_LOOK
from batch_operator.scheduling.cycle import run_cycle
from support.builders import attempt, job
from support.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUND = 100


@pytest.fixture(autouse=True)
def _smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changed, "LOOKS_MAX", BOUND)


def looks(world: World) -> Iterator[int]:
    """How many jobs each cycle looks at, in a world where nothing is written."""
    while True:
        result = run_cycle(world.cache.snapshot(world.now, Policy(), 0), world.memo)
        assert not result.faults
        yield result.looked_at


def test_a_survey_of_many_jobs_takes_several_cycles_and_reaches_them_all() -> None:
    world = World()
    for number in range(BOUND * 2 + 1):
        world.submit(job(f"j{number}"))

    assert list(takewhile(bool, looks(world))) == [BOUND, BOUND, 1]


def test_jobs_of_which_much_runs_are_fewer_in_a_cycle() -> None:
    """Five arrays, each with as many attempts as cost half a cycle."""
    world = World()
    count = ATTEMPTS_PER_LOOK * BOUND // 2
    pods = []
    for number in range(5):
        name = f"a{number}"
        world.submit(job(name, arrayProperties={"size": 10_000}))
        pods += [
            attempt(
                Phase.RUNNING, job_uid=f"uid-{name}", pod_uid=f"{name}-{index}",
                pod_name=f"{name}-{index}", index=index % 10_000,
            )
            for index in range(count)
        ]  # fmt: skip
    world.cache.pods.replace(pods, 100)

    assert list(takewhile(bool, looks(world))) == [2, 2, 1]
