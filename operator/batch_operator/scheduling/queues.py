"""All queues of a cycle: what starts, and which jobs of each cannot."""

from __future__ import annotations

from collections import Counter
from dataclasses import InitVar, dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING

from batch_operator.scheduling.backfill import at_longest_s, longest_s, releases
from batch_operator.scheduling.charges import book_of
from batch_operator.scheduling.consumables import free_units, is_used_up
from batch_operator.scheduling.dispatch import Dispatch
from batch_operator.scheduling.faults import kept_away
from batch_operator.scheduling.preemption import Source, Victims, preempt, units_back
from batch_operator.scheduling.room import Room
from batch_operator.scheduling.shares import FairStanding
from batch_operator.scheduling.starts import starts_of
from batch_operator.scheduling.terms import offer_of
from batch_operator.scheduling.told import news_of
from batch_operator.scheduling.unplaced import kind_of
from batch_operator.scheduling.walk import MANY, Equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.scheduling.backlog import Ask, Backlog
    from batch_operator.scheduling.dispatch import Blocked
    from batch_operator.scheduling.faults import Fault
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.mutations import StopPod
    from batch_operator.scheduling.preemption import Company, Preemption
    from batch_operator.scheduling.snapshot import Consumable, Queue, Snapshot
    from batch_operator.scheduling.starts import Start
    from batch_operator.scheduling.terms import Offer
    from batch_operator.scheduling.told import Told

    Resources = Mapping[str, Consumable]
    Stock = Mapping[str, tuple[Consumable | None, int]]
    """Consumable resources by name, and what is free of them."""


@dataclass(slots=True)
class Served:
    """What came of serving all queues.

    `moved` are jobs that began or ceased to block theirs, or to stand aside, and some of which the
    room has changed; of others that is told at `again_at`.
    """

    starts: list[Start] = field(default_factory=list)
    stops: list[StopPod] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    again_at: datetime | None = None


@dataclass(slots=True)
class Impasse:
    """What stops a queue: the job at its front that does not fit, and who stands aside, by request.

    `moves`, `offer` and `stock` are what that followed from, with the room that there was.
    """

    blocked: InitVar[Sequence[Blocked]]
    moves: int
    offer: Offer
    lasts: bool
    """Whether the first job lacks nothing but room, and those aside nothing but what is used up:
    then it lasts as long as that does."""
    stock: Stock = field(default_factory=dict)
    head: Blocked | None = field(init=False)
    told: Told | None = None
    """What the head has been told; `is_told`: nothing else is to be said of it."""
    is_told: bool = False
    aside: Mapping[Ask, Blocked] = field(init=False)
    _by_job: Mapping[str, Blocked] = field(init=False)

    def __post_init__(self, blocked: Sequence[Blocked]) -> None:
        self.head = next((one for one in blocked if not one.stands_aside), None)
        self.aside = {one.ask: one for one in blocked if one.stands_aside}
        self._by_job = {one.uid: one for one in reversed(blocked)}

    def stays(self, backlog: Backlog, offer: Offer, room: Room, resources: Resources) -> bool:
        """Whether it is known to be the same without serving the queue again."""
        return (
            self.lasts
            and self.moves == backlog.moves
            and self.offer is offer
            and self.stock == _stock(self.stock, room, resources)
            and (self.head is None or _is_still_blocked(self.head, room))
        )

    def found_for(self, uid: str, backlog: Backlog) -> Blocked | None:
        """What is in the way of a job that is not just behind others."""
        own = self._by_job.get(uid)
        lot = backlog.first(uid) if own is None else None
        return self.aside.get(lot.ask) if lot is not None else own


def _is_still_blocked(head: Blocked, room: Room) -> bool:
    is_as_full = all(room.free(one) == free for one, free in head.free)
    return is_as_full and not room.suitable(head.ask, head.unsuited)


def _stock(names: Iterable[str], room: Room, resources: Resources) -> Stock:
    return {name: (resources.get(name), room.units.get(name, 0)) for name in names}


