"""One look at a job: what may start, what is over and why, and when to look again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import ArrayStatus, BatchJobStatus, JobState
from batch_operator.api.job_queue import JobStateTimeLimitAction
from batch_operator.lifecycle.attempt import Phase, PodAttempt, StartError
from batch_operator.lifecycle.dependencies import Doom, Gate
from batch_operator.lifecycle.evaluate import (
    Evaluation,
    Refusal,
    evaluate,
    evaluate_final,
    upstream_of,
)
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.members import members_of
from batch_operator.lifecycle.multi_node import NodeGroup
from batch_operator.lifecycle.plan import Invalid, Plan
from batch_operator.lifecycle.status import status_of
from batch_operator.lifecycle.stops import Policy
from batch_operator.lifecycle.stored_counts import counted_in, dependencies_met, passed_in
from batch_operator.lifecycle.surroundings import Surroundings
from support.builders import START, attempt, job, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED, RUNNING, STARTING, SUCCEEDED = (
    Phase.FAILED,
    Phase.RUNNING,
    Phase.STARTING,
    Phase.SUCCEEDED,
)
EXITED = "Essential container in task exited"
NOW = START + timedelta(seconds=100)
ARRAY = {"size": 4}
NOT_FOUND = Hold(Reason.JOB_DEFINITION_NOT_FOUND, "apply it", stalled=True)
DISABLED = Hold(Reason.JOB_QUEUE_DISABLED, "it starts nothing new")
WAITS = Hold(Reason.WAITING_FOR_DEPENDENCIES, "waits for a to succeed", blocked_by=("a",))


def after_s(seconds: float) -> Any:
    return START + timedelta(seconds=seconds)


def looked(
    *attempts: PodAttempt,
    status: dict[str, Any] | None = None,
    of: Plan | Hold | Invalid | None = None,
    gate: Gate | None = None,
    deleting: bool = False,
    at_s: float = 100,
    queue_hold: Hold | None = None,
    refusal: Refusal | None = None,
    grace_s: float = 60,
    retry: dict[str, Any] | None = None,
    rules: Sequence[JobStateTimeLimitAction] = (),
    **spec: Any,
) -> Evaluation:
    """A look at job `job` at `at_s`; its plan is one of `retry` unless `of` is given."""
    stored = replace(
        job(status=BatchJobStatus.model_validate(status or {}), **spec), deleting=deleting
    )
    own = plan(**(retry or {}))
    own = replace(own, timeout=stored.spec.timeout)
    return evaluate(
        stored,
        attempts,
        own if of is None else of,
        gate or Gate(members_of(stored)),
        policy=Policy(start_failure_grace_s=grace_s),
        now=after_s(at_s),
        queue_hold=queue_hold,
        refusal=refusal,
        around=Surroundings(rules=rules),
    )


def ending(look: Evaluation) -> tuple[str, str, str] | None:
    """State, statusReason and token of how the job ends."""
    if look.ending is None:
        return None
    return look.ending.state, look.ending.status_reason, look.ending.token


# What a job consists of, and what its status says has been


MEMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "a job that is no array": ({}, "0"),
    "an array of a size": ({"arrayProperties": {"size": 3}}, "0-2"),
    "an array of named indexes": ({"arrayProperties": {"indexes": "4-5,17"}}, "4-5,17"),
    "an array that names none right": ({"arrayProperties": {"indexes": "9-4"}}, "0"),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_job_consists_of(name: str) -> None:
    spec, expected = MEMBERS[name]

    assert str(members_of(job(**spec))) == expected


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {"attempt": number, "podName": f"p{number}", "podUid": f"u{number}", **fields}


OVER = {"stoppedAt": "2026-01-01T00:00:20Z"}
ROWS: dict[str, tuple[dict[str, Any], tuple[str, str, int]]] = {
    "none has begun": ({}, ("", "", 0)),
    "the first runs": ({"state": "RUNNING", "attempts": [row(1)]}, ("", "", 0)),
    "the first is over": ({"state": "RUNNABLE", "attempts": [row(1, **OVER)]}, ("", "", 1)),
    "the second runs": (
        {"state": "RUNNING", "attempts": [row(1, **OVER), row(2)]},
        ("", "", 1),
    ),
    "the job has succeeded": (
        {"state": "SUCCEEDED", "attempts": [row(1, **OVER), row(2, **OVER)]},
        ("0", "", 0),
    ),
    "the job has failed": ({"state": "FAILED", "attempts": [row(1, **OVER)]}, ("", "0", 0)),
}


@pytest.mark.parametrize("name", ROWS)
def test_of_a_job_that_is_no_array_its_rows_tell_what_was_counted(name: str) -> None:
    status, (succeeded, failed, used) = ROWS[name]
    counted = counted_in(job(status=BatchJobStatus.model_validate(status)))

    assert (str(counted.succeeded), str(counted.failed)) == (succeeded, failed)
    assert counted.used(0) == used


def test_of_such_a_job_its_rows_tell_too_how_often_its_node_rejected_it() -> None:
    """It costs no try, so it must be known after a restart."""
    rejected = {**row(1, **OVER), "reason": "Rejected by its node: OutOfcpu"}
    preempted = {**row(2, **OVER), "statusReason": "Preempted: made room for job b"}
    status = {"state": "RUNNABLE", "attempts": [rejected, preempted, row(3, **OVER)]}
    counted = counted_in(job(status=BatchJobStatus.model_validate(status)))

    assert (counted.used(0), counted.times_requeued(0)) == (3, 2)


COUNTED_ARRAY = {
    "state": "PENDING",
    "array": {
        "size": 6,
        "statusSummary": {"PENDING": 1, "RUNNABLE": 2, "SUCCEEDED": 1, "FAILED": 2},
        "indexes": {"pending": "5", "runnable": "0-1", "succeeded": "2", "failed": "3-4"},
        "attempts": [{"attempts": 2, "indexes": "1"}],
        "failures": [
            {"exitCode": 1, "statusReason": EXITED, "indexes": "3"},
            {"statusReason": "Dependent Job failed", "indexes": "4"},
        ],
    },
}


def stored_array() -> Any:
    return job(status=BatchJobStatus.model_validate(COUNTED_ARRAY), arrayProperties={"size": 6})


def test_of_an_array_its_intervals_tell_what_was_counted() -> None:
    counted = counted_in(stored_array())

    assert (str(counted.members), str(counted.succeeded), str(counted.failed)) == (
        "0-5",
        "2",
        "3-4",
    )
    assert [counted.used(index) for index in range(6)] == [0, 2, 0, 0, 0, 0]
    assert counted.failures == {
        (1, None, EXITED): IndexSet.of([3]),
        (None, None, "Dependent Job failed"): IndexSet.of([4]),
    }


def test_children_that_are_past_their_dependencies_stay_so() -> None:
    assert str(passed_in(stored_array())) == "0-4"


PASSED: dict[JobState, bool] = {
    JobState.SUBMITTED: False,
    JobState.PENDING: False,
    JobState.RUNNABLE: True,
    JobState.STARTING: True,
    JobState.RUNNING: True,
    JobState.SUCCEEDED: True,
    JobState.FAILED: True,
}


@pytest.mark.parametrize("state", JobState)
def test_a_job_is_past_its_dependencies_from_runnable_on(state: JobState) -> None:
    """AWS Batch, job states."""
    status = BatchJobStatus(state=state)

    assert dependencies_met(status) is PASSED[state]
    assert bool(passed_in(job(status=status))) is PASSED[state]


@pytest.mark.parametrize("state", JobState)
def test_an_array_is_past_its_dependencies_when_all_of_its_children_are(state: JobState) -> None:
    """However many others are on: only then does it wait for nobody any more."""
    counts = {JobState.RUNNING: 3, JobState.SUCCEEDED: 2, state: 1}
    array = ArrayStatus(size=sum(counts.values()), status_summary=counts)

    assert dependencies_met(BatchJobStatus(array=array)) is PASSED[state]


def test_an_array_of_which_nothing_was_stored_is_past_nothing() -> None:
    assert not passed_in(job(arrayProperties=ARRAY))


def test_others_see_of_a_job_what_is_stored() -> None:
    seen = upstream_of(stored_array())

    assert (seen.state, seen.is_array, seen.is_rerun) == (JobState.PENDING, True, False)
    assert (str(seen.members), str(seen.succeeded), str(seen.failed)) == ("0-5", "2", "3-4")


# What may start


def test_a_job_that_nothing_holds_may_start() -> None:
    look = looked()

    assert (str(look.startable), look.start_limit, look.hold, look.ending) == ("0", 1, None, None)


@pytest.mark.parametrize("phase", [Phase.ASSUMED, Phase.UNBOUND, STARTING, RUNNING])
def test_nothing_starts_beside_an_attempt_that_lives(phase: Phase) -> None:
    """AWS Batch: one attempt of a job at a time."""
    assert not looked(attempt(phase), retry={"attempts": 3}).startable


LIMITS: dict[str, tuple[dict[str, Any], list[PodAttempt], tuple[str, int]]] = {
    "all children of an array": (ARRAY, [], ("0-3", 4)),
    "named indexes": ({"indexes": "3,5"}, [], ("3,5", 2)),
    "those that have no Pod": (ARRAY, [attempt(RUNNING, index=1)], ("0,2-3", 3)),
    "as many as maxParallel": ({**ARRAY, "maxParallel": 2}, [], ("0-3", 2)),
    "as many as maxParallel leaves": (
        {**ARRAY, "maxParallel": 2},
        [attempt(RUNNING, index=1)],
        ("0,2-3", 1),
    ),
    "none, when maxParallel is reached": (
        {**ARRAY, "maxParallel": 1},
        [attempt(Phase.ASSUMED, index=1)],
        ("", 0),
    ),
    "as many as maxParallel says, when one has ended": (
        {**ARRAY, "maxParallel": 1},
        [attempt(SUCCEEDED, index=1)],
        ("0,2-3", 1),
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_there_may_start(name: str) -> None:
    array, attempts, expected = LIMITS[name]
    look = looked(*attempts, arrayProperties=array)

    assert (str(look.startable), look.start_limit) == expected


def test_a_job_that_is_being_deleted_starts_nothing() -> None:
    assert looked(deleting=True).start_limit == 0


def test_children_that_wait_for_their_dependencies_do_not_start() -> None:
    look = looked(arrayProperties=ARRAY, gate=Gate(IndexSet.of([1, 3]), hold=WAITS))

    assert (str(look.startable), str(look.gated), look.hold) == ("1,3", "0,2", None)
    assert look.gate_hold == WAITS


def test_children_that_run_wait_for_no_values() -> None:
    """Somebody has made their ConfigMap anew: it is not read again for those that have theirs."""
    changed = Hold(Reason.PARAMETERS_NOT_READY, "it has other lines", stalled=True)
    of = replace(plan(), hold=changed)
    one, both = ([attempt(RUNNING, index=index) for index in range(count)] for count in (1, 2))

    assert looked(*one, of=of, arrayProperties={"size": 2}).hold == changed
    assert looked(*both, of=of, arrayProperties={"size": 2}).hold is None


def test_children_that_run_wait_for_nobody_whatever_became_of_their_dependencies() -> None:
    """The status that let them through is not stored yet, and what they waited for is deleted."""
    children = [attempt(RUNNING, index=one) for one in range(2)]
    gone = Gate(IndexSet(), hold=WAITS)
    status = status_of(looked(*children, gate=gone, arrayProperties={"size": 2}), None, NOW)

    assert status.pending is not None
    assert status.pending.message == "0 of 2 children have ended, 2 running"
    assert status.pending.blocked_by == []


HELD: dict[str, tuple[dict[str, Any], str | None]] = {
    "nothing": ({}, None),
    "its definition": ({"of": NOT_FOUND}, "JobDefinitionNotFound"),
    "its definition, whatever else": (
        {"of": NOT_FOUND, "queue_hold": DISABLED, "suspend": True},
        "JobDefinitionNotFound",
    ),
    "its dependencies": ({"gate": Gate(IndexSet(), hold=WAITS)}, "WaitingForDependencies"),
    "its dependencies, before its queue": (
        {"gate": Gate(IndexSet(), hold=WAITS), "queue_hold": DISABLED},
        "WaitingForDependencies",
    ),
    "whoever suspended it": ({"suspend": True, "queue_hold": DISABLED}, "Suspended"),
    "its queue": ({"queue_hold": DISABLED}, "JobQueueDisabled"),
}


@pytest.mark.parametrize("name", HELD)
def test_a_job_is_held_by(name: str) -> None:
    fields, reason = HELD[name]
    look = looked(**fields)

    assert (look.hold and look.hold.reason) == reason
    assert bool(look.start_limit) == (reason is None)


# A Pod that the API server refuses


def refused(*, retry_at_s: float = 110, final: bool = False, window: int = 1) -> Refusal:
    return Refusal("exceeded quota", after_s(retry_at_s), final=final, window=window)


def test_a_refused_job_waits_and_is_looked_at_again_when_it_says() -> None:
    look = looked(refusal=refused())

    assert look.hold is not None
    assert look.hold.reason == "PodRefused"
    assert look.hold.message == (
        "the API server refused the Pod: exceeded quota; tried again at 00:01:50Z"
    )
    assert look.look_again_at == after_s(110)
    assert look.start_limit == 0


def test_a_refused_job_tries_again_a_little_at_first() -> None:
    look = looked(refusal=refused(retry_at_s=100, window=2), arrayProperties={"size": 10})

    assert (look.hold, look.start_limit) == (None, 2)


def test_a_pod_that_can_never_be_accepted_ends_the_job() -> None:
    look = looked(refusal=refused(final=True), retry={"attempts": 5})

    assert ending(look) == (
        "FAILED",
        "Invalid job: the API server refused its Pod: exceeded quota",
        "InvalidJob",
    )


# Attempts that cannot start


def stuck(*, hopeless: bool = False, bound_at_s: float = 50, **fields: Any) -> PodAttempt:
    error = StartError("CannotPullContainerError: x", "container main: x", hopeless=hopeless)
    return attempt(
        STARTING, start_error=error, bound_at=after_s(bound_at_s), started_at=None, **fields
    )


def test_a_container_that_cannot_start_has_a_grace() -> None:
    look = looked(stuck(), at_s=100, grace_s=60)

    assert look.ending is None
    assert look.look_again_at == after_s(110)


def test_after_the_grace_the_attempt_is_given_up_in_aws_words() -> None:
    """AWS Batch, statusReason: a container that was never started."""
    look = looked(stuck(), at_s=110, grace_s=60)
    [given_up] = look.children.newly_ended

    assert ending(look) == ("FAILED", "Task failed to start", "AttemptFailed")
    assert given_up.reason == "CannotPullContainerError: x"
    assert given_up.stopped_at == after_s(110)


def test_what_cannot_be_mended_by_waiting_gets_no_grace() -> None:
    look = looked(stuck(hopeless=True, bound_at_s=100), at_s=100)

    assert ending(look) == ("FAILED", "Task failed to start", "AttemptFailed")


def test_an_attempt_that_was_given_up_may_be_retried_once_its_pod_is_gone() -> None:
    """AWS Batch, retry strategy: a pull error is a failure like any other."""
    first = looked(stuck(), at_s=110, retry={"attempts": 2})
    counted = {"state": "STARTING", "attempts": [row(1, **OVER)]}
    then = looked(stuck(), at_s=111, status=counted, retry={"attempts": 2})
    gone = replace(attempt(FAILED), started_at=None)
    last = looked(gone, at_s=112, status=counted, retry={"attempts": 2})

    assert (first.ending, first.start_limit) == (None, 0)
    assert (len(then.children.overdue), then.start_limit) == (1, 0)
    assert (last.children.releasable, last.start_limit) == ((gone,), 1)


def test_an_attempt_that_somebody_is_stopping_is_not_given_up() -> None:
    assert looked(stuck(deleting=True), at_s=500).ending is None


# Timeouts, cancel, terminate


TIMEOUT = {"attemptDurationSeconds": 60}


def test_an_attempt_is_looked_at_again_when_its_time_is_up() -> None:
    """AWS Batch, job timeouts: counted from the attempt's startedAt."""
    look = looked(attempt(RUNNING), timeout=TIMEOUT, at_s=69)

    assert (look.to_stop, look.look_again_at) == ((), after_s(70))


