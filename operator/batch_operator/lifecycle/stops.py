"""What ends attempts before their time: cancel, terminate, timeout, a limit on failures.

AWS: a cancelled, terminated or timed-out job is never retried. Every reason here can be read again
from what is stored (the job's spec, its counts, and when a Pod's deletion was asked for), so a
restart between asking a Pod to stop and counting it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from batch_operator.lifecycle.attempt import FAILED_TO_START, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.api.common import Timeout
    from batch_operator.api.job import BatchJobSpec
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.children import Counted

TIMED_OUT = "Job attempt duration exceeded timeout"


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's settings that rules depend on."""

    start_failure_grace_s: float = 60.0
    """How long a container on a node may fail to start (an image that cannot be pulled) before
    the attempt is given up."""


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
    that have to be ended now; `look_again_at` is when the next one is due.
    """

    verdicts: Mapping[str, PodAttempt]
    to_stop: tuple[PodAttempt, ...]
    look_again_at: datetime | None


def stop_of(spec: BatchJobSpec, counted: Counted) -> Stop | None:
    """Whether and why the job is being ended, by what is stored."""
    if spec.terminate is not None:
        reason = spec.terminate.reason
        return Stop(reason, "Terminated", f"terminated: {reason}")
    if spec.cancel is not None:
        reason = spec.cancel.reason
        return Stop(reason, "Cancelled", f"cancelled: {reason}", spares_started=True)
    array = spec.array_properties
    if array is not None and array.max_failed_indexes is not None:
        limit = array.max_failed_indexes
        if len(counted.failed) > limit:
            reason = f"Array stopped: more than maxFailedIndexes {limit} children failed"
            return Stop(reason, "MaxFailedIndexesExceeded", reason)
    return None


def review(
    attempts: Iterable[PodAttempt],
    stop: Stop | None,
    timeout: Timeout | None,
    policy: Policy,
    now: datetime,
) -> Review:
    """Judge every attempt of a job."""
    verdicts: dict[str, PodAttempt] = {}
    to_stop: list[PodAttempt] = []
    deadlines: list[datetime] = []
    for attempt in attempts:
        deadline = _deadline(attempt, timeout)
        if attempt.phase.ended:
            judged = _judged(attempt, stop)
            if judged is not attempt:
                verdicts[attempt.pod_uid] = judged
        elif attempt.deleting or attempt.stopping or attempt.is_on_its_way:
            continue
        elif (
            _is_hit(attempt, stop)
            or attempt.requeued is not None
            or (deadline is not None and deadline <= now)
        ):
            to_stop.append(attempt)
        elif (give_up_at := _give_up_at(attempt, policy, now)) is None:
            deadlines += [deadline] if deadline else []
        elif give_up_at <= now:
            verdicts[attempt.pod_uid] = _given_up(attempt, stop, now)
        else:
            deadlines.append(give_up_at)
    return Review(verdicts, tuple(to_stop), min(deadlines, default=None))


def _deadline(attempt: PodAttempt, timeout: Timeout | None) -> datetime | None:
    """AWS: the clock of an attempt runs from when its containers started."""
    if timeout is None or attempt.started_at is None:
        return None
    return attempt.started_at + timedelta(seconds=timeout.attempt_duration_seconds)


def _is_hit(attempt: PodAttempt, stop: Stop | None) -> bool:
    if stop is None:
        return False
    return not stop.spares_started or attempt.node_name is None


def _judged(attempt: PodAttempt, stop: Stop | None) -> PodAttempt:
    """An attempt that has ended, as it counts."""
    was_stopped = attempt.deleting or attempt.deadline_exceeded
    if stop is not None and was_stopped and _is_hit(attempt, stop):
        return _failed(attempt, stop.status_reason)
    if attempt.requeued is not None and was_stopped and attempt.phase is Phase.FAILED:
        if stop is not None:
            return _failed(attempt, stop.status_reason)
        return replace(attempt, status_reason=attempt.requeued)
    if attempt.deadline_exceeded:
        return _failed(attempt, TIMED_OUT)
    return replace(attempt, retryable=False) if stop is not None else attempt


def _failed(attempt: PodAttempt, status_reason: str) -> PodAttempt:
    """Stopped by us: a failure whatever its exit code says, and never retried."""
    return replace(attempt, phase=Phase.FAILED, status_reason=status_reason, retryable=False)


def _give_up_at(attempt: PodAttempt, policy: Policy, now: datetime) -> datetime | None:
    """When an attempt whose containers cannot start has had its grace."""
    error = attempt.start_error
    if error is None:
        return None
    grace_s = 0.0 if error.hopeless else policy.start_failure_grace_s
    return (attempt.bound_at or now) + timedelta(seconds=grace_s)


def _given_up(attempt: PodAttempt, stop: Stop | None, now: datetime) -> PodAttempt:
    assert attempt.start_error is not None  # that is what it is given up for
    return replace(
        attempt,
        phase=Phase.FAILED,
        stopped_at=now.replace(microsecond=0),
        reason=attempt.start_error.reason,
        status_reason=FAILED_TO_START,
        retryable=stop is None,
    )
