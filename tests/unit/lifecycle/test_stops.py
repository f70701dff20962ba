"""Cancel, terminate, timeout and the limit on failures: what they do to attempts and children."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from batch_operator.api.common import Timeout
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState
from batch_operator.api.job_queue import JobStateTimeLimitAction
from batch_operator.lifecycle.attempt import Phase, PodAttempt, StartError
from batch_operator.lifecycle.children import Counted
from batch_operator.lifecycle.limits import Stay, TimeLimits, due
from batch_operator.lifecycle.stops import (
    TIMED_OUT,
    Policy,
    Review,
    Stop,
    review,
    stop_by_limit,
    stop_of,
    stops_of_children,
)
from support.builders import START, attempt, job

CANCEL = Stop("no more", "Cancelled", "cancelled: no more", spares_started=True)
TERMINATE = Stop("no more", "Terminated", "terminated: no more")
TIMEOUT = Timeout(attempt_duration_seconds=60)
TERMINATED = "Terminated by JobStateTimeLimit action due to reason: "
STARTED = START + timedelta(seconds=10)
UNBOUND: dict[str, Any] = {"node_name": None, "started_at": None}


def outcome(seen: PodAttempt, stop: Stop | None, *, after_s: float = 20) -> PodAttempt:
    """The attempt as it counts."""
    found = review([seen], stop, TIMEOUT, Policy(), START + timedelta(seconds=after_s))
    return found.verdicts.get(seen.pod_uid, seen)


def is_stopped(seen: PodAttempt, stop: Stop | None, *, after_s: float = 20) -> bool:
    found = review([seen], stop, TIMEOUT, Policy(), START + timedelta(seconds=after_s))
    return found.to_stop == (seen,)


@pytest.mark.parametrize(
    ("phase", "fields", "cancelled", "terminated"),
    [
        (Phase.ASSUMED, UNBOUND, False, False),  # it cannot be deleted before it is there
        (Phase.UNBOUND, UNBOUND, True, True),
        (Phase.STARTING, {"started_at": None}, False, True),
        (Phase.RUNNING, {}, False, True),
        (Phase.RUNNING, {"deleting": True}, False, False),
        (Phase.RUNNING, {"stopping": True}, False, False),
        (Phase.SUCCEEDED, {}, False, False),
    ],
)
def test_cancel_spares_what_has_started_and_terminate_spares_nothing(
    phase: Phase, fields: dict[str, Any], *, cancelled: bool, terminated: bool
) -> None:
    """AWS Batch, CancelJob and TerminateJob by state."""
    seen = attempt(phase, **fields)

    assert is_stopped(seen, CANCEL) == cancelled
    assert is_stopped(seen, TERMINATE) == terminated
    assert not is_stopped(seen, None)


def test_a_terminated_attempt_fails_with_the_request_s_reason_whatever_its_exit_code() -> None:
    stopped = attempt(Phase.SUCCEEDED, deadline_exceeded=True)
    counted = outcome(stopped, TERMINATE)

    assert counted.phase is Phase.FAILED
    assert counted.status_reason == "no more"
    assert counted.exit_code == 0
    assert not counted.retryable


def test_what_ended_by_itself_before_the_request_keeps_its_outcome_but_is_not_retried() -> None:
    done = outcome(attempt(Phase.SUCCEEDED), TERMINATE)
    failed = outcome(attempt(Phase.FAILED), TERMINATE)

    assert done.phase is Phase.SUCCEEDED
    assert failed.status_reason == "Essential container in task exited"
    assert not failed.retryable


def test_a_cancelled_attempt_that_was_spared_keeps_the_outcome_that_it_had() -> None:
    """AWS Batch, CancelJob: a job that has started is left alone; but it is not retried."""
    timed_out = outcome(attempt(Phase.FAILED, deadline_exceeded=True), CANCEL)
    deleted = outcome(attempt(Phase.FAILED, deleting=True), CANCEL)
    unbound = outcome(attempt(Phase.FAILED, deleting=True, **UNBOUND), CANCEL)

    assert timed_out.status_reason == TIMED_OUT
    assert deleted.status_reason == "Essential container in task exited"
    assert unbound.status_reason == "no more"
    assert not any(one.retryable for one in (timed_out, deleted, unbound))


def test_an_attempt_that_is_given_up_is_not_looked_at_again_for_that() -> None:
    """It is counted now; the time that has come would make one cycle follow the other for ever."""
    error = StartError("CannotPullContainerError: x", "x", hopeless=False)
    seen = attempt(Phase.STARTING, started_at=None, bound_at=START, start_error=error)
    found = review([seen], None, None, Policy(30), START + timedelta(seconds=30))

    assert [one.reason for one in found.verdicts.values()] == [error.reason]
    assert found.look_again_at is None


def test_the_grace_begins_now_where_nobody_knows_when_the_node_got_the_attempt() -> None:
    error = StartError("CannotPullContainerError: x", "x", hopeless=False)
    seen = attempt(Phase.STARTING, started_at=None, bound_at=None, start_error=error)
    found = review([seen], None, None, Policy(30), START)

    assert not found.verdicts
    assert found.look_again_at == START + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("turn_s", "given_up_at_s"),
    [(1200, 1230), (-5, 30), (1202, 30)],
    ids=["after init containers", "before it had its node", "not yet, by a clock that is ahead"],
)
def test_the_grace_begins_when_it_is_a_containers_turn(turn_s: int, given_up_at_s: int) -> None:
    """An init container that copies data for 20 minutes uses up nothing of it."""
    since, now = START + timedelta(seconds=turn_s), START + timedelta(seconds=1201)
    error = StartError("CannotPullContainerError: x", "x", hopeless=False, since=since)
    seen = attempt(Phase.STARTING, started_at=None, bound_at=START, start_error=error)
    found = review([seen], None, None, Policy(30), now)

    assert bool(found.verdicts) == (given_up_at_s <= 1201)
    expected = START + timedelta(seconds=given_up_at_s)
    assert found.look_again_at == (expected if expected > now else None)


def test_a_timeout_counts_from_when_the_containers_run() -> None:
    """AWS Batch, job timeouts: time in STARTING does not count."""
    running = attempt(Phase.RUNNING)
    starting = attempt(Phase.STARTING, started_at=None)

    assert not is_stopped(running, None, after_s=69)
    assert is_stopped(running, None, after_s=70)
    assert not is_stopped(starting, None, after_s=5000)


def test_a_timed_out_attempt_fails_even_when_it_obeys_the_signal_and_is_not_retried() -> None:
    """AWS Batch, job timeouts: timed-out jobs are not retried."""
    counted = outcome(attempt(Phase.SUCCEEDED, deadline_exceeded=True), None)

    assert (counted.phase, counted.status_reason) == (Phase.FAILED, TIMED_OUT)
    assert not counted.retryable


def test_a_pod_that_a_user_deletes_has_not_timed_out() -> None:
    """Not even when it takes so long to end that its time is up: it is retried as it would be."""
    early = attempt(Phase.FAILED, deleting=True)
    late = replace(early, stopped_at=STARTED + timedelta(seconds=60))

    assert outcome(early, None, after_s=90) is early
    assert outcome(late, None, after_s=90) is late


def test_the_next_deadline_is_when_to_look_again() -> None:
    attempts = [
        attempt(Phase.RUNNING),
        attempt(Phase.RUNNING, index=1, started_at=START),
        attempt(
            Phase.STARTING,
            index=2,
            started_at=None,
            bound_at=START,
            start_error=StartError("CannotPullContainerError: x", "x", hopeless=False),
        ),
    ]
    now = START + timedelta(seconds=20)

    assert review(attempts[:2], None, TIMEOUT, Policy(), now).look_again_at == START + timedelta(
        seconds=60
    )
    assert review(attempts, None, None, Policy(30), now).look_again_at == START + timedelta(
        seconds=30
    )
    assert review(attempts[:2], None, None, Policy(), now).look_again_at is None


@pytest.mark.parametrize(
    ("failed", "limit", "is_stop"), [("", 0, False), ("3", 0, True), ("3", 1, False)]
)
def test_an_array_stops_when_more_children_failed_than_it_allows(
    failed: str, limit: int, *, is_stop: bool
) -> None:
    spec = job("a", arrayProperties={"size": 9, "maxFailedIndexes": limit}).spec
    counted = Counted(IndexSet.range(9), failed=IndexSet.parse(failed))

    assert (stop_of(spec, counted) is not None) == is_stop


def test_terminate_wins_over_cancel() -> None:
    spec = job("a", cancel={"reason": "a"}, terminate={"reason": "b"}).spec
    stop = stop_of(spec, Counted(IndexSet.range(1)))

    assert stop is not None
    assert (stop.status_reason, stop.spares_started) == ("b", False)


MARK = "Preempted: made room for job urgent"
STOPPED: dict[str, Any] = {"requeued": MARK, "deadline_exceeded": True}


def test_an_attempt_that_made_room_says_so_and_is_no_timeout() -> None:
    counted = outcome(attempt(Phase.FAILED, exit_code=143, **STOPPED), None)

    assert counted.status_reason == MARK
    assert counted.retryable


def test_an_attempt_that_ended_well_before_it_could_be_stopped_has_succeeded() -> None:
    counted = outcome(attempt(Phase.SUCCEEDED, requeued=MARK), None)

    assert counted.phase is Phase.SUCCEEDED
    assert counted.status_reason != MARK


def test_an_attempt_that_obeyed_the_signal_and_succeeded_was_not_requeued() -> None:
    """Its node goes, somebody deletes the Pod, and the program finishes its work in time."""
    seen = attempt(Phase.SUCCEEDED, requeued=MARK, deleting=True)

    assert outcome(seen, None) is seen


def test_an_attempt_that_failed_by_itself_before_it_was_stopped_has_failed() -> None:
    counted = outcome(attempt(Phase.FAILED, requeued=MARK), None)

    assert counted.status_reason == "Essential container in task exited"


@pytest.mark.parametrize("stop", [CANCEL, TERMINATE], ids=lambda stop: stop.token)
def test_a_job_that_is_ended_is_not_requeued(stop: Stop) -> None:
    counted = outcome(attempt(Phase.FAILED, **STOPPED), stop)

    assert counted.status_reason == "no more"
    assert not counted.retryable


def test_what_is_marked_and_lives_is_stopped() -> None:
    """The mark is stored before the Pod is ended: a restart in between goes on with it."""
    assert is_stopped(attempt(Phase.UNBOUND, requeued=MARK, **UNBOUND), None)
    assert is_stopped(attempt(Phase.RUNNING, requeued=MARK), None)
    assert not is_stopped(attempt(Phase.RUNNING, requeued=MARK, stopping=True), None)


def test_what_is_marked_is_stopped_where_nothing_else_bounds_the_job() -> None:
    seen = attempt(Phase.RUNNING, requeued=MARK)

    assert review([seen], None, None, Policy(), START).to_stop == (seen,)


def test_a_timeout_wins_over_a_mark() -> None:
    """A container may ignore the signal for longer than its attempt may last."""
    ends = STARTED + timedelta(seconds=TIMEOUT.attempt_duration_seconds)
    seen = attempt(Phase.FAILED, requeued=MARK, deadline_exceeded=True, stopped_at=ends)
    counted = outcome(seen, None)
    just_before = outcome(replace(seen, stopped_at=ends - timedelta(seconds=1)), None)

    assert (counted.status_reason, counted.retryable) == (TIMED_OUT, False)
    assert just_before.status_reason == MARK


def limited(state: str, action: str, after_s: int = 60) -> JobStateTimeLimitAction:
    wire = {"state": state, "action": action, "reason": "*", "maxTimeSeconds": after_s}
    return JobStateTimeLimitAction.model_validate(wire)


def reviewed(
    seen: PodAttempt, *rules: JobStateTimeLimitAction, after_s: float, pinned: bool = False
) -> Review:
    limits = TimeLimits(rules, IndexSet.of([0] if pinned else []))
    return review([seen], None, None, Policy(30), START + timedelta(seconds=after_s), limits)


def test_an_attempt_is_looked_at_again_when_its_time_in_a_state_is_up() -> None:
    rules = limited("STARTING", "TERMINATE", 90), limited("STARTING", "NOTIFY", 60)
    seen = attempt(Phase.STARTING, started_at=None, bound_at=START)
    before, between, after = (reviewed(seen, *rules, after_s=at_s) for at_s in (59, 60, 90))

    assert before.look_again_at == START + timedelta(seconds=60)
    assert between.look_again_at == START + timedelta(seconds=90)
    assert (between.to_stop, between.to_move, after.to_stop) == ((), (), (seen,))


@pytest.mark.parametrize("action", ["CANCEL", "TERMINATE"])
def test_who_waits_without_a_pod_is_ended_when_a_rule_that_ends_is_due(action: str) -> None:
    """AWS Batch, jobStateTimeLimitActions: CANCEL spares what has started."""
    rules = limited("RUNNABLE", "NOTIFY"), limited("RUNNABLE", action, 90)
    found = due(TimeLimits(rules), [Stay(JobState.RUNNABLE, START, ("BehindOthers",))])
    early, late = (stop_by_limit(found, START + timedelta(seconds=at_s)) for at_s in (89, 90))

    assert early is None
    assert late is not None
    assert late.status_reason.endswith(" by JobStateTimeLimit action due to reason: BehindOthers")
    assert late.spares_started is (action == "CANCEL")


def test_an_attempt_that_is_to_end_is_not_moved() -> None:
    seen = attempt(Phase.STARTING, started_at=None, bound_at=START)
    move, end = limited("STARTING", "NEXT_COMPUTE_ENVIRONMENT"), limited("STARTING", "TERMINATE")

    assert [one for one, _ in reviewed(seen, move, after_s=60).to_move] == [seen]
    assert reviewed(seen, move, end, after_s=60).to_move == ()
    assert reviewed(replace(seen, stopping=True), move, after_s=60).to_move == ()


def test_an_attempt_that_was_moved_too_often_is_given_up_as_any_other() -> None:
    error = StartError("CannotPullContainerError: x", "x", hopeless=False)
    seen = attempt(Phase.STARTING, started_at=None, bound_at=START, start_error=error)
    move = limited("STARTING", "NEXT_COMPUTE_ENVIRONMENT")
    free, pinned = (reviewed(seen, move, after_s=60, pinned=one) for one in (False, True))

    assert (len(free.to_move), len(free.verdicts)) == (1, 0)
    assert (len(pinned.to_move), len(pinned.verdicts)) == (0, 1)


def test_a_limit_on_running_wins_over_a_mark() -> None:
    ended = attempt(
        Phase.FAILED,
        requeued=MARK,
        deadline_exceeded=True,
        stopped_at=STARTED + timedelta(seconds=60),
    )
    found = reviewed(ended, limited("RUNNING", "TERMINATE"), after_s=100).verdicts[ended.pod_uid]

    assert not found.retryable
    assert found.status_reason == f"{TERMINATED}Running"


def test_whichever_was_up_first_is_why_an_attempt_was_ended() -> None:
    """Where its timeout and a limit on RUNNING are up at once, it is the job's own timeout."""
    ended = attempt(
        Phase.FAILED, deadline_exceeded=True, stopped_at=STARTED + timedelta(seconds=99)
    )
    said = {}
    for seconds in (89, 90, 91):
        limits = TimeLimits((limited("RUNNING", "TERMINATE", seconds),))
        timeout = Timeout(attempt_duration_seconds=90)
        found = review([ended], None, timeout, Policy(), START, limits)
        said[seconds] = found.verdicts[ended.pod_uid].status_reason

    assert said == {89: f"{TERMINATED}Running", 90: TIMED_OUT, 91: TIMED_OUT}