def test_an_attempt_whose_time_is_up_is_stopped() -> None:
    running = attempt(RUNNING)
    look = looked(running, timeout=TIMEOUT, at_s=70)

    assert look.to_stop == (running,)
    assert look.ending is None


@pytest.mark.parametrize("phase", [Phase.UNBOUND, STARTING])
def test_time_before_the_containers_run_does_not_count(phase: Phase) -> None:
    """AWS Batch, job timeouts: STARTING and image pulls are not part of it."""
    look = looked(attempt(phase, started_at=None), timeout=TIMEOUT, at_s=10_000)

    assert (look.to_stop, look.look_again_at) == ((), None)


def test_an_attempt_that_is_being_stopped_is_not_stopped_again() -> None:
    assert looked(attempt(RUNNING, stopping=True), timeout=TIMEOUT, at_s=80).to_stop == ()


def test_a_job_that_ran_out_of_time_fails_and_is_not_retried() -> None:
    """AWS Batch, job timeouts: not retried, even with attempts left."""
    stopped = attempt(FAILED, exit_code=137, stopping=True, deadline_exceeded=True)
    look = looked(stopped, timeout=TIMEOUT, retry={"attempts": 5})

    assert ending(look) == ("FAILED", "Job attempt duration exceeded timeout", "TimedOut")


