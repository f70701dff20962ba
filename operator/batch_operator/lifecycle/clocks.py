"""Times that others have written: a kubelet's clock may be wrong, or somebody may lie.

The API server's clock, by which objects are created, is believed; what a kubelet says of a Pod is
believed within the Pod's life. What lies outside is told by no clock that can be counted on, so it
is replaced by something that does not move from one look to the next.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from batch_operator.lifecycle.attempt import Phase

if TYPE_CHECKING:
    from batch_operator.lifecycle.attempt import PodAttempt

SKEW = timedelta(minutes=5)
"""So far ahead of ours a clock may be."""
NEVER = datetime(9999, 1, 1, tzinfo=UTC)


def later(at: datetime, delay: timedelta) -> datetime:
    """A time so much later, at the end of all calendars at the latest."""
    return NEVER if delay >= NEVER - at else at + delay


def plausible(attempt: PodAttempt, now: datetime) -> PodAttempt:
    """The attempt without times outside of its Pod's life.

    One that began too early, or later than now, began when it was bound; one that ended so has run
    for no time at all. One of which nobody says when it ended has ended now: it is counted with
    that.
    """
    created_at = attempt.created_at
    if created_at is None:
        return attempt
    if attempt.phase is not Phase.RUNNING and attempt.phase.ended and attempt.stopped_at is None:
        attempt = replace(attempt, stopped_at=max(now.replace(microsecond=0), created_at))
    latest = max(now, created_at) + SKEW
    bound_at, started_at, stopped_at = attempt.bound_at, attempt.started_at, attempt.stopped_at
    if bound_at is not None and not created_at <= bound_at <= latest:
        bound_at = created_at
    if started_at is not None and not created_at <= started_at <= latest:
        started_at = bound_at or created_at
    if stopped_at is not None and not created_at <= stopped_at <= latest:
        stopped_at = started_at or bound_at or created_at
    told = attempt.bound_at, attempt.started_at, attempt.stopped_at
    if told == (bound_at, started_at, stopped_at):
        return attempt
    return replace(attempt, bound_at=bound_at, started_at=started_at, stopped_at=stopped_at)