def test_an_attempt_that_was_too_long_in_starting_and_went_on_is_ended_by_its_timeout() -> None:
    """The operator was down when its time in STARTING was up."""
    ended = attempt(
        Phase.FAILED,
        bound_at=START,
        started_at=START + timedelta(seconds=70),
        stopped_at=START + timedelta(seconds=131),
        deadline_exceeded=True,
    )
    limits = TimeLimits((limited("STARTING", "TERMINATE", 60),))
    found = review([ended], None, TIMEOUT, Policy(), START, limits)

    assert found.verdicts[ended.pod_uid].status_reason == TIMED_OUT


def test_an_attempt_that_a_limit_on_runnable_deleted_fails_by_that() -> None:
    deleted = attempt(
        Phase.FAILED, deleting=True, created_at=START, stopped_at=START + timedelta(seconds=60),
        **UNBOUND,
    )  # fmt: skip
    rule = limited("RUNNABLE", "TERMINATE")
    found = reviewed(deleted, rule, after_s=61).verdicts[deleted.pod_uid]
    too_early = replace(deleted, stopped_at=START + timedelta(seconds=59))

    assert (found.status_reason, found.retryable) == (f"{TERMINATED}WaitingForNode", False)
    assert not reviewed(too_early, rule, after_s=61).verdicts


