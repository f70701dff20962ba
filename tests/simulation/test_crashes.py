"""The operator dies at every single write it makes, before it and after it, and nothing is lost."""

from __future__ import annotations

from functools import cache

import pytest

from batch_operator.simulator.process import Crash, When
from support.simulated import MIXED, command, run


@cache
def undisturbed() -> tuple[int, dict[str, tuple[str, int]]]:
    """How many writes a run without a crash makes, and how its jobs end."""
    outcome = run(MIXED)
    return outcome.writes, outcome.states()


@pytest.mark.parametrize("when", When)
@pytest.mark.timeout(300)
def test_a_crash_at_any_write_changes_no_outcome(when: When) -> None:
    writes, expected = undisturbed()
    for number in range(1, writes + 1):
        crash = Crash(number, when)
        outcome = run(MIXED, crash=crash)

        assert outcome.summary["operatorRestarts"] == 1
        assert _final(outcome.states()) == _final(expected), command(MIXED, crash=crash)


def _final(states: dict[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """Without the job that is deleted while it runs: what is known of it last may differ."""
    return {job: end for job, end in states.items() if job != "default/doomed"}
