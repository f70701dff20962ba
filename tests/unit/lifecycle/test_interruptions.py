"""Attempts on nodes that are about to be taken away."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api import meta
from batch_operator.lifecycle.attempt import Phase, observed_attempt
from batch_operator.lifecycle.interruptions import with_interrupted
from batch_operator.lifecycle.stops import Policy, Review, Stop, review
from support.builders import START, attempt, pod

if TYPE_CHECKING:
    from batch_operator.lifecycle.attempt import PodAttempt

TERMINATE = Stop("no more", "Terminated", "terminated: no more")
WORDS = "Host EC2 (instance spot-1) terminated."
NOTHING = Review({}, (), (), None)


def told(*attempts: PodAttempt, by: Review = NOTHING) -> list[tuple[str, str]]:
    found = with_interrupted(by, attempts, {"spot-1"}).to_move
    return [(one.pod_uid, mark) for one, mark in found]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING])
def test_what_such_a_node_has_is_ended_in_aws_s_words(phase: Phase) -> None:
    seen = attempt(phase, node_name="spot-1")

    assert told(seen) == [(seen.pod_uid, WORDS)]


@pytest.mark.parametrize(
    ("phase", "fields"),
    [
        (Phase.RUNNING, {"node_name": "spot-2"}),
        (Phase.UNBOUND, {"node_name": None}),
        (Phase.RUNNING, {"node_name": "spot-1", "stopping": True}),
        (Phase.RUNNING, {"node_name": "spot-1", "deleting": True}),
        (Phase.FAILED, {"node_name": "spot-1"}),
    ],
)
def test_what_runs_elsewhere_or_ends_already_is_left_alone(
    phase: Phase, fields: dict[str, Any]
) -> None:
    assert told(attempt(phase, **fields)) == []


def test_what_has_to_be_ended_for_another_reason_is_ended_for_that() -> None:
    seen = attempt(Phase.RUNNING, node_name="spot-1")
    terminated = review([seen], TERMINATE, None, Policy(), START)

    assert told(seen, by=terminated) == []


def test_every_node_of_a_gang_is_told_for_itself() -> None:
    main = attempt(Phase.RUNNING, node_name="spot-2", node_group=0)
    other = attempt(Phase.RUNNING, node_name="spot-1", node_group=1, pod_uid="other")

    assert told(main, other) == [("other", WORDS)]


def test_a_mark_on_a_pod_is_what_its_end_counts_as() -> None:
    """Whoever looks at it, also after a restart, when the node's notice may be gone."""
    made = pod(
        status={"phase": "Failed", "reason": "DeadlineExceeded"},
        annotations={meta.ANNOTATION_REQUEUED: WORDS},
    )
    seen = replace(observed_attempt(made), exit_code=143)
    counted = review([seen], None, None, Policy(), START).verdicts[seen.pod_uid]

    assert (counted.status_reason, counted.exit_code) == (WORDS, 143)
    assert counted.lost_its_host
    assert counted.retryable
