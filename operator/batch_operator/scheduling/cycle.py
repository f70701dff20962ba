"""One scheduling cycle: from a snapshot to the writes that follow.

The slow and obviously correct algorithm: look at every job; start from each queue what may start
(`scheduling.dispatch`); compose every job's status; write what differs.

The one optimisation: only jobs that something changed about are looked at again, the rest are
remembered in the `Memo`. So a cycle costs what changed and what starts, whatever the number of jobs
that wait. The result is the same because a look is a function of nothing but what marks its job as
changed.

Phases: 1 look at changed jobs · 2 place · 3 statuses of jobs · 4 nodes of managed environments ·
5 statuses of queues and environments, revisions of definitions · 6 when to look again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from batch_operator.scheduling import administration, budgets, ledger, run_times
from batch_operator.scheduling.capacity import provide
from batch_operator.scheduling.catalogues import read_catalogues
from batch_operator.scheduling.changed import LOOKS_MAX, look_again, to_look_at
from batch_operator.scheduling.composition import job_status
from batch_operator.scheduling.fallthrough import fall_through
from batch_operator.scheduling.faults import Fault, kept_away
from batch_operator.scheduling.forecast import look_ahead
from batch_operator.scheduling.front import renew_fronts
from batch_operator.scheduling.look import after_fault, look_at
from batch_operator.scheduling.queues import serve_queues
from batch_operator.scheduling.rooms import recall_rooms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.mutations import Mutation
    from batch_operator.scheduling.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What a cycle decided. `mutations` are in the order in which they should be sent.

    `has_more`: work was left for another cycle, which should follow soon. `due_at` is when
    something falls due; `wake_at` may come before, to see that all is as it should be.
    """

    mutations: tuple[Mutation, ...]
    wake_at: datetime | None
    looked_at: int
    faults: tuple[Fault, ...] = ()
    has_more: bool = False
    due_at: datetime | None = None


def run_cycle(snapshot: Snapshot, memo: Memo) -> CycleResult:
    """Decide once. `memo` is updated; an empty one gives the same decisions, at a higher cost."""
    faults: list[Fault] = []
    mutations: list[Mutation] = []
    memo.terms.begin()
    run_times.recall(snapshot, memo)
    ledger.recall(snapshot, memo)
    with kept_away("what is known of nodes from before", faults):
        recall_rooms(snapshot, memo)
    looked = to_look_at(snapshot, memo)
    mutations += _see_to(looked, look_at, snapshot, memo, faults)
    if memo.to_look and not memo.is_surveyed:
        return CycleResult(tuple(mutations), None, len(looked), tuple(faults), has_more=True)
    memo.is_surveyed = True
    turned = look_again(snapshot, memo, budgets.review(snapshot, memo, faults))
    mutations += _see_to(turned, look_at, snapshot, memo, faults)
    forecast_at = look_ahead(snapshot, memo, faults)
    served = serve_queues(snapshot, memo, faults)
    mutations += [*served.starts, *served.stops]
    memo.to_compose.update(dict.fromkeys(served.moved))
    compose = partial(_compose, started={start.job.uid for start in served.starts})
    to_compose = list(islice(memo.to_compose, LOOKS_MAX))
    mutations += _see_to(to_compose, compose, snapshot, memo, faults)
    provided, provide_at, seen_to_at = provide(snapshot, memo, faults)
    reads, read_at = read_catalogues(snapshot)
    mutations += [*provided, *reads]
    with kept_away("moves to other environments", faults):
        mutations += fall_through(snapshot, memo)
    fronts_at = renew_fronts(snapshot, memo, faults)
    mutations += administration.mutations(snapshot, memo, faults)
    has_more = bool(
        memo.to_look or memo.to_compose or memo.touched_queues or memo.touched_environments
    )
    budgets_at = budgets.next_at(memo)
    dues = (memo.next_deadline(), forecast_at, provide_at, budgets_at, fronts_at)
    due_at = min(filter(None, dues), default=None)
    explained_at = (served.again_at, memo.outlook.refuted_at)
    wake_at = min(filter(None, (due_at, seen_to_at, read_at, *explained_at)), default=None)
    looks = len(looked) + len(turned)
    return CycleResult(tuple(mutations), wake_at, looks, tuple(faults), has_more, due_at)


def _see_to(
    uids: Iterable[str],
    work: Callable[[Snapshot, Memo, str], list[Mutation]],
    snapshot: Snapshot,
    memo: Memo,
    faults: list[Fault],
) -> list[Mutation]:
    """What each job asks to be written, whatever goes wrong with the others."""
    mutations: list[Mutation] = []
    for uid in uids:
        try:
            mutations += work(snapshot, memo, uid)
        except Exception as error:  # noqa: BLE001  # one broken job must not stop the others
            mutations += after_fault(snapshot, memo, uid)
            job = snapshot.jobs.get(uid)
            faults.append(Fault(f"job {job.namespace}/{job.name}" if job else f"job {uid}", error))
    return mutations


def _compose(snapshot: Snapshot, memo: Memo, uid: str, *, started: set[str]) -> list[Mutation]:
    """The status of a job that was looked at, or began or ceased to block its queue."""
    del memo.to_compose[uid]
    look = memo.looks.get(uid)
    # A job that starts something is looked at in the next cycle, with its creates in it; but
    # one that starts something in every cycle must not keep its outcomes to itself.
    if look is None or (uid in started and not look.children.newly_ended):
        return []
    return [job_status(snapshot, memo, look)]
