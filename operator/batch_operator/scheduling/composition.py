"""The status of a job, put together from a look at it and from where it stands in its queue."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batch_operator.api.job import JobState
from batch_operator.api.sentences import NAMED_MAX
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.status import status_of
from batch_operator.scheduling.awaited import node_hold
from batch_operator.scheduling.charges import book_of, share_usage
from batch_operator.scheduling.costs import cost_to, with_costs
from batch_operator.scheduling.front import has_past, with_estimate
from batch_operator.scheduling.mutations import Urgency, WriteStatus
from batch_operator.scheduling.obstacles import behind_hold, capacity_hold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.job import BatchJobStatus
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.lifecycle.holds import Hold
    from batch_operator.scheduling.backlog import Backlog
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.queues import Impasse
    from batch_operator.scheduling.snapshot import Job, Snapshot

_ALONE: Mapping[JobState, Mapping[JobState, int]] = {state: {state: 1} for state in JobState}
"""The states of the children of a job that is no array; the same for all that are in one."""


def job_status(snapshot: Snapshot, memo: Memo, look: Evaluation) -> WriteStatus:
    job = look.job
    backlog = memo.backlogs[job.spec.job_queue]
    blocked = memo.blocked_as(job)
    if blocked is not None:
        hold: Hold | None = capacity_hold(
            blocked, snapshot.consumables, memo.nodes.suits, snapshot.jobs
        )
    else:
        hold = _behind(backlog, job, snapshot, memo.impasses.get(job.spec.job_queue))
    queue = snapshot.queues.get(job.spec.job_queue)
    book = book_of(snapshot, memo, queue) if queue is not None else None
    usage = share_usage(look, book.half_life) if book is not None else job.status.share_usage
    status = status_of(_with_node_hold(snapshot, memo, look), hold, snapshot.now, usage)
    if (costs := memo.ledger.jobs.get(job.uid)) is not None:
        known = {"cost": cost_to(costs), "attempts": with_costs(status.attempts, costs)}
        status = status.model_copy(update=known)
    is_new = status != job.status
    if is_new or has_past(job, snapshot.now):
        status = with_estimate(status, memo, job.uid)
        is_new = status != job.status
    status = status if is_new else job.status
    memo.expect(look, status if is_new else None)
    memo.count_states(job.uid, (job.spec.job_queue, _counts(status)))
    return write_job(job, status, _urgency(look, status))


def _with_node_hold(snapshot: Snapshot, memo: Memo, look: Evaluation) -> Evaluation:
    """The look with why the first of its attempts that has no node has none."""
    waits = (one for one in look.children.live if one.phase is Phase.UNBOUND and not one.gated)
    first = next(waits, None)
    hold = node_hold(snapshot, memo, first) if first is not None else None
    return replace(look, node_hold=hold) if hold is not None else look


def write_job(job: Job, status: BatchJobStatus, urgency: Urgency) -> WriteStatus:
    return WriteStatus(
        kind="BatchJob",
        namespace=job.namespace,
        name=job.name,
        uid=job.uid,
        decided_on=job.resource_version,
        status=None if status is job.status or status == job.status else status,
        urgency=urgency,
    )


def _behind(backlog: Backlog, job: Job, snapshot: Snapshot, impasse: Impasse | None) -> Hold | None:
    """Why a job waits that could start, but for those before it."""
    position = backlog.position(job.uid)
    if position is None:
        return None
    head = impasse.head if impasse is not None else None
    if position > 1:
        before = backlog.before(job.uid, NAMED_MAX)
    else:
        before = [head.uid] if head is not None else []
    own = [one for uid in before if (one := snapshot.jobs.get(uid)) is not None]
    names = tuple(one.name for one in own if one.namespace == job.namespace)
    return behind_hold(job, position, names, head.turns if head else (), snapshot.now)


def _counts(status: BatchJobStatus) -> Mapping[JobState, int]:
    if status.array is not None:
        return {state: count for state, count in status.array.status_summary.items() if count}
    return _ALONE[status.state]


def _urgency(look: Evaluation, status: BatchJobStatus) -> Urgency:
    if look.ending is not None:
        return Urgency.FINAL
    if look.children.newly_ended:
        return Urgency.COUNTED
    before = look.job.status
    is_same = status.state is before.state and status.attempts == before.attempts
    if is_same and status.array == before.array:
        return Urgency.LAZY
    return Urgency.NORMAL
