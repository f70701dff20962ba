"""What ends attempts before their time: requests, timeout, limits on failures and on time.

AWS: a cancelled, terminated or timed-out job is never retried. Every reason here can be read again
from what is stored (the job's spec, its counts, and when a Pod's deletion was asked for), so a
restart between asking a Pod to stop and counting it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from batch_operator.api.index_set import MAX_INDEX, IndexSet
from batch_operator.api.job import JobState
from batch_operator.api.job_queue import TimeLimitAction
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.clocks import later
from batch_operator.lifecycle.limits import (
    CANCELED,
    EXCEEDED,
    NO_LIMITS,
    TimeLimits,
    ended_by,
    ends,
    leaves,
    limit_behind,
    moves_on_at,
    stays_due,
)
from batch_operator.lifecycle.outcomes import FAILED_TO_START, MOVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from batch_operator.api.common import Timeout
    from batch_operator.api.job import BatchJobSpec
    from batch_operator.api.requests import StopRequest
    from batch_operator.lifecycle.attempt import PodAttempt, StartError
    from batch_operator.lifecycle.children import Counted
    from batch_operator.lifecycle.limits import Due

SLOW_FACTOR = 10
DIGITS_MAX = 9
"""So many of an index are read; whoever writes more means all that there are."""
TIMED_OUT = "Job attempt duration exceeded timeout"


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's settings that rules depend on."""

    start_failure_grace_s: float = 60.0
    """How long a container on a node may fail to start (an image that cannot be pulled), once its
    init containers are over, before the attempt is given up; ten times that for a volume, or a
    network."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a job starts nothing more. `spares_started`: what is on a node goes on (cancel)."""

    status_reason: str
    token: str
    message: str
    spares_started: bool = False


@dataclass(frozen=True, slots=True)
class Review:
    """What becomes of a job's attempts.

    `verdicts` has, by Pod uid, attempts that count otherwise than their Pods show; `to_stop` those
    that have to be ended now, `to_move` those that have to be ended so that their children start
    elsewhere, and the mark that says why; `look_again_at` is when the next one is due.
    """

    verdicts: Mapping[str, PodAttempt]
    to_stop: tuple[PodAttempt, ...]
    to_move: tuple[tuple[PodAttempt, str], ...]
    look_again_at: datetime | None


def stop_of(spec: BatchJobSpec, counted: Counted) -> Stop | None:
    """Whether and why the job is being ended, by what is stored."""
    for request, stop in _requests(spec):
        if request.indexes is None:
            return stop
    # Before the limit on failures: what it ends has failed, and may be more than that allows.
    if exceeded := next(filter(None, map(limit_behind, counted.failures)), None):
        return _limit_stop(exceeded)
    limit = spec.array_properties.max_failed_indexes if spec.array_properties else None
    if limit is not None and len(counted.failed) > limit:
        reason = f"Array stopped: more than maxFailedIndexes {limit} children failed"
        return Stop(reason, "MaxFailedIndexesExceeded", reason)
    return None


def stops_of_children(spec: BatchJobSpec) -> list[tuple[IndexSet, Stop]]:
    """The children of an array that are being ended by themselves, and why."""
    return [
        (_named(request.indexes), stop)
        for request, stop in _requests(spec)
        if request.indexes is not None
    ]


def _stop_of_child(index: int, of_children: Sequence[tuple[IndexSet, Stop]]) -> Stop | None:
    return next((stop for indexes, stop in of_children if index in indexes), None)


def _requests(spec: BatchJobSpec) -> Iterator[tuple[StopRequest, Stop]]:
    if spec.terminate is not None:
        reason = spec.terminate.reason
        yield spec.terminate, Stop(reason, "Terminated", f"terminated: {reason}")
    if spec.cancel is not None:
        reason = spec.cancel.reason
        yield spec.cancel, Stop(reason, "Cancelled", f"cancelled: {reason}", spares_started=True)


def _named(intervals: str) -> IndexSet:
    """The indexes; an interval may be written the wrong way round, and go on beyond all indexes."""
    found = IndexSet()
    for one in intervals.split(","):
        ends = sorted(min(int(end[:DIGITS_MAX]), MAX_INDEX) for end in one.split("-"))
        found |= IndexSet.range(ends[-1] + 1) - IndexSet.range(ends[0])
    return found


def stop_by_limit(found: Iterable[Due], now: datetime) -> Stop | None:
    """Whether and why a time limit of the queue ends the job, of those for who waits in it."""
    late = next((one for one in found if ends(one) and one.at <= now), None)
    return _limit_stop(late.ending) if late else None


def _limit_stop(reason: str) -> Stop:
    return Stop(reason, EXCEEDED, reason, spares_started=reason.startswith(CANCELED))


