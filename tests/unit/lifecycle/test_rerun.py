"""What lets the failed indexes of another array run again, and what is said until then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import ArrayStatus, BatchJobStatus, JobState
from batch_operator.lifecycle.dependencies import Gate, Upstream, gate
from batch_operator.lifecycle.evaluate import Evaluation, evaluate, upstream_of
from batch_operator.lifecycle.holds import Reason
from batch_operator.lifecycle.members import awaited_array, members_of, told_size
from batch_operator.lifecycle.plan import Invalid
from batch_operator.lifecycle.rerun import rerun_gate
from batch_operator.lifecycle.status import status_of
from batch_operator.lifecycle.stops import Policy
from support.builders import START, job, plan

OVER = Upstream(
    JobState.FAILED, IndexSet.range(9), IndexSet.range(7), IndexSet.of([7, 8]), is_array=True
)


def rerun(status: BatchJobStatus | None = None, **spec: Any) -> Any:
    return job("again", status=status, arrayProperties={"rerunFailedOf": "a"}, **spec)


def recorded(members: str) -> BatchJobStatus:
    size = len(IndexSet.parse(members))
    return BatchJobStatus(state=JobState.PENDING, array=ArrayStatus(size=size, members=members))


def looked(
    stored: Any, opened: Gate, of: Invalid | None = None
) -> tuple[Evaluation, BatchJobStatus]:
    look = evaluate(stored, [], of or plan(), opened, policy=Policy(), now=START)
    return look, status_of(look, None, START)


HELD: dict[str, tuple[Upstream | None, str, str, bool]] = {
    "there is no such job": (
        None,
        "DependencyNotFound",
        "runs the failed indexes of a again, which does not exist in this namespace: apply it, or "
        "submit this job again with the indexes",
        True,
    ),
    "it is no array": (
        replace(OVER, is_array=False),
        "DependencyInvalid",
        "rerunFailedOf: a is no array: submit it again, or name an array in rerunFailedOf",
        True,
    ),
    "it is not over": (
        replace(OVER, state=JobState.PENDING),
        "WaitingForDependencies",
        "waits for a to end, to run its failed indexes again",
        False,
    ),
    "it ended without children": (
        replace(OVER, knows_members=False, members=IndexSet(), failed=IndexSet()),
        "DependencyInvalid",
        "rerunFailedOf: a ended before it had children: name the array that it was to rerun",
        True,
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_a_rerun_waits_and_says_for_what(name: str) -> None:
    array, reason, message, stalled = HELD[name]
    look, status = looked(rerun(), rerun_gate("a", array))

    assert look.ending is None
    assert status.state is JobState.PENDING
    assert status.array is None
    assert status.pending is not None
    assert (status.pending.reason, status.pending.message) == (reason, message)
    assert status.pending.blocked_by == ["a"]
    assert [one.type for one in status.conditions] == ["Stalled" if stalled else "Reconciling"]


def test_what_failed_is_recorded_before_anything_starts() -> None:
    look, status = looked(rerun(), rerun_gate("a", OVER))

    assert look.start_limit == 0
    assert status.state is JobState.PENDING
    assert status.array is not None
    assert (status.array.members, status.array.size) == ("7-8", 2)
    assert status.array.indexes.pending == "7-8"


def test_what_is_recorded_are_the_children() -> None:
    stored = rerun(recorded("7-8"))
    look, status = looked(stored, Gate(members_of(stored)))

    assert awaited_array(stored) is None
    assert upstream_of(stored).is_rerun
    assert str(members_of(stored)) == "7-8"
    assert (str(look.startable), look.start_limit) == ("7-8", 2)
    assert status.array is not None
    assert status.array.members == "7-8"


def test_as_long_as_no_children_are_recorded_the_array_is_awaited() -> None:
    """Whatever else the status says of its children."""
    assert awaited_array(rerun()) == "a"
    assert awaited_array(rerun(BatchJobStatus(array=ArrayStatus(size=0)))) == "a"


TOLD_SIZES: dict[str, tuple[Any, int]] = {
    "a job that is no array": (job(), 1),
    "all indexes below a size": (job(arrayProperties={"size": 5}), 5),
    "a few indexes": (job(arrayProperties={"indexes": "0,7"}), 8),
    "a few indexes below a size": (job(arrayProperties={"size": 10, "indexes": "0,7"}), 10),
    "a rerun, of the size that is recorded": (
        rerun(BatchJobStatus(array=ArrayStatus(size=2, members="7-8", told_size=20))),
        20,
    ),
    "a rerun of before sizes were recorded": (rerun(recorded("7-8")), 9),
}


@pytest.mark.parametrize("of", TOLD_SIZES)
def test_the_children_are_told_a_size_that_is_above_each_of_their_indexes(of: str) -> None:
    """AWS Batch, AWS_BATCH_JOB_ARRAY_SIZE."""
    stored, expected = TOLD_SIZES[of]

    assert told_size(stored) == expected


def test_a_rerun_of_an_array_of_which_nothing_failed_succeeds_at_once() -> None:
    _, status = looked(rerun(), rerun_gate("a", replace(OVER, failed=IndexSet())))

    assert status.state is JobState.SUCCEEDED
    assert status.status_reason == "nothing failed in a: nothing to run again"
    assert [one.type for one in status.conditions] == ["Complete"]
    assert status.array is not None
    assert status.array.size == 0


STOPS: dict[str, tuple[dict[str, Any], Invalid | None, str]] = {
    "cancelled": ({"cancel": {"reason": "not needed"}}, None, "not needed"),
    "terminated": ({"terminate": {"reason": "wrong"}}, None, "wrong"),
    "invalid": ({}, Invalid("size 3 is wrong"), "Invalid job: size 3 is wrong"),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_rerun_that_is_ended_before_it_has_children_fails(name: str) -> None:
    spec, of, reason = STOPS[name]
    look, status = looked(rerun(**spec), rerun_gate("a", None), of)

    assert (status.state, status.status_reason) == (JobState.FAILED, reason)
    assert status.array is None
    assert not upstream_of(replace(look.job, status=status)).knows_members


def test_one_that_is_cancelled_in_the_look_that_finds_its_children_fails_with_them() -> None:
    _, status = looked(rerun(cancel={"reason": "no"}), rerun_gate("a", OVER))

    assert status.state is JobState.FAILED
    assert status.array is not None
    assert (status.array.members, status.array.indexes.failed) == ("7-8", "7-8")


DEPENDENCIES: dict[str, dict[str, Any]] = {
    "child by child": {"type": "N_TO_N"},
    "on one child": {"index": 3},
    "on the whole": {},
}


def asked(dependency: dict[str, Any], again: Upstream) -> Gate:
    """What a dependency on job `again` says of an array of three."""
    dependent = job(dependsOn=[{"job": "again", **dependency}], arrayProperties={"size": 3})
    return gate(dependent.spec, upstream_of(dependent), IndexSet(), {"again": again})


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_who_depends_on_a_rerun_waits_until_its_children_are_known(name: str) -> None:
    found = asked(DEPENDENCIES[name], upstream_of(rerun()))

    assert not found.open | found.doomed
    assert found.hold is not None
    assert found.hold.message == "waits for again to succeed"
    assert found.hold.reason is Reason.WAITING_FOR_DEPENDENCIES


@pytest.mark.parametrize("name", DEPENDENCIES)
def test_who_depends_on_a_rerun_that_ended_without_children_fails(name: str) -> None:
    over = upstream_of(rerun(BatchJobStatus(state=JobState.FAILED)))
    found = asked(DEPENDENCIES[name], over)

    assert str(found.doomed) == "0-2"
    assert found.doom is not None
    assert found.doom.status_reason == "Dependent Job failed"


def test_what_runs_after_a_failure_runs_after_a_rerun_that_ended_without_children() -> None:
    over = upstream_of(rerun(BatchJobStatus(state=JobState.FAILED)))

    assert str(asked({"index": 3, "type": "AFTER_FAILED"}, over).open) == "0-2"


def test_child_by_child_what_a_rerun_does_not_run_again_has_succeeded_before() -> None:
    """A pipeline of two steps is run again: in the second more has failed than in the first."""
    found = asked({"type": "N_TO_N"}, upstream_of(rerun(recorded("1"))))

    assert found.hold is not None
    assert found.hold.reason is Reason.WAITING_FOR_DEPENDENCIES
    assert str(found.open) == "0,2"
