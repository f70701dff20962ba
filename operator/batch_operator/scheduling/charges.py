"""What a job counts against its share, from one look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.common import ShareUsage
from batch_operator.scheduling.shares import Charge, ShareBook, Usage, half_life_s, usage_of_run
from batch_operator.scheduling.terms import offer_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Queue, Snapshot


def usage_from(stored: ShareUsage | None) -> Usage:
    return Usage(stored.vcpu_seconds * 1000, stored.at) if stored else Usage()


def usage_to(usage: Usage) -> ShareUsage | None:
    """As it is stored: to a thousandth of a vCPU-second, at a whole second."""
    vcpu_seconds = round(usage.amount / 1000, 3)
    return ShareUsage(vcpu_seconds=vcpu_seconds, at=usage.at) if vcpu_seconds else None


def share_usage(look: Evaluation, half_life: float) -> ShareUsage | None:
    """The usage of a job's attempts that are over: the stored one, with what has ended since."""
    stored = look.job.status.share_usage
    usage = usage_from(stored)
    for one in look.children.newly_ended:
        if one.bound_at is None or one.stopped_at is None:
            continue  # what never had a node has used nothing
        stopped_at = one.stopped_at.replace(microsecond=0)
        held_s = max(0.0, (stopped_at - one.bound_at).total_seconds())
        amount = usage_of_run(_milli_cpu(look, one), held_s, 0, half_life)
        usage = usage.plus(amount, stopped_at, half_life)
    return usage_to(usage) if look.children.newly_ended else stored


def charge_of(look: Evaluation, half_life: float, *, is_open: bool) -> Charge | None:
    """What a job with a share identifier counts against it now."""
    share = look.job.spec.share_identifier
    if share is None:
        return None
    return Charge(
        share=share,
        over=usage_from(share_usage(look, half_life)),
        runs=tuple(
            (one.bound_at, _milli_cpu(look, one))
            for one in look.children.live
            if one.bound_at is not None and not _is_counted(look, one)
        ),
        held=sum(look.usage.values()),
        is_open=is_open,
    )


def _is_counted(look: Evaluation, one: PodAttempt) -> bool:
    """Whether its usage is among that of attempts that are over, though its Pod may live on."""
    counted = look.children.counted
    is_final = one.index in counted.succeeded or one.index in counted.failed
    return is_final or one.number <= counted.used(one.index)


def _milli_cpu(look: Evaluation, one: PodAttempt) -> int:
    """What the attempt holds: of a multi-node job the main node's stands for all of them."""
    whole = look.plan.milli_cpu if look.plan is not None and look.plan.groups else 0
    return max(whole, one.milli_cpu)


def charge(snapshot: Snapshot, memo: Memo, look: Evaluation, *, is_open: bool) -> None:
    """Put what the job has used and holds into its queue's book, if that has one."""
    queue = snapshot.queues.get(look.job.spec.job_queue)
    if queue is None or (book := book_of(snapshot, memo, queue)) is None:
        return
    memo.charge(look.job.uid, queue.name, charge_of(look, book.half_life, is_open=is_open))
    memo.touched_queues[queue.name] = None


def book_of(snapshot: Snapshot, memo: Memo, queue: Queue) -> ShareBook | None:
    """The book of a queue's shares; None for a queue that names no scheduling policy.

    Books are kept while the policy is missing, too: what is used meanwhile counts.
    """
    if queue.spec.scheduling_policy is None:
        return None
    book = memo.books.get(queue.name)
    if book is None:
        deleted = {
            row.share_identifier: usage_from(row.deleted_jobs_usage)
            for row in queue.status.shares
            if row.deleted_jobs_usage is not None
        }
        book = memo.books[queue.name] = ShareBook(deleted, queue.uid)
    policy = offer_of(snapshot, memo, queue).policy
    return book.at(snapshot.now, book.half_life if policy is None else half_life_s(policy))


def never_charged(snapshot: Snapshot, memo: Memo, names: Iterable[str]) -> set[str]:
    """Jobs of queues that shares are reckoned in only now; those that are over count, too.

    Their books are made here, though they may stay empty: so nobody is sought for them again.
    """
    fresh: set[str] = set()
    for name in names:
        queue, book = snapshot.queues.get(name), memo.books.get(name)
        if book is not None and (queue is None or queue.uid != book.queue_uid):
            book = None
            del memo.books[name]
        if queue is not None and book is None and book_of(snapshot, memo, queue) is not None:
            fresh.add(name)
    if not fresh:
        return fresh
    return {uid for uid, job in snapshot.jobs.items() if job.spec.job_queue in fresh}