def test_a_job_that_has_still_to_make_its_pods_waits_for_no_node() -> None:
    """Another environment would have its nodes no sooner: whatever holds the Pods up is no node."""
    main = attempt(Phase.ASSUMED, node_group=0, created_at=START, **UNBOUND)
    move = limited("RUNNABLE", "NEXT_COMPUTE_ENVIRONMENT")

    assert len(reviewed(replace(main, phase=Phase.UNBOUND), move, after_s=60).to_move) == 1
    assert reviewed(replace(main, members=1), move, after_s=60).to_move == ()


def test_a_pod_that_leaves_an_environment_says_that_it_takes_no_more_work() -> None:
    seen = attempt(Phase.UNBOUND, created_at=START, **UNBOUND)
    limits = TimeLimits(closed={"local"})

    assert review([seen], None, None, Policy(), START, limits).to_move == (
        (seen, "Moved to the next compute environment: local takes no more work"),
    )


def test_a_pod_is_moved_when_it_has_waited_for_as_long_as_it_may_and_not_before() -> None:
    """`maxWaitSeconds`; in between the job is looked at when that is up."""
    seen = attempt(Phase.UNBOUND, created_at=START, **UNBOUND)
    limits = TimeLimits(max_waits={"local": 30})
    early, late = (
        review([seen], None, None, Policy(), START + timedelta(seconds=at_s), limits)
        for at_s in (29, 30)
    )

    assert (early.to_move, early.look_again_at) == ((), START + timedelta(seconds=30))
    assert [mark for _, mark in late.to_move] == [
        "Moved to the next compute environment: in local no node took it for 30 s"
    ]
    assert late.look_again_at is None


@pytest.mark.parametrize(
    ("indexes", "named"),
    [("1,4-5", "1,4-5"), ("5-3", "3-5"), ("99998-4000000000000", "99998-99999"), ("7-7", "7")],
)
def test_children_are_named_by_intervals_whichever_way_round(indexes: str, named: str) -> None:
    spec = job(arrayProperties={"size": 9}, cancel={"reason": "no more", "indexes": indexes}).spec
    [(found, stop)] = stops_of_children(spec)

    assert str(found) == named
    assert stop == CANCEL
    assert stop_of(spec, Counted(IndexSet.range(9))) is None


def test_a_child_that_is_to_be_terminated_and_cancelled_is_terminated() -> None:
    both = {
        "terminate": {"reason": "no more", "indexes": "1"},
        "cancel": {"reason": "no", "indexes": "0-1"},
    }
    of_children = stops_of_children(job(arrayProperties={"size": 3}, **both).spec)
    live = [attempt(Phase.RUNNING, index=index) for index in range(3)]
    found = review(live, None, None, Policy(), START, of_children=of_children)

    assert [one.index for one in found.to_stop] == [1]
