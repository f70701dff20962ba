"""The front of a queue as its status shows it, written again only where there is news.

The rows are those of the last forecast, and a forecast is made only when something has happened, or
has not happened in its time. So at rest nothing is written, and what moves a little is left as it
is. After a forecast a cycle sees to a few queues only, and the next ones to the others.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.job import EstimatedStart
from batch_operator.api.job_queue import QueuedJob, StartTimes
from batch_operator.lifecycle.holds import Reason
from batch_operator.scheduling.faults import kept_away
from batch_operator.scheduling.obstacles import capacity_hold

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from batch_operator.api.job import BatchJobStatus
    from batch_operator.scheduling.faults import Fault
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.outlook import Estimate, Forecast
    from batch_operator.scheduling.snapshot import Job, Queue, Snapshot

ROWS_PER_CYCLE = 200
"""Once so many have been seen to, other queues wait for the next cycle."""
NEWS = timedelta(minutes=1)
NEWS_PART = 0.2
"""An estimate that moves by less than a minute or this part of its distance is no news."""


def renew_fronts(snapshot: Snapshot, memo: Memo, faults: list[Fault]) -> datetime | None:
    """Decide what to show of queues about which there is a new forecast, and when to go on."""
    outlook, rows = memo.outlook, 0
    while outlook.fronts_due and outlook.forecast is not None and rows < ROWS_PER_CYCLE:
        name = next(iter(outlook.fronts_due))
        del outlook.fronts_due[name]
        if queue := snapshot.queues.get(name):
            with kept_away(f"the front of queue {name}", faults):
                outlook.fronts[name] = _decided(queue, snapshot, memo, outlook.forecast)
            memo.touched_queues[name] = None
            rows += 1 + len(outlook.forecast.fronts.get(name, ()))
    return snapshot.now if outlook.fronts_due else None


def front_of(queue: Queue, memo: Memo) -> tuple[Sequence[QueuedJob], datetime | None]:
    """The rows to show, and when they were made."""
    known = memo.outlook.fronts.get(queue.name)
    return known if known is not None else (queue.status.front, queue.status.front_updated_at)


def _decided(
    queue: Queue, snapshot: Snapshot, memo: Memo, forecast: Forecast
) -> tuple[Sequence[QueuedJob], datetime | None]:
    stored = queue.status.front
    rows = _rows(queue, snapshot, memo, forecast)
    is_news = len(rows) != len(stored) or any(
        _is_news(old, new, forecast.made_at) for old, new in zip(stored, rows, strict=True)
    )
    if not is_news:
        return stored, queue.status.front_updated_at
    return rows, forecast.made_at.replace(microsecond=0)


def _rows(queue: Queue, snapshot: Snapshot, memo: Memo, forecast: Forecast) -> list[QueuedJob]:
    made_at = forecast.made_at.replace(microsecond=0)
    since = {(one.namespace, one.job, one.position): one.since for one in queue.status.front}
    rows: list[QueuedJob] = []
    for uid in forecast.fronts.get(queue.name, ()):
        look = memo.looks.get(uid)
        if look is None:
            continue
        job, position, reason = look.job, len(rows) + 1, Reason.BEHIND_OTHERS
        blocked = memo.blocked_as(job)
        if blocked is not None:
            reason = capacity_hold(
                blocked, snapshot.consumables, memo.nodes.suits, snapshot.jobs
            ).reason
        rows.append(
            QueuedJob(
                namespace=job.namespace,
                job=job.name,
                position=position,
                reason=reason,
                since=since.get((job.namespace, job.name, position), made_at),
                estimated_start=_times(forecast.estimates[uid]),
            )
        )
    return rows


def _times(estimate: Estimate) -> StartTimes | None:
    if estimate.p50 is None or estimate.p90 is None:
        return None
    return StartTimes(p50=estimate.p50, p90=estimate.p90)


def _is_news(old: QueuedJob, new: QueuedJob, made_at: datetime) -> bool:
    if (old.namespace, old.job, old.reason) != (new.namespace, new.job, new.reason):
        return True
    before, after = old.estimated_start, new.estimated_start
    if before is None or after is None:
        return before is not after
    pairs = ((before.p50, after.p50), (before.p90, after.p90))
    return any(abs(b - a) > max(NEWS, abs(a - made_at) * NEWS_PART) for b, a in pairs)


def has_past(job: Job, now: datetime) -> bool:
    """Whether a job is told of a start that should have come by now."""
    known = job.status.pending.estimated_start if job.status.pending else None
    return known is not None and known.p90 is not None and known.p90 <= now


def with_estimate(status: BatchJobStatus, memo: Memo, uid: str) -> BatchJobStatus:
    """A status that is about to be written, with what is known now of the job's start."""
    if status.pending is None:
        return status
    forecast = memo.outlook.forecast
    estimate = forecast.estimates.get(uid) if forecast is not None else None
    told = (
        EstimatedStart(p50=estimate.p50, p90=estimate.p90, basis=estimate.basis)
        if estimate is not None
        else None
    )
    if told == status.pending.estimated_start:
        return status
    pending = status.pending.model_copy(update={"estimated_start": told})
    return status.model_copy(update={"pending": pending})