def test_a_pod_that_somebody_deleted_did_not_run_out_of_time() -> None:
    look = looked(
        attempt(FAILED, exit_code=143, deleting=True), timeout=TIMEOUT, retry={"attempts": 5}
    )

    assert (look.ending, look.start_limit) == (None, 1)


def test_a_job_that_ended_by_itself_while_it_was_being_stopped_ended_so() -> None:
    look = looked(attempt(SUCCEEDED, stopping=True), timeout=TIMEOUT)

    assert ending(look) == ("SUCCEEDED", EXITED, "Succeeded")


def test_each_child_of_an_array_has_its_own_time() -> None:
    """AWS Batch, job timeouts: per child; the parent has none."""
    early = attempt(RUNNING, index=0, started_at=after_s(0))
    late = attempt(RUNNING, index=1, started_at=after_s(50))
    look = looked(early, late, timeout=TIMEOUT, arrayProperties={"size": 2}, at_s=70)

    assert (look.to_stop, look.look_again_at) == ((early,), after_s(110))


CANCEL = {"cancel": {"reason": "not needed"}}
TERMINATE = {"terminate": {"reason": "wrong input"}}


@pytest.mark.parametrize(
    ("request_", "reason", "token"),
    [(CANCEL, "not needed", "Cancelled"), (TERMINATE, "wrong input", "Terminated")],
    ids=["cancelled", "terminated"],
)
def test_a_job_that_has_not_started_fails_at_once_when_it_is(
    request_: dict[str, Any], reason: str, token: str
) -> None:
    """AWS Batch, CancelJob and TerminateJob: the caller's reason becomes the statusReason."""
    assert ending(looked(retry={"attempts": 5}, **request_)) == ("FAILED", reason, token)


