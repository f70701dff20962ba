"""Which attempts of a suspended job are taken back, and which go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batch_operator.api.index_set import IndexSet
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.stops import Policy, Review, review
from batch_operator.lifecycle.suspension import MARK, with_suspended
from support.builders import START, attempt

NOBODY = IndexSet()
NO_NODE: dict[str, Any] = {"node_name": None, "started_at": None}
WAITS = attempt(Phase.UNBOUND, **NO_NODE)
MAIN = replace(WAITS, node_group=0, gated=True)
TAKEN_BACK: dict[str, tuple[PodAttempt, bool]] = {
    "waits for a node": (WAITS, True),
    "has a node": (attempt(Phase.STARTING), False),
    "runs": (attempt(Phase.RUNNING), False),
    "is only asked for": (attempt(Phase.ASSUMED, pod_uid="", **NO_NODE), False),
    "is being deleted": (replace(WAITS, deleting=True), False),
    "is the main node of a gang that is not complete": (MAIN, True),
    "is the Job that is to make the main node": (
        replace(MAIN, phase=Phase.ASSUMED, members=1),
        True,
    ),
    "is another node of a gang": (replace(MAIN, node_group=1), False),
}


def untouched(one: PodAttempt) -> Review:
    return review([one], None, None, Policy(), START)


@pytest.mark.parametrize("what", TAKEN_BACK)
def test_of_a_suspended_job_an_attempt_is_taken_back_or_not_that(what: str) -> None:
    one, is_taken_back = TAKEN_BACK[what]
    found = with_suspended(untouched(one), [one], NOBODY)

    assert found.to_move == (((one, MARK),) if is_taken_back else ())


def test_a_child_that_has_been_requeued_too_often_keeps_its_pod() -> None:
    other = attempt(Phase.UNBOUND, index=1, **NO_NODE)
    found = with_suspended(untouched(WAITS), [WAITS, other], IndexSet.of([0]))

    assert found.to_move == ((other, MARK),)


ENDS_ANYWAY: dict[str, dict[str, Any]] = {
    "it is to be stopped": {"to_stop": (WAITS,)},
    "it moves to another environment": {"to_move": ((WAITS, "Moved"),)},
    "it has failed": {"verdicts": {WAITS.pod_uid: replace(WAITS, phase=Phase.FAILED)}},
}


@pytest.mark.parametrize("why", ENDS_ANYWAY)
def test_what_ends_anyway_ends_for_the_reason_that_it_had(why: str) -> None:
    reviewed = replace(untouched(WAITS), **ENDS_ANYWAY[why])

    assert with_suspended(reviewed, [WAITS], NOBODY) is reviewed
