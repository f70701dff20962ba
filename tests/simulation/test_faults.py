"""API calls and watches fail at random, by seed; when that stops, everything ends as it should.

BATCH_OPERATOR_SEEDS sets how many seeds are tried (nightly: thousands), BATCH_OPERATOR_FIRST_SEED
where they begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.simulated import (
    EXAMPLES,
    FIRST_SEED,
    SEEDS,
    WORKLOADS,
    Trial,
    problem,
    problems,
    run,
)

if TYPE_CHECKING:
    from multiprocessing.pool import Pool
    from pathlib import Path

EXACT = [path for path in EXAMPLES if path.stem in {"array-with-failures", "pipeline", "retry"}]


@pytest.mark.parametrize("path", sorted(WORKLOADS.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.timeout(300 + 10 * SEEDS)
def test_a_bad_day_changes_no_outcome(path: Path, pool: Pool) -> None:
    trials = [Trial(path, seed, faults=True) for seed in range(FIRST_SEED, FIRST_SEED + SEEDS)]
    found = problems(pool, trials)

    assert not found, f"{len(found)} of {len(trials)}; the first: {found[0]}"


@pytest.mark.parametrize("path", EXACT, ids=lambda path: path.stem)
def test_examples_end_alike_on_a_bad_day(path: Path) -> None:
    assert problem(Trial(path, seed=3, faults=True)) is None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_keep_every_invariant_on_a_bad_day(path: Path) -> None:
    run(path, seed=5, faults=True)
