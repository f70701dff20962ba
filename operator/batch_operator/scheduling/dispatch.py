"""Who starts now: the queues from the highest priority to the lowest, each from its front.

AWS Batch: what fits into the first of its queue's compute environments with room starts; the first
job that does not fit blocks those behind it (head-of-line blocking). Beyond AWS, a queue with
`backfill` lets others pass, as long as they do not delay the one at the head.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.index_set import IndexSet
from batch_operator.api.sentences import NAMED_MAX
from batch_operator.scheduling.consumables import (
    full_of_grants,
    granted,
    grants_bytes,
    is_nearly_full,
    is_used_up,
    wish,
)
from batch_operator.scheduling.environments import has_spot, large_enough, rotated
from batch_operator.scheduling.room import NEVER
from batch_operator.scheduling.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from batch_operator.scheduling.backlog import Ask, Backlog, Lot
    from batch_operator.scheduling.consumables import Wishes
    from batch_operator.scheduling.room import Release, Room
    from batch_operator.scheduling.snapshot import Consumable, Environment
    from batch_operator.scheduling.walk import Standing

ROOM_ASKS_MAX = 100
"""So many behind the head of a queue have room made for them in a cycle."""


TURNS_MAX = NAMED_MAX + 1


@dataclass(frozen=True, slots=True)
class Placed:
    """Children of one lot that start in one environment."""

    lot: Lot
    environment: Environment
    indexes: tuple[int, ...]
    units: tuple[tuple[str, int], ...] = ()
    """What each of them takes of consumable resources, beside what it was granted before."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A job at the front of its queue that does not fit, and what was free when it was tried.

    `free` is milli-CPU by environment that suits it, in order; `unsuited` are the others, and
    `units` what was free of those that it asks for; `usable` is the part of the environments that
    its queue may use.
    """

    uid: str
    ask: Ask
    free: tuple[tuple[Environment, int], ...]
    units: tuple[tuple[str, int], ...]
    unsuited: tuple[Environment, ...] = ()
    usable: float = 1.0
    stands_aside: bool = False
    """What it waits for never becomes its own by itself: it does not stop those behind it."""
    full: str | None = None
    """The consumable resource that has been granted to as many jobs as it can keep."""
    wanted: int = 1
    """So many of it would have started now."""
    turns: tuple[str, ...] = ()
    """The shares whose turn it is, its own first; `TURNS_MAX` of them at most."""
    kept_for: tuple[str, ...] = ()
    """Uids of the jobs for which the room is kept that there is for it."""

    @property
    def asked_units(self) -> list[tuple[str, int, int]]:
        """Of each consumable resource: its name, what a start takes of it, and what was free."""
        pairs = zip(self.ask.units, self.units, strict=True)
        return [(name, quantity, free) for (name, quantity), (_, free) in pairs]


@dataclass(slots=True)
class Dispatch:
    """What all queues of a cycle have in common, and what has been decided so far."""

    now: datetime
    room: Room
    resources: Mapping[str, Consumable]
    limit_of: Callable[[str], int]
    """How many children of a job may start."""
    takes_s: Callable[[Ask], float | None]
    """How long a start with such a request runs at the longest, in seconds, if that is known."""
    releases: Callable[[], Mapping[str, Sequence[Release]]]
    """What live attempts will give back, by environment; asked for only where it is needed."""
    budget: int
    asks_first: bool = True
    """Who uses up units asks for them and starts once they are granted; else it takes them."""
    placed: list[Placed] = field(default_factory=list)
    wishes: Wishes = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    """Starts by job."""
    asked: Counter[str] = field(default_factory=Counter)
    """Children by job that start once it is stored that they have used up their units."""
    _holders: dict[str, AbstractSet[str]] = field(default_factory=dict)
    """By consumable resource that was asked for: the jobs that it has been granted to."""
    _grants_bytes: dict[str, int] = field(default_factory=dict)

    def serve(
        self,
        backlog: Backlog,
        environments: Sequence[Environment],
        standing: Standing,
        usable: float,
        *,
        backfill: bool,
        make_room: Callable[[Blocked], bool] = lambda _: False,
    ) -> list[Blocked]:
        """Start what may of one queue; then, what blocks it, and what stands aside.

        Of those who stand aside the first of each request is given: it is the same for all others.
        `usable` is the part of the environments that the queue may use. `make_room` is asked
        whether room is being made for who blocks the queue, and is kept for it then.
        """
        walk = Walk(backlog, standing)
        blocked: Blocked | None = None
        served: Lot | None = None
        aside: dict[Ask, Blocked] = {}
        while self.budget > 0 and (lot := walk.next()) is not None:
            wanted = min(
                len(lot.indexes) - walk.taken(lot),
                self.limit_of(lot.uid) - self.taken[lot.uid] - self.asked[lot.uid],
                walk.chunk(lot),
                self.budget,
            )
            if wanted <= 0:
                walk.done(lot)
                continue
            if lot.ask in aside and self._is_left_out(walk, lot):
                continue
            order = self._order(lot, environments)
            full = self._full(lot, walk.taken(lot))
            count, ask = 0, lot.ask
            if full is None:
                count, wanted, ask = self._take(walk, lot, wanted, order, usable)
            could_never = full is not None or not (count or self.room.holds(ask, order, usable))
            if could_never or (count < wanted and self._is_spent(ask)):
                aside.setdefault(lot.ask, self._aside(lot, order, usable, full))
                walk.done(lot)
            elif count < wanted:
                if blocked is None:
                    kept_for = self.room.kept_for(ask, order, usable, self._ends_at(ask))
                    blocked = replace(
                        self._blocked(lot, order, usable),
                        wanted=wanted - count,
                        turns=walk.turns(TURNS_MAX),
                        kept_for=kept_for,
                    )
                    served = lot if make_room(blocked) else None
                    if backfill and served is None:
                        self.room.reserve(lot.uid, ask, order, usable, self.releases(), self.now)
                if not backfill:
                    break
                walk.pass_over(lot, lambda one: self.room.could_fit(one, environments, usable))
        self._ask_behind(served, backlog, environments, usable, make_room)
        return [*([blocked] if blocked is not None else []), *aside.values()]

    def _ask_behind(
        self,
        head: Lot | None,
        backlog: Backlog,
        environments: Sequence[Environment],
        usable: float,
        make_room: Callable[[Blocked], bool],
    ) -> None:
        """Have room made for those behind a head for which it is, in order, as long as it can be.

        Or single jobs would wait one after the other for what others are ended for. Which share
        has its turn then is not known yet where there are several.
        """
        if head is None or len(backlog.lines) > 1:
            return
        line = backlog.lines[head.share]
        first = bisect_right(line.places, head.place)
        for place in line.places[first : first + ROOM_ASKS_MAX]:
            lot = backlog.lots[place]
            wanted = self.limit_of(lot.uid) - self.taken[lot.uid] - self.asked[lot.uid]
            wanted = min(wanted, len(lot.indexes))
            if wanted <= 0 or self._full(lot, self.taken[lot.uid]) is not None:
                continue
            order = self._order(lot, environments)
            if not make_room(replace(self._blocked(lot, order, usable), wanted=wanted)):
                return

    def remains_aside(
        self, one: Blocked, environments: Sequence[Environment], usable: float
    ) -> bool:
        """Whether what was found earlier keeps a request out that was not reached in this cycle.

        Where a few more grants could be kept by now, others will have them as soon as they may.
        """
        if one.full is not None:
            resource = self.resources.get(one.full)
            return resource is not None and is_nearly_full(resource)
        allowed = _allowed(one.ask, environments)
        return not self.room.holds(one.ask, allowed, usable) or self._is_spent(one.ask)

    def _order(self, lot: Lot, environments: Sequence[Environment]) -> Sequence[Environment]:
        """The environments that a lot may go to, in the order in which it tries them.

        One that was moved was in none that could never hold it, and goes to none.
        """
        ask, order = lot.ask, environments
        if lot.moves:
            could_hold = large_enough(self.room.suitable(ask, environments), ask.milli_cpu)
            order = rotated(could_hold, lot.moves) or environments
        return _allowed(ask, order)

    def _take(
        self, walk: Walk, lot: Lot, wanted: int, order: Sequence[Environment], usable: float
    ) -> tuple[int, int, Ask]:
        """Start what may of a lot, or ask for what it will use up.

        So many do of so many that could now, each of which takes what the request says.
        """
        ask, paid = lot.ask, granted(lot.ask.units, lot.uid, self.resources)
        ready = len(lot.indexes & paid) - walk.taken(lot) if paid is not None else wanted
        if paid is not None and ready > 0:
            wanted, ask = min(wanted, ready), self._paid(ask)
        found = self.room.take(ask, wanted, order, usable, self._ends_at(ask))
        count = sum(number for _, number in found)
        if paid is not None and ready <= 0 and self.asks_first:
            self._ask(walk, lot, count, paid)
        else:
            self._place(walk, lot, found, paid or IndexSet(), ask.units)
        return count, wanted, ask

    def _is_left_out(self, walk: Walk, lot: Lot) -> bool:
        """Whether it has to do without units, too, as all have that were granted none."""
        for name, _ in lot.ask.units:
            if name not in self._holders:
                resource = self.resources.get(name)
                grants = resource.status.grants if resource is not None else ()
                self._holders[name] = frozenset(one.job_uid for one in grants)
        holders = [jobs for name, _ in lot.ask.units if (jobs := self._holders[name])]
        if any(lot.uid in jobs for jobs in holders):
            return False
        walk.leave_out(lot, but_for=holders)
        return True

    def _full(self, lot: Lot, taken: int) -> str | None:
        """The resource that can keep no more grants, for the next of a lot to be granted theirs.

        So many of it are `taken`, those first that were granted theirs before.
        """
        units = lot.ask.units
        if not (units and self.asks_first):
            return None
        full = full_of_grants(units, lot.uid, self.resources, self.wishes, self._bytes_of)
        if full is None:
            return None
        paid = granted(units, lot.uid, self.resources) or IndexSet()
        return full if len(lot.indexes & paid) <= taken else None

    def _bytes_of(self, resource: Consumable) -> int:
        if resource.name not in self._grants_bytes:
            self._grants_bytes[resource.name] = grants_bytes(resource)
        return self._grants_bytes[resource.name]

    def _place(
        self,
        walk: Walk,
        lot: Lot,
        found: Sequence[tuple[Environment, int]],
        paid: IndexSet,
        units: tuple[tuple[str, int], ...],
    ) -> None:
        for environment, count in found:
            indexes = walk.indexes(lot, count, paid)
            self.placed.append(Placed(lot, environment, tuple(indexes), units))
            walk.started(lot, count)
            self.taken[lot.uid] += count
            self.budget -= count

    def _ask(self, walk: Walk, lot: Lot, count: int, paid: IndexSet) -> None:
        """Room is taken for them as if they started, so nobody who does now is in their way."""
        indexes = walk.indexes(lot, count, paid)
        wish(self.wishes, lot.ask.units, lot.uid, indexes, self.resources)
        walk.started(lot, count)
        self.asked[lot.uid] += count
        self.budget -= count

    def _ends_at(self, ask: Ask) -> datetime:
        takes_s = self.takes_s(ask)
        return NEVER if takes_s is None else self.now + timedelta(seconds=takes_s)

    def _is_spent(self, ask: Ask) -> bool:
        """Whether something that it would use up is used up: it never comes back."""
        return any(
            self.room.units.get(name, 0) < quantity and is_used_up(self.resources[name])
            for name, quantity in ask.units
            if name in self.resources
        )

    def _paid(self, ask: Ask) -> Ask:
        """The request without what has been granted for good."""
        left = (one for one in ask.units if not is_used_up(self.resources[one[0]]))
        return replace(ask, units=tuple(left))

    def _blocked(self, lot: Lot, order: Sequence[Environment], usable: float) -> Blocked:
        suited = self.room.suitable(lot.ask, order)
        return Blocked(
            uid=lot.uid,
            ask=lot.ask,
            free=tuple((one, self.room.free(one, usable)) for one in suited),
            units=tuple((name, self.room.units.get(name, 0)) for name, _ in lot.ask.units),
            unsuited=tuple(one for one in order if one not in suited),
            usable=usable,
        )

    def _aside(
        self, lot: Lot, order: Sequence[Environment], usable: float, full: str | None = None
    ) -> Blocked:
        return replace(self._blocked(lot, order, usable), stands_aside=True, full=full)


def _allowed(ask: Ask, environments: Sequence[Environment]) -> Sequence[Environment]:
    if not (ask.spot_only or ask.kept_out_of):
        return environments
    return [
        one
        for one in environments
        if one.name not in ask.kept_out_of and (has_spot(one) or not ask.spot_only)
    ]
