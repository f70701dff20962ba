"""The rows of a multi-node job's status: its nodes by state, range by range."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.api.job import BatchJobStatus, JobState, NodeRangeStatus
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.dependencies import Gate
from batch_operator.lifecycle.evaluate import Evaluation, evaluate
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.members import members_of
from batch_operator.lifecycle.node_rows import node_rows
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.lifecycle.stops import Policy
from support.builders import START, attempt, definition, job, multi_node_spec

ASSUMED, UNBOUND, STARTING = Phase.ASSUMED, Phase.UNBOUND, Phase.STARTING
RUNNING, SUCCEEDED, FAILED = Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED


def node(group: int, member: int, phase: Phase, number: int = 1) -> PodAttempt:
    name = f"p-{number}-{group}-{member}"
    place: dict[str, Any] = {"node_group": group, "member": member, "gated": phase is UNBOUND}
    return attempt(phase, number=number, pod_name=name, pod_uid=f"uid-{name}", **place)


def looked(*pods: PodAttempt, ranges: tuple[str, ...] = (), **of: Any) -> Evaluation:
    """A look at a job of three nodes, tried twice, unless something else is said."""
    spec = multi_node_spec(*ranges, **{"numNodes": 3, "retryStrategy": {"attempts": 2}, **of})
    one = job()
    plan = make_plan(one, definition(spec=spec), None)
    assert isinstance(plan, Plan)
    gate = Gate(members_of(one))
    return evaluate(one, pods, plan, gate, policy=Policy(), now=START)


def rows(
    look: Evaluation, state: JobState = JobState.RUNNING
) -> list[tuple[str, str, dict[str, int]]]:
    found = node_rows(look, state)
    return [
        (one.target_nodes, one.state.value, {k.value: v for k, v in one.status_summary.items()})
        for one in found
    ]


MAIN = node(0, 0, RUNNING)
SUMMARIES: dict[str, tuple[list[PodAttempt], str, dict[str, int]]] = {
    "the one that is furthest": (
        [MAIN, node(1, 0, STARTING), node(1, 1, UNBOUND)],
        "RUNNING",
        {"RUNNABLE": 1, "STARTING": 1, "RUNNING": 1},
    ),
    "of those that are not over": (
        [node(0, 0, STARTING), node(1, 0, SUCCEEDED), node(1, 1, FAILED)],
        "STARTING",
        {"STARTING": 1, "SUCCEEDED": 1, "FAILED": 1},
    ),
    "one whose Pod is not there may run": (
        [MAIN, node(1, 0, FAILED)],
        "RUNNING",
        {"RUNNABLE": 1, "RUNNING": 1, "FAILED": 1},
    ),
    "all have ended well": (
        [node(0, 0, SUCCEEDED), node(1, 0, SUCCEEDED), node(1, 1, SUCCEEDED)],
        "SUCCEEDED",
        {"SUCCEEDED": 3},
    ),
    "one has failed": (
        [node(0, 0, SUCCEEDED), node(1, 0, FAILED), node(1, 1, SUCCEEDED)],
        "FAILED",
        {"SUCCEEDED": 2, "FAILED": 1},
    ),
    "those that are being stopped when the job ends": (
        [node(0, 0, SUCCEEDED), node(1, 0, RUNNING), node(1, 1, SUCCEEDED)],
        "FAILED",
        {"SUCCEEDED": 2, "FAILED": 1},
    ),
}


@pytest.mark.parametrize("what", SUMMARIES)
def test_the_nodes_of_a_range_are_summed_up(what: str) -> None:
    pods, state, summary = SUMMARIES[what]

    assert rows(looked(*pods)) == [("0:", state, summary)]


@pytest.mark.parametrize(
    ("state", "expected"),
    [("SUBMITTED", "SUBMITTED"), ("PENDING", "PENDING"), ("RUNNABLE", "RUNNABLE")]
    + [("STARTING", "RUNNABLE"), ("RUNNING", "RUNNABLE")],
)
def test_nodes_without_pods_are_where_the_job_is_and_at_most_runnable(
    state: str, expected: str
) -> None:
    assert rows(looked(), JobState(state)) == [("0:", expected, {expected: 3})]


def test_there_is_a_row_for_each_range_in_the_order_of_their_nodes() -> None:
    """A range of which the main node is one has one row, although it is two groups."""
    pods = [MAIN, node(3, 0, STARTING), node(2, 0, FAILED)]
    look = looked(*pods, ranges=("10:", "2:9", ":1"), numNodes=12)

    assert rows(look) == [
        (":1", "RUNNING", {"STARTING": 1, "RUNNING": 1}),
        ("2:9", "RUNNABLE", {"RUNNABLE": 7, "FAILED": 1}),
        ("10:", "RUNNABLE", {"RUNNABLE": 2}),
    ]


def test_ranges_that_begin_alike_are_in_the_order_of_their_texts() -> None:
    look = looked(ranges=("0:1", "0:"), numNodes=3)

    assert [one for one, _, _ in rows(look)] == ["0:", "0:1"]


def test_the_nodes_of_an_attempt_that_was_counted_are_not_those_of_the_next() -> None:
    first = [node(0, 0, FAILED), node(1, 0, RUNNING)]
    second = [node(0, 0, STARTING, number=2)]

    assert rows(looked(*first)) == [("0:", "RUNNABLE", {"RUNNABLE": 3})]
    assert rows(looked(*first, *second)) == [("0:", "STARTING", {"RUNNABLE": 2, "STARTING": 1})]


def test_a_job_that_is_over_shows_the_nodes_of_its_last_attempt() -> None:
    first = [node(0, 0, FAILED), node(1, 0, FAILED), node(1, 1, FAILED)]
    second = [node(0, 0, SUCCEEDED, number=2), node(1, 0, SUCCEEDED, number=2)]
    second.append(node(1, 1, SUCCEEDED, number=2))

    assert rows(looked(*first, *second)) == [("0:", "SUCCEEDED", {"SUCCEEDED": 3})]


def test_the_rows_stay_while_what_the_job_runs_is_not_known() -> None:
    known = [NodeRangeStatus(target_nodes="0:", state=JobState.RUNNING)]
    one = job(status=BatchJobStatus(state=JobState.RUNNING, nodes=known))
    missing = Hold(Reason.JOB_DEFINITION_NOT_FOUND, "apply it", stalled=True)
    gate = Gate(members_of(one))
    look = evaluate(one, [], missing, gate, policy=Policy(), now=START)

    assert node_rows(look, JobState.RUNNING) == known