def review(
    attempts: Iterable[PodAttempt],
    stop: Stop | None,
    timeout: Timeout | None,
    policy: Policy,
    now: datetime,
    limits: TimeLimits = NO_LIMITS,
    of_children: Sequence[tuple[IndexSet, Stop]] = (),
) -> Review:
    """Judge every attempt of a job; `of_children`, see `stops_of_children`."""
    verdicts: dict[str, PodAttempt] = {}
    to_stop: list[PodAttempt] = []
    to_move: list[tuple[PodAttempt, str]] = []
    deadlines: list[datetime | None] = []
    is_bounded = bool(stop or of_children or timeout or limits is not NO_LIMITS)
    for attempt in attempts:
        own = stop or (_stop_of_child(attempt.index, of_children) if of_children else None)
        if attempt.phase.ended:
            judged = _judged(attempt, own, timeout, limits)
            if judged is not attempt:
                verdicts[attempt.pod_uid] = judged
            continue
        if attempt.deleting or attempt.stopping or attempt.is_on_its_way:
            continue
        if not is_bounded and attempt.requeued is None and attempt.start_error is None:
            continue  # as most of a large array's
        moves_at = moves_on_at(limits, attempt)
        found = stays_due(limits, [attempt])
        late = [one for one in found if one.at <= now]
        deadlines += [moves_at, *(one.at for one in found)]
        if _must_end(attempt, own, timeout, now) or any(ends(one) for one in late):
            to_stop.append(attempt)
        elif why := _why_it_moves(attempt, late, moves_at, limits, now):
            to_move.append((attempt, f"{MOVED}: {why}"))
        else:
            deadlines.append(_deadline(attempt, timeout))
            if error := attempt.start_error:
                give_up_at = _give_up_at(attempt, error, policy, now)
                deadlines.append(give_up_at)
                if give_up_at <= now:
                    verdicts[attempt.pod_uid] = _given_up(attempt, error, own, now)
    look_again_at = min((one for one in deadlines if one and one > now), default=None)
    return Review(verdicts, tuple(to_stop), tuple(to_move), look_again_at)


def _must_end(
    attempt: PodAttempt, stop: Stop | None, timeout: Timeout | None, now: datetime
) -> bool:
    if attempt.requeued is not None:
        return True  # it was marked; what was to follow may not have
    if stop is not None and _is_hit(attempt, stop):
        return True
    deadline = _deadline(attempt, timeout)
    return deadline is not None and deadline <= now


def _why_it_moves(
    attempt: PodAttempt,
    late: Iterable[Due],
    moves_at: datetime | None,
    limits: TimeLimits,
    now: datetime,
) -> str | None:
    """Why an attempt is to be tried in another compute environment, if it is.

    A Job that is still to make its Pods waits for no node.
    """
    action, name = TimeLimitAction.NEXT_COMPUTE_ENVIRONMENT, attempt.environment
    moves = [one for one in late if one.rule.action is action]
    if moves and not attempt.is_job and attempt.index not in limits.pinned:
        return f"in {name} {moves[0].sentence}"
    if leaves(limits, attempt):
        return f"{name} takes no more work"
    if moves_at is not None and moves_at <= now:
        return f"in {name} no node took it for {limits.max_waits[name]} s"
    return None


def _deadline(attempt: PodAttempt, timeout: Timeout | None) -> datetime | None:
    """AWS: the clock of an attempt runs from when its containers started."""
    if timeout is None or attempt.started_at is None:
        return None
    return later(attempt.started_at, timedelta(seconds=timeout.attempt_duration_seconds))


def _is_hit(attempt: PodAttempt, stop: Stop) -> bool:
    return not stop.spares_started or attempt.node_name is None


def _judged(
    attempt: PodAttempt, stop: Stop | None, timeout: Timeout | None, limits: TimeLimits
) -> PodAttempt:
    """An attempt that has ended, as it counts."""
    if attempt.deleting or attempt.deadline_exceeded:
        return _stopped(attempt, stop, timeout, limits)
    return replace(attempt, retryable=False) if stop is not None else attempt


def _stopped(
    attempt: PodAttempt, stop: Stop | None, timeout: Timeout | None, limits: TimeLimits
) -> PodAttempt:
    """One that was made to end, by whomever."""
    if stop is not None and _is_hit(attempt, stop):
        return _failed(attempt, stop.status_reason)
    over_time = _over_time(attempt, timeout, limits)
    is_requeued = attempt.requeued is not None and attempt.phase is Phase.FAILED
    if is_requeued and over_time is None:
        if stop is not None:
            return _failed(attempt, stop.status_reason)
        return replace(attempt, status_reason=attempt.requeued)
    if attempt.deadline_exceeded:
        return _failed(attempt, over_time or TIMED_OUT)
    if over_time is not None and attempt.node_name is None:
        return _failed(attempt, over_time)
    return replace(attempt, retryable=False) if stop is not None else attempt


def _over_time(attempt: PodAttempt, timeout: Timeout | None, limits: TimeLimits) -> str | None:
    """Why an attempt had to end that has ended, if its time was up by then: what was up first."""
    deadline, limit = _deadline(attempt, timeout), ended_by(limits, attempt)
    if deadline is None or attempt.stopped_at is None or attempt.stopped_at < deadline:
        return limit.ending if limit else None
    if limit is None or limit.stay.state is not JobState.RUNNING or limit.at >= deadline:
        return TIMED_OUT
    return limit.ending


def _failed(attempt: PodAttempt, status_reason: str) -> PodAttempt:
    """Stopped by us: a failure whatever its exit code says, and never retried."""
    return replace(attempt, phase=Phase.FAILED, status_reason=status_reason, retryable=False)


def _give_up_at(attempt: PodAttempt, error: StartError, policy: Policy, now: datetime) -> datetime:
    """When an attempt whose containers cannot start has had its grace."""
    patience = 0 if error.hopeless else SLOW_FACTOR if error.is_slow else 1
    grace_s = patience * policy.start_failure_grace_s
    since = attempt.bound_at or now
    if error.since is not None and since < error.since <= now:
        since = error.since
    return since + timedelta(seconds=grace_s)


def _given_up(
    attempt: PodAttempt, error: StartError, stop: Stop | None, now: datetime
) -> PodAttempt:
    """The attempt as it counts when its containers could not start within their grace."""
    return replace(
        attempt,
        phase=Phase.FAILED,
        stopped_at=now.replace(microsecond=0),
        reason=error.reason,
        status_reason=FAILED_TO_START,
        retryable=stop is None,
    )
