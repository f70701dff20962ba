"""The operator dies at every single write it makes, before it and after it, and nothing is lost."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from batch_operator.simulator.process import Crash, When
from support.simulated import WORKLOADS, command, ends, run

if TYPE_CHECKING:
    from pathlib import Path

    from batch_operator.simulator.report import Outcome


@cache
def undisturbed(path: Path) -> Outcome:
    return run(path)


@pytest.mark.parametrize("path", sorted(WORKLOADS.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("when", When)
@pytest.mark.timeout(300)
def test_a_crash_at_any_write_changes_no_outcome(path: Path, when: When) -> None:
    expected = ends(path, undisturbed(path))
    for number in range(1, undisturbed(path).writes + 1):
        crash = Crash(number, when)
        outcome = run(path, crash=crash)

        assert outcome.summary["operatorRestarts"] == 1
        assert ends(path, outcome) == expected, command(path, crash=crash)
