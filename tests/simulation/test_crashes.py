"""The operator dies at every single write it makes, before it and after it, and nothing is lost.

Of a workload with many writes every 59th is tried, unless BATCH_OPERATOR_SWEEP=all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from batch_operator.simulator.process import Crash, When
from support.simulated import WORKLOADS, Trial, problems, undisturbed

if TYPE_CHECKING:
    from multiprocessing.pool import Pool
    from pathlib import Path

IS_WHOLE = os.environ.get("BATCH_OPERATOR_SWEEP") == "all"
MANY, STRIDE = 500, 59


def swept(writes: int) -> range:
    """The numbers of the writes to die at."""
    stride = STRIDE if writes >= MANY and not IS_WHOLE else 1
    return range(stride, writes + 1, stride)


@pytest.mark.parametrize("path", sorted(WORKLOADS.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.timeout(7200 if IS_WHOLE else 600)
def test_a_crash_at_any_write_changes_no_outcome(path: Path, pool: Pool) -> None:
    numbers = swept(undisturbed(path).writes)
    trials = [Trial(path, crash=Crash(number, when)) for number in numbers for when in When]
    found = problems(pool, trials)

    assert not found, f"{len(found)} of {len(trials)}; the first: {found[0]}"


def test_a_large_and_mixed_workload_is_among_them() -> None:
    assert undisturbed(WORKLOADS / "crowd.yaml").writes >= MANY
