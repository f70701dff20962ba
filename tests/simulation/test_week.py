"""A night of the mixed load of `make bench-week`, under more interruptions than any cloud has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.week import HOUR_S, Result, Week, drawn_week, run

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

RATE = 1.0
"""A spot node lives for an hour in the mean."""
EVENING_S, LONGEST_S = 16 * HOUR_S, 3 * HOUR_S


@pytest.fixture(scope="module")
def week() -> Week:
    """What is submitted in the first day's last eight hours, in jobs of three hours at most."""
    late = (one for one in drawn_week(days=1, seed=2).works if one.at_s >= EVENING_S)
    return Week(
        [
            replace(one, at_s=one.at_s - EVENING_S, runs_s=min(one.runs_s, LONGEST_S))
            for one in late
        ],
        refusals=[
            {"at": "6h15m", "refuseCapacity": {"computeEnvironment": "mixed", "for": "20m"}},
        ],
    )


@pytest.fixture(scope="module")
def results(week: Week, pool: Pool) -> list[Result]:
    """On spot, the same again in another process, and without spot."""
    return pool.starmap(run, [(week, RATE), (week, RATE), (week, None)], chunksize=1)


def test_no_job_is_lost_however_many_nodes_are(results: list[Result]) -> None:
    spot, _, on_demand = results

    assert [one.lost for one in results] == [[], [], []]
    assert [one.outcome.violations for one in results] == [(), (), ()]
    assert spot.interrupted > 10
    assert on_demand.interrupted == 0


def test_spot_costs_less_than_on_demand_and_more_than_perfect_packing(
    results: list[Result], week: Week
) -> None:
    spot, _, on_demand = results

    assert week.lower_bound < spot.cost < on_demand.cost
    assert spot.part("idle") < 0.6
    assert 0 < spot.part("wasted") < 0.2


def test_the_same_night_comes_out_the_same(results: list[Result]) -> None:
    first, again, _ = results

    assert first.outcome.json_lines() == again.outcome.json_lines()