@pytest.mark.parametrize("phase", [STARTING, RUNNING])
def test_cancelling_leaves_alone_what_has_started(phase: Phase) -> None:
    """AWS Batch, CancelJob: jobs in STARTING and RUNNING are not cancelled."""
    look = looked(attempt(phase), **CANCEL)

    assert (look.to_stop, look.ending) == ((), None)


def test_cancelling_stops_a_pod_that_no_node_has() -> None:
    """Its job is RUNNABLE still."""
    waiting = attempt(Phase.UNBOUND, node_name=None, started_at=None)

    assert looked(waiting, **CANCEL).to_stop == (waiting,)


def test_a_job_that_was_cancelled_too_late_ends_as_it_ends() -> None:
    assert ending(looked(attempt(SUCCEEDED), **CANCEL)) == ("SUCCEEDED", EXITED, "Succeeded")


def test_a_job_that_was_cancelled_while_it_ran_is_not_retried() -> None:
    """AWS Batch, retry strategy: cancelled jobs are not retried."""
    look = looked(attempt(FAILED), retry={"attempts": 5}, **CANCEL)

    assert look.ending is not None
    assert look.ending.state == "FAILED"


@pytest.mark.parametrize("phase", [Phase.UNBOUND, STARTING, RUNNING])
def test_terminating_stops_what_has_started(phase: Phase) -> None:
    """AWS Batch, TerminateJob."""
    living = attempt(phase)
    look = looked(living, **TERMINATE)

    assert (look.to_stop, look.ending) == ((living,), None)
    assert look.hold is not None
    assert look.hold.reason == "Stopping"


@pytest.mark.parametrize("how", ["deleting", "deadline_exceeded"])
def test_a_terminated_job_fails_with_the_callers_reason_whatever_its_exit_code(how: str) -> None:
    """AWS Batch, TerminateJob: the reason becomes the statusReason; no retry."""
    stopped = attempt(FAILED, exit_code=143, stopping=True, **{how: True})
    look = looked(stopped, retry={"attempts": 5}, **TERMINATE)

    assert ending(look) == ("FAILED", "wrong input", "Terminated")


