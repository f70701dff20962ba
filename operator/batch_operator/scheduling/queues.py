"""All queues of a cycle: what starts, and which jobs of each cannot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from batch_operator.scheduling.backfill import expected, longest_s, releases
from batch_operator.scheduling.charges import book_of
from batch_operator.scheduling.consumables import free_units
from batch_operator.scheduling.dispatch import Dispatch
from batch_operator.scheduling.faults import Fault
from batch_operator.scheduling.preemption import Source, Victims, preempt
from batch_operator.scheduling.room import Room
from batch_operator.scheduling.shares import FairStanding
from batch_operator.scheduling.starts import starts_of
from batch_operator.scheduling.terms import offer_of
from batch_operator.scheduling.walk import MANY, Equal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.backlog import Backlog
    from batch_operator.scheduling.dispatch import Blocked
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.mutations import StopPod
    from batch_operator.scheduling.preemption import Company, Preemption
    from batch_operator.scheduling.snapshot import Queue, Snapshot
    from batch_operator.scheduling.starts import Start
    from batch_operator.scheduling.terms import Offer


@dataclass(slots=True)
class Served:
    """What came of serving all queues.

    `moved` are jobs that began or ceased to block theirs, or to stand aside.
    """

    starts: list[Start] = field(default_factory=list)
    stops: list[StopPod] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Impasse:
    """What stops a queue: the job at its front that does not fit, and who stands aside, by request.

    `moves` and `offer` are what that followed from, with the room that there was.
    """

    blocked: Sequence[Blocked]
    moves: int
    offer: Offer
    lasts: bool
    """Whether the first job lacks nothing but room, so that it lasts as long as that does."""

    def stays(self, backlog: Backlog, offer: Offer, room: Room) -> bool:
        """Whether it is known to be the same without serving the queue again."""
        head = self.blocked[0]
        return (
            self.lasts
            and self.moves == backlog.moves
            and self.offer is offer
            and all(room.free(one) == free for one, free in head.free)
            and not room.suitable(head.ask, head.unsuited)
        )


def serve_queues(snapshot: Snapshot, memo: Memo, faults: list[Fault]) -> Served:
    """Start what fits, and make room where a queue asks for that."""
    served = Served()
    dispatch = _dispatch(snapshot, memo)
    victims = cache(lambda: Victims(memo.live(), snapshot.now))
    queues = sorted(snapshot.queues.values(), key=lambda one: (-one.spec.priority, one.name))
    for queue in queues:
        if dispatch.budget <= 0:
            break
        backlog, before = memo.backlogs.get(queue.name), memo.impasses.get(queue.name)
        impasse: Impasse | None = None
        if backlog:
            try:
                impasse = _serve(snapshot, memo, dispatch, queue, backlog, victims, served.stops)
            except Exception as error:  # noqa: BLE001  # one broken queue must not stop the others
                faults.append(Fault(f"queue {queue.name}", error))
                continue
        if impasse is not None:
            memo.impasses[queue.name] = impasse
        elif before is not None:
            del memo.impasses[queue.name]
        served.moved += _moved(memo.backlogs[queue.name], before, impasse)
    memo.touched_consumables.update(memo.wishes, dispatch.wishes)
    memo.wishes = dispatch.wishes
    _step_aside(memo, dispatch)
    served.starts = starts_of(dispatch.placed, memo.looks)
    return served


def _moved(backlog: Backlog, before: Impasse | None, after: Impasse | None) -> list[str]:
    """Jobs about whose waiting there is something else to say than after the last cycle."""
    if before is after:
        return []
    was, is_ = (one.blocked if one is not None else () for one in (before, after))
    heads = [[one.uid for one in those if not one.stands_aside] for those in (was, is_)]
    found = [*heads[0], *heads[1]] if heads[0] != heads[1] else []
    asides = [{one.ask: one.full for one in those if one.stands_aside} for those in (was, is_)]
    for ask in dict.fromkeys((*asides[0], *asides[1])):
        if any(ask not in those for those in asides) or asides[0][ask] != asides[1][ask]:
            found += backlog.jobs_with(ask)
    return found


def _dispatch(snapshot: Snapshot, memo: Memo) -> Dispatch:
    units = free_units(snapshot.consumables, memo.used_units)

    def runs_s(look: Evaluation) -> float | None:
        known = expected(memo.run_times, look)
        return known.p90_s if known else None

    return Dispatch(
        now=snapshot.now,
        room=Room(Counter(memo.used_milli), units, memo.nodes.ceilings, memo.nodes.suits),
        resources=snapshot.consumables,
        limit_of=lambda uid: memo.looks[uid].start_limit,
        takes_s=lambda ask: longest_s(memo.run_times, ask),
        releases=cache(lambda: releases(memo.live(), runs_s, snapshot.now)),
        budget=snapshot.start_budget,
    )


def _serve(
    snapshot: Snapshot,
    memo: Memo,
    dispatch: Dispatch,
    queue: Queue,
    backlog: Backlog,
    victims: Callable[[], Victims],
    stops: list[StopPod],
) -> Impasse | None:
    offer, book = offer_of(snapshot, memo, queue), book_of(snapshot, memo, queue)
    known = memo.impasses.get(queue.name)
    if known is not None and known.stays(backlog, offer, dispatch.room):
        return known
    fair: FairStanding | None = None
    if offer.policy is not None and book is not None:
        fair = FairStanding(book, offer.policy, snapshot.now)
    environments, usable = offer.environments, fair.usable if fair else 1.0
    backfill = queue.spec.backfill
    blocked = dispatch.serve(backlog, environments, fair or Equal(), usable, backfill=backfill)
    reached = {one.ask for one in blocked}
    blocked += [
        one
        for one in (known.blocked if known is not None else ())
        if one.stands_aside and one.ask not in reached and backlog.jobs_with(one.ask)
        if dispatch.remains_aside(one, environments, usable)
    ]
    head = next((one for one in blocked if not one.stands_aside), None)
    if head is not None and queue.spec.preemption and queue.spec.preemption.enabled:
        found = _preempt(snapshot, memo, victims(), queue, fair, head)
        if found is not None:
            dispatch.room.keep(found.environment, head.ask.milli_in(found.environment))
            stops += found.stops
    if not blocked:
        return None
    depends_on_time = fair or queue.spec.backfill or queue.spec.preemption
    lasts = not depends_on_time and _lacks_room(blocked)
    return Impasse(blocked, backlog.moves, offer, lasts)


def _lacks_room(blocked: Sequence[Blocked]) -> bool:
    """Whether a queue's first job stops it, whatever is reserved for others, and only by its size.

    (Nobody stands aside who was tried before it.)
    """
    head = blocked[0]
    return (
        len(blocked) == 1
        and not (head.stands_aside or head.ask.units)
        and all(free < head.ask.milli_in(one) for one, free in head.free)
    )


def _preempt(
    snapshot: Snapshot,
    memo: Memo,
    victims: Victims,
    queue: Queue,
    fair: FairStanding | None,
    blocked: Blocked,
) -> Preemption | None:
    """Make room for the job that blocks a queue."""
    asks = memo.looks[blocked.uid].job

    def source_of(company: Company) -> Source | None:
        other = snapshot.queues.get(company.queue)
        if other is not None and other.spec.priority < queue.spec.priority:
            return Source(f"queue {other.name}", MANY)
        share, mine = company.share, asks.spec.share_identifier
        if other is queue and fair is not None and share is not None and mine is not None:
            return Source(f"share {share}", fair.surplus(share, mine, blocked.ask.milli_cpu))
        return None

    assert queue.spec.preemption is not None  # or nobody would have asked
    return preempt(blocked, asks.name, victims, source_of, queue.spec.preemption.min_run_seconds)


def _step_aside(memo: Memo, dispatch: Dispatch) -> None:
    """Those that got all they wanted no longer stand before the others.

    The next cycle, which sees their creates, puts back what is still to come of them.
    """
    for uid, count in dispatch.taken.items():
        look = memo.looks[uid]
        if count >= look.start_limit:
            memo.backlogs[look.job.spec.job_queue].set(uid, ())
