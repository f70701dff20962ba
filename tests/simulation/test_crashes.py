"""The operator dies at every single write it makes, before it and after it, and nothing is lost."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from batch_operator.simulator.process import Crash, When
from support.simulated import GANGS, MIXED, command, run

if TYPE_CHECKING:
    from pathlib import Path


@cache
def undisturbed(path: Path) -> tuple[int, dict[str, tuple[str, int]]]:
    """How many writes a run without a crash makes, and how its jobs end."""
    outcome = run(path)
    return outcome.writes, outcome.states()


@pytest.mark.parametrize("path", [MIXED, GANGS], ids=lambda path: path.stem)
@pytest.mark.parametrize("when", When)
@pytest.mark.timeout(300)
def test_a_crash_at_any_write_changes_no_outcome(path: Path, when: When) -> None:
    writes, expected = undisturbed(path)
    for number in range(1, writes + 1):
        crash = Crash(number, when)
        outcome = run(path, crash=crash)

        assert outcome.summary["operatorRestarts"] == 1
        assert _final(outcome.states()) == _final(expected), command(path, crash=crash)


def _final(states: dict[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """Without the job that is deleted while it runs: what is known of it last may differ."""
    return {job: end for job, end in states.items() if job != "default/doomed"}