def serve_queues(snapshot: Snapshot, memo: Memo, faults: list[Fault]) -> Served:
    """Start what fits, and make room where a queue asks for that."""
    served = Served()
    dispatch = _dispatch(snapshot, memo)
    victims = _victims(snapshot, memo)
    queues = sorted(snapshot.queues.values(), key=lambda one: (-one.spec.priority, one.name))
    for queue in queues:
        if dispatch.budget <= 0:
            break
        backlog, before = memo.backlogs.get(queue.name), memo.impasses.get(queue.name)
        with kept_away(f"queue {queue.name}", faults):
            impasse: Impasse | None = None
            if backlog:
                impasse = _serve(snapshot, memo, dispatch, queue, backlog, victims, served.stops)
            if impasse is not None:
                memo.impasses[queue.name] = impasse
            elif before is not None:
                del memo.impasses[queue.name]
            if backlog is not None:
                _tell(served, backlog, before, impasse, snapshot.now)
    memo.touched_consumables.update(memo.wishes, dispatch.wishes)
    memo.wishes = dispatch.wishes
    _step_aside(memo, dispatch)
    served.starts = starts_of(dispatch.placed, memo.looks)
    return served


def _tell(
    served: Served,
    backlog: Backlog,
    before: Impasse | None,
    after: Impasse | None,
    now: datetime,
) -> None:
    """Note about whose waiting there is something else to say than after the last cycle."""
    if before is after and (after is None or after.is_told):
        return
    head, known = after.head if after is not None else None, before.told if before else None
    news = news_of(head, known, now)
    if after is not None:
        after.told, after.is_told = news.told, news.again_at is None
    served.moved += news.uids
    served.again_at = min(filter(None, (served.again_at, news.again_at)), default=None)
    if before is not after:
        served.moved += _moved(backlog, before, after)


def _moved(backlog: Backlog, before: Impasse | None, after: Impasse | None) -> list[str]:
    """Jobs that began or ceased to stand aside, or do so for something else."""
    found: list[str] = []
    was, is_ = (one.aside if one is not None else {} for one in (before, after))
    for ask, one in is_.items():
        known = was.get(ask)
        if known is None or known.full != one.full:
            found += backlog.jobs_with(ask)
    for ask in was:
        if ask not in is_:
            found += backlog.jobs_with(ask)
    return found


def _dispatch(snapshot: Snapshot, memo: Memo) -> Dispatch:
    units = free_units(snapshot.consumables, memo.used_units)
    may_run_s = partial(at_longest_s, memo.run_times)

    return Dispatch(
        now=snapshot.now,
        room=Room(Counter(memo.used_milli), units, memo.nodes.ceilings, memo.nodes.suits),
        resources=snapshot.consumables,
        limit_of=lambda uid: memo.looks[uid].start_limit,
        takes_s=lambda ask: longest_s(memo.run_times, ask),
        releases=cache(lambda: releases(memo.live(), may_run_s, snapshot.now)),
        budget=snapshot.start_budget,
    )


def _serve(
    snapshot: Snapshot,
    memo: Memo,
    dispatch: Dispatch,
    queue: Queue,
    backlog: Backlog,
    victims: Callable[[bool], Victims],
    stops: list[StopPod],
) -> Impasse | None:
    offer, book = offer_of(snapshot, memo, queue), book_of(snapshot, memo, queue)
    takes_back = _takes_back(queue)
    makes_room = takes_back or bool(memo.unplaced.by_job)
    known = memo.impasses.get(queue.name)
    if (
        known is not None
        and not makes_room
        and known.stays(backlog, offer, dispatch.room, dispatch.resources)
    ):
        return known
    budget = dispatch.budget
    fair: FairStanding | None = None
    if offer.policy is not None and book is not None:
        fair = FairStanding(book, offer.policy, snapshot.now)
    environments, usable = offer.environments, fair.usable if fair else 1.0
    backfill = queue.spec.backfill

    def make_room(asks: Blocked) -> bool:
        """Keep the environment in which others are ended for it."""
        found = _preempt(snapshot, memo, victims(takes_back), queue, fair, asks)
        if found is None:
            units = _units_back(snapshot, memo, asks)
            stops.extend(units)
            _keep_out(memo, units, snapshot.now)
            return False
        dispatch.room.keep(asks.uid, found.environment, found.milli_cpu)
        stops.extend(found.stops)
        _keep_out(memo, found.stops, snapshot.now)
        return True

    blocked = dispatch.serve(
        backlog,
        environments,
        fair or Equal(),
        usable,
        backfill=backfill,
        make_room=make_room if makes_room else lambda _: False,
    )
    reached = {one.ask for one in blocked}
    blocked += [
        one
        for one in (known.aside.values() if known is not None else ())
        if one.ask not in reached and one.ask in backlog.shares_with
        if dispatch.remains_aside(one, environments, usable)
    ]
    if not blocked:
        return None
    depends_on_time = fair or queue.spec.backfill or makes_room
    starts_nothing = dispatch.budget == budget
    lasts = not depends_on_time and starts_nothing and all(_lasts(one) for one in blocked)
    names = {name for one in blocked for name, _ in one.ask.units} if lasts else ()
    stock = _stock(names, dispatch.room, dispatch.resources)
    return Impasse(blocked, backlog.moves, offer, lasts, stock)