def test_a_job_that_had_succeeded_before_it_was_terminated_has_succeeded() -> None:
    """AWS Batch, TerminateJob: no effect on a job that is over."""
    look = looked(attempt(SUCCEEDED), **TERMINATE)

    assert ending(look) == ("SUCCEEDED", EXITED, "Succeeded")


def test_children_that_wait_fail_when_their_array_is_terminated() -> None:
    look = looked(
        attempt(RUNNING, index=0), attempt(SUCCEEDED, index=1), arrayProperties=ARRAY, **TERMINATE
    )

    assert str(look.children.counted.failed) == "2-3"
    assert [one.index for one in look.to_stop] == [0]
    assert look.ending is None


def test_an_array_stops_once_more_children_failed_than_it_allows() -> None:
    """Beyond AWS Batch: maxFailedIndexes."""
    status = {
        "state": "PENDING",
        "array": {
            "size": 4,
            "statusSummary": {"RUNNABLE": 2, "RUNNING": 1, "FAILED": 1},
            "indexes": {"runnable": "2-3", "running": "1", "failed": "0"},
            "failures": [{"exitCode": 1, "statusReason": EXITED, "indexes": "0"}],
        },
    }
    running = attempt(RUNNING, index=1)
    patient = looked(running, status=status, arrayProperties={**ARRAY, "maxFailedIndexes": 1})
    strict = looked(running, status=status, arrayProperties={**ARRAY, "maxFailedIndexes": 0})

    assert (patient.to_stop, str(patient.startable)) == ((), "2-3")
    assert (strict.to_stop, str(strict.children.counted.failed)) == ((running,), "0,2-3")


UNMET = Doom("Dependent Job failed", "DependencyFailed", "default/a failed")
"""N_TO_N: what children of a failed child's index fail with."""


@pytest.mark.parametrize(("limit", "failed", "starts"), [(2, "0-1", "2-3"), (1, "0-3", "")])
def test_children_that_fail_with_their_dependency_count_against_what_an_array_allows(
    limit: int, failed: str, starts: str
) -> None:
    """Beyond AWS Batch: maxFailedIndexes."""
    gate = Gate(IndexSet.parse("2-3"), IndexSet.parse("0-1"), UNMET)
    look = looked(gate=gate, arrayProperties={**ARRAY, "maxFailedIndexes": limit})

    assert (str(look.children.counted.failed), str(look.startable)) == (failed, starts)


def runnable_for(seconds: int, action: str) -> JobStateTimeLimitAction:
    """A rule for what is RUNNABLE for so long."""
    wire = {"state": "RUNNABLE", "action": action, "reason": "*", "maxTimeSeconds": seconds}
    return JobStateTimeLimitAction.model_validate(wire)


CANCEL_RUNNABLE = runnable_for(60, "CANCEL")
BEHIND = {"reason": "BehindOthers", "message": "x", "since": "2026-01-01T00:00:00Z"}
WAITS_TOO_LONG = {
    "state": "PENDING",
    "array": {
        "size": 4,
        "statusSummary": {"RUNNABLE": 3, "RUNNING": 1},
        "indexes": {"runnable": "1-3", "running": "0"},
        "waiting": [
            {"state": "RUNNABLE", "reason": "BehindOthers", "since": "2026-01-01T00:00:00Z"}
        ],
    },
}


@pytest.mark.parametrize("array", [ARRAY, {**ARRAY, "maxFailedIndexes": 1}])
def test_children_that_run_go_on_when_their_queue_cancels_the_others(array: dict[str, Any]) -> None:
    """However few may fail: as with a cancel by the user, what has started is spared."""
    fields = {"rules": [CANCEL_RUNNABLE], "arrayProperties": array}
    first = looked(attempt(RUNNING), status=WAITS_TOO_LONG, **fields)
    stored = status_of(first, None, NOW).to_wire()
    second = looked(attempt(RUNNING), status=stored, **fields)
    last = looked(attempt(SUCCEEDED), status=stored, **fields)

    assert str(first.children.counted.failed) == "1-3"
    assert (first.to_stop, second.to_stop) == ((), ())
    assert ending(last) == (
        "FAILED",
        "Canceled by JobStateTimeLimit action due to reason: BehindOthers",
        "TimeLimitExceeded",
    )


def test_who_has_a_pod_by_now_does_not_wait_any_more_whatever_the_status_says_still() -> None:
    """The status was written before its create; a time limit counts from what it tells."""
    look = looked(
        attempt(Phase.UNBOUND, node_name=None, started_at=None, created_at=after_s(90)),
        status={"state": "RUNNABLE", "pending": BEHIND},
        rules=[CANCEL_RUNNABLE],
    )

    assert (look.hold, look.to_stop, look.look_again_at) == (None, (), after_s(150))


def test_a_job_that_waits_is_looked_at_again_when_each_limit_is_up_and_for_none_that_was() -> None:
    rules = [runnable_for(seconds, "NOTIFY") for seconds in (120, 60)]
    looks = [
        looked(status={"state": "RUNNABLE", "pending": BEHIND}, rules=rules, at_s=at_s)
        for at_s in (59, 60, 120)
    ]

    assert [look.look_again_at for look in looks] == [after_s(60), after_s(120), None]
    assert [look.notice is not None for look in looks] == [False, True, True]


# How a job ends


