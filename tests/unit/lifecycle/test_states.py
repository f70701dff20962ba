"""The table of transitions: what it allows, and that the documentation shows it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from batch_operator.api.job import JobState
from batch_operator.lifecycle.states import FINAL, TRANSITIONS, diagram, may_follow

S = JobState
ROOT = Path(__file__).resolve().parent.parent.parent.parent
# AWS user guide, "job states": what may be seen of a job after a state, however much was missed.
LATER: dict[JobState, set[JobState]] = {
    S.SUBMITTED: {S.PENDING, S.RUNNABLE, S.STARTING, S.RUNNING, S.SUCCEEDED, S.FAILED},
    S.PENDING: {S.RUNNABLE, S.STARTING, S.RUNNING, S.SUCCEEDED, S.FAILED},
    S.RUNNABLE: {S.RUNNABLE, S.STARTING, S.RUNNING, S.SUCCEEDED, S.FAILED},
    S.STARTING: {S.RUNNABLE, S.STARTING, S.RUNNING, S.SUCCEEDED, S.FAILED},
    S.RUNNING: {S.RUNNABLE, S.STARTING, S.RUNNING, S.SUCCEEDED, S.FAILED},
    S.SUCCEEDED: set(),
    S.FAILED: set(),
}


@pytest.mark.parametrize(("before", "after"), list(product(S, S)))
def test_a_state_is_followed_by_what_aws_lets_follow(before: JobState, after: JobState) -> None:
    assert may_follow(before, after) == (before is after or after in LATER[before])


def test_final_states_are_never_left() -> None:
    assert not [one for one in TRANSITIONS if one.source in FINAL]


def test_the_documentation_draws_and_lists_the_table() -> None:
    page = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    rows = [
        f"| {one.source} | {one.target} | {one.trigger} | {one.reason} |" for one in TRANSITIONS
    ]

    assert diagram() in page
    assert [one for one in rows if one not in page] == []