def _takes_back(queue: Queue) -> bool:
    return queue.spec.preemption is not None and queue.spec.preemption.enabled


def _lasts(one: Blocked) -> bool:
    """Whether the same is found as long as there is neither more room nor more of any resource.

    Who stops its queue has to do so only by its size, whatever is reserved for others; who stands
    aside, by what no other job of this cycle has to do with.
    """
    if one.stands_aside:
        return one.full is None and not one.unsuited
    return not one.ask.units and all(free < one.ask.milli_in(where) for where, free in one.free)


def _victims(snapshot: Snapshot, memo: Memo) -> Callable[[bool], Victims]:
    """The attempts that could make room: for who takes capacity back all, else the unplaced."""

    @cache
    def victims(takes_back: bool) -> Victims:  # noqa: FBT001  # the only thing that it is asked
        looks = memo.live() if takes_back else memo.stranded()
        as_one = {name for name, one in snapshot.queues.items() if not _takes_back(one)}
        return Victims(looks, memo.unplaced.by_job, snapshot.now, as_one)

    return victims


def _keep_out(memo: Memo, stops: Iterable[StopPod], now: datetime) -> None:
    """Those that no node took and that make room now are not started there again for a while."""
    for one in stops:
        if one.pod.pod_uid not in memo.unplaced.by_job.get(one.pod.job_uid, ()):
            continue
        look = memo.looks[one.pod.job_uid]
        if look.plan is not None and memo.unplaced.keep_out(
            one.pod, kind_of(look.job, look.plan), now
        ):
            memo.kind_turned(look.job)


def _preempt(
    snapshot: Snapshot,
    memo: Memo,
    victims: Victims,
    queue: Queue,
    fair: FairStanding | None,
    blocked: Blocked,
) -> Preemption | None:
    """Make room for the job that blocks a queue, unless the API server refuses its Pods.

    Where no node took the like of it only what no node takes makes room; so it does in a queue that
    takes nothing back.
    """
    look = memo.looks[blocked.uid]
    refusal = snapshot.refusals.get(blocked.uid)
    if look.plan is None or (refusal is not None and refusal.times):
        return None
    kind, mine = kind_of(look.job, look.plan), look.job.spec.share_identifier

    def source_of(company: Company, environment: str, milli_cpu: int) -> Source | None:
        if company.is_unplaced:
            return Source("what no node takes", MANY)
        if not _takes_back(queue) or memo.unplaced.is_doubted(kind, environment):
            return None
        other = snapshot.queues.get(company.queue)
        if other is not None and other.spec.priority < queue.spec.priority:
            return Source(f"queue {other.name}", MANY)
        if other is queue and fair is not None and company.share is not None and mine is not None:
            return Source(f"share {company.share}", fair.surplus(company.share, mine, milli_cpu))
        return None

    rule = queue.spec.preemption
    name = look.job.name
    return preempt(blocked, name, victims, source_of, rule.min_run_seconds if rule else 0)


def _units_back(snapshot: Snapshot, memo: Memo, blocked: Blocked) -> tuple[StopPod, ...]:
    """Units of consumable resources for who waits for them, from what no node takes."""
    lacking = Counter(
        {
            name: quantity - max(0, free)
            for name, quantity, free in blocked.asked_units
            if name in snapshot.consumables and not is_used_up(snapshot.consumables[name])
        }
    )
    name = memo.looks[blocked.uid].job.name
    return units_back(lacking, name, memo.stranded(), memo.unplaced.by_job)


def _step_aside(memo: Memo, dispatch: Dispatch) -> None:
    """Those that got all they wanted no longer stand before the others.

    The next cycle, which sees their creates, puts back what is still to come of them.
    """
    for uid, count in dispatch.taken.items():
        look = memo.looks[uid]
        if count >= look.start_limit:
            memo.backlogs[look.job.spec.job_queue].set(uid, ())