PATIENT = {**ARRAY, "maxFailedIndexes": 2}
TOO_MANY = "Array stopped: more than maxFailedIndexes 2 children failed"
ENDINGS: dict[str, tuple[dict[str, Any], list[PodAttempt], tuple[str, str, str] | None]] = {
    "its attempt succeeds": ({}, [attempt(SUCCEEDED)], ("SUCCEEDED", EXITED, "Succeeded")),
    "its only attempt fails": ({}, [attempt(FAILED)], ("FAILED", EXITED, "AttemptFailed")),
    "its node is lost": (
        {},
        [attempt(FAILED, status_reason="Host EC2 (instance n) terminated.", exit_code=None)],
        ("FAILED", "Host EC2 (instance n) terminated.", "AttemptFailed"),
    ),
    "an attempt fails and another is left": (
        {"retry": {"attempts": 2}},
        [attempt(FAILED)],
        None,
    ),
    "all children succeed": (
        {"arrayProperties": {"size": 2}},
        [attempt(SUCCEEDED, index=0), attempt(SUCCEEDED, index=1)],
        ("SUCCEEDED", EXITED, "Succeeded"),
    ),
    "a child fails": (
        {"arrayProperties": {"size": 2}},
        [attempt(SUCCEEDED, index=0), attempt(FAILED, index=1)],
        ("FAILED", "Array Child Job failed", "ArrayChildJobFailed"),
    ),
    "a child fails while another runs": (
        {"arrayProperties": {"size": 2}},
        [attempt(RUNNING, index=0), attempt(FAILED, index=1)],
        None,
    ),
    "its dependency fails": (
        {"gate": Gate(IndexSet(), IndexSet.of([0]), Doom("Dependent Job failed", "T", "m"))},
        [],
        ("FAILED", "Dependent Job failed", "T"),
    ),
    "the dependency of an array fails": (
        {
            "gate": Gate(IndexSet(), IndexSet.range(4), Doom("Dependent Job failed", "T", "m")),
            "arrayProperties": ARRAY,
        },
        [],
        ("FAILED", "Dependent Job failed", "T"),
    ),
    "a child succeeds, and the dependencies of the others fail": (
        {"gate": Gate(IndexSet.of([0]), IndexSet.parse("1-3"), UNMET), "arrayProperties": ARRAY},
        [attempt(SUCCEEDED, index=0)],
        ("FAILED", "Array Child Job failed", "ArrayChildJobFailed"),
    ),
    "a child fails, and the dependencies of the others fail": (
        {"gate": Gate(IndexSet.of([0]), IndexSet.parse("1-3"), UNMET), "arrayProperties": ARRAY},
        [attempt(FAILED, index=0)],
        ("FAILED", "Array Child Job failed", "ArrayChildJobFailed"),
    ),
    "the dependencies of more children fail than may, and those are all": (
        {"gate": Gate(IndexSet(), IndexSet.range(4), UNMET), "arrayProperties": PATIENT},
        [],
        ("FAILED", "Dependent Job failed", "DependencyFailed"),
    ),
    "the dependencies of more children fail than may": (
        {"gate": Gate(IndexSet.of([3]), IndexSet.range(3), UNMET), "arrayProperties": PATIENT},
        [],
        ("FAILED", TOO_MANY, "MaxFailedIndexesExceeded"),
    ),
    "it can never run": (
        {"of": Invalid("no container requests any CPU")},
        [],
        ("FAILED", "Invalid job: no container requests any CPU", "InvalidJob"),
    ),
    "it can never run, whatever it waits for": (
        {"of": Invalid("no CPU"), "gate": Gate(IndexSet(), hold=WAITS), "queue_hold": DISABLED},
        [],
        ("FAILED", "Invalid job: no CPU", "InvalidJob"),
    ),
    "it can never run again, but runs": ({"of": Invalid("no CPU")}, [attempt(RUNNING)], None),
    "it can never run again, and what ran has failed": (
        {"of": Invalid("no CPU")},
        [attempt(FAILED)],
        ("FAILED", EXITED, "AttemptFailed"),
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_job_ends_when(name: str) -> None:
    """AWS Batch, job states and array jobs; None: it does not."""
    fields, attempts, expected = ENDINGS[name]

    assert ending(looked(*attempts, **fields)) == expected


def test_an_array_that_succeeds_tells_how_many_children_did() -> None:
    array = looked(*(attempt(SUCCEEDED, index=one) for one in range(4)), arrayProperties=ARRAY)
    alone = looked(attempt(SUCCEEDED))

    assert array.ending is not None
    assert alone.ending is not None
    assert array.ending.message == "all 4 children succeeded"
    assert alone.ending.message == "the job succeeded"


def test_a_failed_job_tells_exit_code_and_reason_in_its_message() -> None:
    killed = attempt(FAILED, exit_code=137, reason="OutOfMemoryError: Container killed")
    look = looked(killed)

    assert look.ending is not None
    assert look.ending.message == f"{EXITED}; exit code 137; OutOfMemoryError: Container killed"


def test_a_reason_to_fail_that_is_longer_than_a_status_reason_is_cut() -> None:
    look = looked(of=Invalid("x" * 5000))

    assert look.ending is not None
    assert len(look.ending.status_reason) == 1024


@pytest.mark.parametrize("indexes", ["9-3", "0-99999", "123456789012"])
def test_an_array_of_indexes_that_are_refused_ends_with_the_sentence(indexes: str) -> None:
    look = looked(of=Invalid("name others"), arrayProperties={"indexes": indexes})

    assert ending(look) == ("FAILED", "Invalid job: name others", "InvalidJob")
    assert status_of(look, None, NOW).to_wire()["state"] == "FAILED"


# Multi-node jobs: the main node, and two workers

GROUPS = (NodeGroup("0", (0,), {}, 1000), NodeGroup("1:", (1, 2), {}, 2000))
THREE_NODES = {"state": "RUNNABLE", "attempts": [row(1, **OVER)]}
"""The status after one attempt has been counted."""


def node(group: int, member: int = 0, phase: Phase = RUNNING, **fields: Any) -> PodAttempt:
    number = fields.get("number", 1)
    uid = f"{group}-{member}-{number}"
    known = {"node_group": group, "member": member, "pod_uid": uid, "pod_name": uid}
    return attempt(phase, **{**known, **fields})


def group_job(group: int, **fields: Any) -> PodAttempt:
    """The Job that makes a group's Pods."""
    made = {"members": len(GROUPS[group].nodes), "milli_cpu": GROUPS[group].milli_cpu}
    uid = f"job-{group}-{fields.get('number', 1)}"
    known = {"node_group": group, "pod_uid": uid, "pod_name": uid, "node_name": None}
    return attempt(Phase.ASSUMED, **{**made, **known, **fields})


def gang_plan(**retry: Any) -> Plan:
    return replace(plan(**retry), groups=GROUPS, units=(("licence", 3),))


def test_another_attempt_waits_until_the_last_node_of_the_one_before_has_stopped() -> None:
    """The others of attempt 1 have ended long ago: they are not what is waited for."""
    before = [node(0, phase=FAILED, number=1), node(1, phase=FAILED, number=1)]
    main, worker = node(0, phase=FAILED, number=2), node(1, number=2, stopping=True)
    status = {**THREE_NODES, "attempts": [row(1, **OVER), row(2, **OVER)]}
    held, free = (
        looked(*before, main, one, of=gang_plan(attempts=3), status=status)
        for one in (worker, replace(worker, phase=FAILED))
    )

    assert held.hold == Hold(Reason.STOPPING, "the nodes of attempt 2 are being stopped")
    assert (held.start_limit, held.usage, held.held) == (0, {"local": 1000}, {"licence": 3})
    assert (free.hold, free.start_limit, free.usage, free.held) == (None, 1, {}, {})


def test_a_multi_node_job_whose_nodes_are_being_stopped_says_so() -> None:
    """Its time in STARTING is up, say: what its main node pulls matters no more."""
    main = node(0, phase=STARTING, started_at=None, stopping=True)
    status = status_of(looked(main, node(1), of=gang_plan()), None, NOW)

    assert status.state == "STARTING"
    assert status.pending is not None
    assert (status.pending.reason, status.pending.message) == (
        "Stopping",
        "the nodes of attempt 1 are being stopped",
    )


def test_every_node_of_a_terminated_job_is_stopped_once_the_main_node_first() -> None:
    nodes = (node(0), node(1, 0), node(1, 1))
    look = looked(*reversed(nodes), of=gang_plan(), **TERMINATE)

    assert look.to_stop == nodes


def test_a_node_that_stands_for_the_main_node_is_stopped_where_it_runs() -> None:
    """Somebody has taken the main node's Pod away; the log of the others stays all the same."""
    worker = node(1)

    assert looked(worker, of=gang_plan(), **TERMINATE).to_stop == (worker,)


def test_an_attempt_that_is_asked_for_in_part_holds_what_is_still_missing() -> None:
    """The operator died between the creations of its Jobs."""
    look = looked(group_job(0), of=gang_plan())

    assert look.to_complete == (1,)
    assert (look.usage, look.held) == ({"local": 3000}, {"licence": 3})


def test_what_is_missing_is_not_asked_for_before_a_refusal_has_passed() -> None:
    refused = Refusal("exceeded quota", retry_at=after_s(130), final=False)
    early, late = (
        looked(group_job(0), of=gang_plan(), refusal=refused, at_s=at_s) for at_s in (129, 130)
    )

    assert (early.to_complete, late.to_complete) == ((), (1,))


WAITING_GANG = [
    *(group_job(group) for group in (0, 1)),
    *(node(0, phase=Phase.UNBOUND, gated=True, node_name=None),),
    *(node(1, one, Phase.UNBOUND, gated=True, node_name=None) for one in (0, 1)),
]
MAY_NOT_BEGIN: dict[str, dict[str, Any]] = {
    "is cancelled": {"cancel": {"reason": "no"}},
    "is terminated": {"terminate": {"reason": "no"}},
    "is suspended": {"suspend": True},
    "is being deleted": {"deleting": True},
}


def test_a_gang_that_lost_a_node_before_its_main_node_began_has_failed_to_start() -> None:
    """Unless it is being ended anyway: then that is why, and what is left is stopped first."""
    main, *others = (one for one in WAITING_GANG if not one.is_job)
    left = [group_job(0), group_job(1), main, replace(others[0], phase=FAILED), others[1]]
    lost = looked(*left, of=gang_plan())
    terminated = looked(*left, of=gang_plan(), **TERMINATE)

    assert ending(lost) == ("FAILED", "Task failed to start", "AttemptFailed")
    assert (terminated.ending, terminated.to_stop) == (None, (main, others[1]))


def test_no_node_is_let_go_beside_a_main_node_that_is_being_stopped() -> None:
    main, waits = node(0, pod_ip="10.0.0.7"), node(1, phase=Phase.UNBOUND, gated=True)
    runs, ends = (
        looked(one, waits, of=gang_plan()) for one in (main, replace(main, stopping=True))
    )

    assert [one.pod.pod_uid for one in runs.to_open] == [waits.pod_uid]
    assert ends.to_open == ()


def test_the_main_node_starts_when_all_nodes_are_there() -> None:
    look = looked(*WAITING_GANG, of=gang_plan())

    assert [one.pod.pod_uid for one in look.to_open] == ["0-0-1"]


@pytest.mark.parametrize("why", MAY_NOT_BEGIN)
def test_no_node_starts_and_none_is_asked_for_when_the_job(why: str) -> None:
    whole = looked(*WAITING_GANG, of=gang_plan(), **MAY_NOT_BEGIN[why])
    part = looked(group_job(0), of=gang_plan(), **MAY_NOT_BEGIN[why])
    on_its_way = looked(group_job(0, pod_uid=""), of=gang_plan(), **MAY_NOT_BEGIN[why])

    assert (whole.to_open, part.to_complete, on_its_way.to_complete) == ((), (), ())


def test_pods_of_a_multi_node_job_are_let_go_together_once_their_attempt_is_counted() -> None:
    """Its Jobs first, which are never deleted."""
    jobs = [group_job(group) for group in (0, 1)]
    pods = [node(0, phase=FAILED), *(node(1, one, FAILED) for one in (0, 1))]
    new, counted = (
        looked(*pods, of=gang_plan(attempts=2), status=status)
        for status in ({"state": "RUNNING"}, THREE_NODES)
    )
    with_jobs = looked(*jobs, *pods, of=gang_plan(attempts=2), status=THREE_NODES)

    assert new.children.releasable == ()
    assert counted.children.releasable == tuple(pods)
    assert with_jobs.children.releasable == tuple(jobs)


def test_a_job_that_has_made_no_pods_when_its_attempt_is_counted_is_suspended() -> None:
    """It is not deleted, or nobody could tell whether it had made some."""
    made = group_job(0)
    look = looked(made, of=gang_plan(attempts=2), status=THREE_NODES)

    assert (look.to_stop, look.children.overdue) == ((made,), ())


# While the definition cannot be found


def test_a_failure_is_not_judged_while_the_retry_strategy_is_not_known() -> None:
    """The definition was deleted: its job waits for it and is not failed for want of a strategy."""
    look = looked(attempt(FAILED), of=NOT_FOUND, status={"state": "RUNNING"})

    assert look.ending is None
    assert look.children.newly_ended == ()
    assert look.children.releasable == ()


def test_a_failure_is_judged_by_the_jobs_own_strategy_whatever_became_of_the_definition() -> None:
    failed = attempt(FAILED)
    look = looked(failed, of=NOT_FOUND, retryStrategy={"attempts": 2}, status={"state": "RUNNING"})
    last = looked(failed, of=NOT_FOUND, retryStrategy={"attempts": 1}, status={"state": "RUNNING"})

    assert (look.ending, look.children.newly_ended) == (None, (failed,))
    assert ending(last) == ("FAILED", EXITED, "AttemptFailed")


def test_a_success_needs_no_strategy() -> None:
    look = looked(attempt(SUCCEEDED), of=NOT_FOUND)

    assert ending(look) == ("SUCCEEDED", EXITED, "Succeeded")


# Capacity, and a job that is over


def test_what_lives_holds_capacity_where_it_was_placed() -> None:
    look = looked(
        attempt(Phase.ASSUMED, index=0, environment="spot"),
        attempt(RUNNING, index=1, environment="local", milli_cpu=500),
        attempt(RUNNING, index=2, environment="local", milli_cpu=250),
        attempt(SUCCEEDED, index=3, environment="local"),
        arrayProperties=ARRAY,
    )

    assert look.usage == {"spot": 1000, "local": 750}


def over(**spec: Any) -> Any:
    status = {"state": "SUCCEEDED", "stoppedAt": "2026-01-01T00:01:00Z"}
    return job(status=BatchJobStatus.model_validate(status), **spec)


EXPIRY: dict[str, tuple[int | None, float, tuple[bool, float | None]]] = {
    "never, where nothing is said": (None, 1e6, (False, None)),
    "not before its time": (60, 119, (False, 120)),
    "when its time has come": (60, 120, (True, 120)),
    "at once": (0, 60, (True, 60)),
}


@pytest.mark.parametrize("name", EXPIRY)
def test_a_job_that_is_over_is_deleted(name: str) -> None:
    ttl_s, at_s, (expired, again_s) = EXPIRY[name]
    look = evaluate_final(over(ttlSecondsAfterFinished=ttl_s), [], after_s(at_s))

    assert look.expired is expired
    assert look.look_again_at == (None if again_s is None else after_s(again_s))


def test_the_time_to_live_of_a_job_that_ended_nobody_knows_when_counts_from_its_creation() -> None:
    """Somebody has written its status by hand."""
    stored = job(status=BatchJobStatus(state=JobState.FAILED), ttlSecondsAfterFinished=60)

    assert not evaluate_final(stored, [], after_s(59)).expired
    assert evaluate_final(stored, [], after_s(60)).expired


def test_a_job_that_is_being_deleted_is_not_deleted_again() -> None:
    stored = replace(over(ttlSecondsAfterFinished=0), deleting=True)

    assert not evaluate_final(stored, [], NOW).expired


def test_pods_of_a_job_that_is_over_are_let_go_and_those_that_live_are_stopped() -> None:
    done, alive = attempt(SUCCEEDED), attempt(RUNNING, number=2)
    look = evaluate_final(over(), [done, alive], NOW)

    assert look.children.releasable == (done,)
    assert look.children.overdue == (alive,)
    assert look.usage == {"local": 1000}
