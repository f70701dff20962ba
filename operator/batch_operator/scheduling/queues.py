"""All queues of a cycle: what starts, and which job blocks each of them."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from batch_operator.scheduling.administration import Fault
from batch_operator.scheduling.backfill import releases
from batch_operator.scheduling.charges import book_of
from batch_operator.scheduling.consumables import free_units
from batch_operator.scheduling.dispatch import Dispatch
from batch_operator.scheduling.placement import fair_policy, usable_environments
from batch_operator.scheduling.room import Room
from batch_operator.scheduling.shares import FairStanding
from batch_operator.scheduling.starts import starts_of
from batch_operator.scheduling.walk import Equal

if TYPE_CHECKING:
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.backlog import Ask, Backlog
    from batch_operator.scheduling.dispatch import Blocked
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Queue, Snapshot
    from batch_operator.scheduling.starts import Start
    from batch_operator.scheduling.walk import Standing


def serve_queues(
    snapshot: Snapshot, memo: Memo, faults: list[Fault]
) -> tuple[list[Start], list[str]]:
    """Starts for what fits, and the uids of jobs that began or ceased to block their queue."""
    moved: list[str] = []
    dispatch = _dispatch(snapshot, memo)
    queues = sorted(snapshot.queues.values(), key=lambda one: (-one.spec.priority, one.name))
    for queue in queues:
        if dispatch.budget <= 0:
            break
        backlog = memo.backlogs.get(queue.name)
        blocked = None
        if backlog:
            try:
                blocked = _serve(snapshot, memo, dispatch, queue, backlog)
            except Exception as error:  # noqa: BLE001  # one broken queue must not stop the others
                faults.append(Fault(f"queue {queue.name}", error))
                continue
        before = memo.blocked.pop(queue.name, None)
        if blocked is not None:
            memo.blocked[queue.name] = blocked
        if (before and before.uid) != (blocked and blocked.uid):
            moved += [one.uid for one in (before, blocked) if one is not None]
    memo.touched_consumables.update(memo.wishes, dispatch.wishes)
    memo.wishes = dispatch.wishes
    _step_aside(memo, dispatch)
    return starts_of(dispatch.placed, memo.looks), moved


def _dispatch(snapshot: Snapshot, memo: Memo) -> Dispatch:
    units = free_units(snapshot.consumables, memo.used_units)

    def takes_s(ask: Ask) -> float | None:
        return ask.timeout_s

    def runs_s(look: Evaluation) -> float | None:
        timeout = look.plan.timeout if look.plan else None
        return timeout.attempt_duration_seconds if timeout else None

    return Dispatch(
        now=snapshot.now,
        room=Room(Counter(memo.used_milli), units),
        resources=snapshot.consumables,
        limit_of=lambda uid: memo.looks[uid].start_limit,
        takes_s=takes_s,
        releases=cache(lambda: releases(memo.looks.values(), runs_s, snapshot.now)),
        budget=snapshot.start_budget,
    )


def _serve(
    snapshot: Snapshot, memo: Memo, dispatch: Dispatch, queue: Queue, backlog: Backlog
) -> Blocked | None:
    usable = 1.0
    standing: Standing = Equal()
    policy, book = fair_policy(queue, snapshot.policies), book_of(snapshot, memo, queue)
    if policy is not None and book is not None:
        fair = FairStanding(book, policy, snapshot.now)
        standing, usable = fair, fair.usable
    environments = usable_environments(queue, snapshot.environments)
    backfill = queue.spec.backfill
    return dispatch.serve(backlog, environments, standing, usable, backfill=backfill)


def _step_aside(memo: Memo, dispatch: Dispatch) -> None:
    """Those that got all they wanted no longer stand before the others.

    The next cycle, which sees their creates, puts back what is still to come of them.
    """
    for uid, count in dispatch.taken.items():
        look = memo.looks[uid]
        if count >= look.start_limit:
            memo.backlogs[look.job.spec.job_queue].set(uid, ())
