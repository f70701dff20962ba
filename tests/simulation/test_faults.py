"""API calls and watches fail at random, by seed; when that stops, everything ends as it should.

BATCH_OPERATOR_SEEDS sets how many seeds are tried (nightly: thousands), BATCH_OPERATOR_FIRST_SEED
where they begin.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.simulated import EXAMPLES, GANGS, MIXED, command, run

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = int(os.environ.get("BATCH_OPERATOR_SEEDS", "25"))
FIRST = int(os.environ.get("BATCH_OPERATOR_FIRST_SEED", "1"))
EXACT = [path for path in EXAMPLES if path.stem in {"array-with-failures", "pipeline", "retry"}]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_a_bad_day_changes_no_outcome(seed: int) -> None:
    expected = run(MIXED).states()
    states = run(MIXED, seed=seed, faults=True).states()

    expected.pop("default/doomed")
    states.pop("default/doomed")
    assert states == expected, command(MIXED, seed=seed, faults=True)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_gangs_survive_a_bad_day(seed: int) -> None:
    expected = run(GANGS).states()
    states = run(GANGS, seed=seed, faults=True).states()

    # On a bad day the request to terminate may come before the job has started.
    assert {expected.pop("default/terminated")[0]} == {states.pop("default/terminated")[0]}
    assert states == expected, command(GANGS, seed=seed, faults=True)


@pytest.mark.parametrize("path", EXACT, ids=lambda path: path.stem)
def test_examples_end_alike_on_a_bad_day(path: Path) -> None:
    expected = run(path).states()

    assert run(path, seed=3, faults=True).states() == expected, command(path, seed=3, faults=True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_keep_every_invariant_on_a_bad_day(path: Path) -> None:
    run(path, seed=5, faults=True)
