"""What waits in one queue: in which order it may start, and what kinds of request there are.

A queue without a scheduling policy has one line. With one it has a line per share identifier;
within each, retries stand in front, then those with a higher priority, then those submitted first.

Beside its order a line knows its *classes*: the places whose requests are the same. Where one of a
class does not fit, none of it does; so what a queue costs in a cycle follows its classes and what
starts, not how many jobs wait in it.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from batch_operator.api.index_set import IndexSet
from batch_operator.scheduling.environments import held_milli

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from batch_operator.scheduling.snapshot import Environment, Key
    from batch_operator.scheduling.suitability import Needs
    from batch_operator.scheduling.walk import Standing

RETRY, FIRST_TRY = 0, 1

Place = tuple[int, int, "datetime", str, int]
"""Rank (0 for retries, which AWS puts in front), negated priority, submission, job uid, and which
of the job's lots of that rank it is."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one start needs: the scheduling class of those who wait for the same."""

    milli_cpu: int
    units: tuple[tuple[str, int], ...] = ()
    """Of consumable resources, by name."""
    timeout_s: int | None = None
    definition: Key | None = None
    """Whose run times tell how long it may take."""
    needs: Needs = ()
    """What its Pods ask of a node: an environment without such nodes is passed over."""
    spot_only: bool = False
    """A budget lets it have spot capacity only."""
    kept_out_of: frozenset[str] = frozenset()
    """Compute environments of which no node took a Pod of it (see `scheduling.unplaced`)."""

    def milli_in(self, environment: Environment) -> int:
        """What one start holds of an environment, in milli-CPU."""
        return held_milli(self.milli_cpu, self.needs, environment)


@dataclass(frozen=True, slots=True)
class Lot:
    """Children of one job that stand at one place and ask for the same; `{0}` for a plain job.

    `moves` is how often they were moved on: so many compute environments are behind them.
    """

    place: Place
    ask: Ask
    indexes: IndexSet = IndexSet(1)
    share: str = ""
    moves: int = 0

    @property
    def uid(self) -> str:
        return self.place[3]


class Line:
    """The places of one share, in order, and by class."""

    __slots__ = ("classes", "places")

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.classes: dict[Ask, list[Place]] = defaultdict(list)

    def add(self, lot: Lot) -> bool:
        """Whether it is the first of its class."""
        insort(self.places, lot.place)
        members = self.classes[lot.ask]
        insort(members, lot.place)
        return len(members) == 1

    def remove(self, lot: Lot) -> bool:
        """Whether it was the last of its class."""
        del self.places[bisect_left(self.places, lot.place)]
        members = self.classes[lot.ask]
        del members[bisect_left(members, lot.place)]
        if not members:
            del self.classes[lot.ask]
        return not members


class Backlog:
    """The lots of one queue. Adding and removing cost binary searches and memory moves."""

    __slots__ = ("_of_job", "lines", "lots", "moves", "shares_with")

    def __init__(self) -> None:
        self.moves = 0
        """How often it has changed."""
        self.lots: dict[Place, Lot] = {}
        self.lines: dict[str, Line] = {}
        self.shares_with: dict[Ask, dict[str, None]] = defaultdict(dict)
        """By class: the lines that it waits in."""
        self._of_job: dict[str, tuple[Lot, ...]] = {}

    def set(self, uid: str, lots: Sequence[Lot]) -> bool:
        """Make `lots` the only ones of job `uid`. Whether they were others before."""
        before = self._of_job.get(uid, ())
        if before == tuple(lots):
            return False
        self.moves += 1
        for lot in before:
            del self.lots[lot.place]
            line = self.lines[lot.share]
            if line.remove(lot):
                del self.shares_with[lot.ask][lot.share]
                if not self.shares_with[lot.ask]:
                    del self.shares_with[lot.ask]
            if not line.places:
                del self.lines[lot.share]
        for lot in lots:
            self.lots[lot.place] = lot
            if self.lines.setdefault(lot.share, Line()).add(lot):
                self.shares_with[lot.ask][lot.share] = None
        if lots:
            self._of_job[uid] = tuple(lots)
        else:
            self._of_job.pop(uid, None)
        return True

    def take(self, place: Place, indexes: IndexSet) -> None:
        """Remove children of the lot at a place, and the lot with the last of them."""
        lots = (
            lot if lot.place != place else replace(lot, indexes=lot.indexes - indexes)
            for lot in self._of_job[place[3]]
        )
        self.set(place[3], [lot for lot in lots if lot.indexes])

    def front(self, count: int, most: int, standing: Standing) -> list[Lot]:
        """The first lots of each line, `count` at most, and `most` of all lines together.

        They are in the order in which they would be served, of which `standing` is told.
        """
        order = [(standing.rank(share), share, 0) for share in self.lines]
        heapq.heapify(order)
        found: list[Lot] = []
        while order and len(found) < most:
            _, share, at = order[0]
            places = self.lines[share].places
            lot = self.lots[places[at]]
            found.append(lot)
            standing.take(share, lot.ask.milli_cpu * len(lot.indexes))
            if at + 1 < min(count, len(places)):
                heapq.heapreplace(order, (standing.rank(share), share, at + 1))
            else:
                heapq.heappop(order)
        return found

    def extend(self, lots: Iterable[Lot]) -> None:
        """Add lots, of which each stands behind those that its line has."""
        for lot in lots:
            line = self.lines.setdefault(lot.share, Line())
            line.places.append(lot.place)
            members = line.classes[lot.ask]
            if not members:
                self.shares_with[lot.ask][lot.share] = None
            members.append(lot.place)
            self.lots[lot.place] = lot
            self._of_job[lot.uid] = (*self._of_job.get(lot.uid, ()), lot)

    def position(self, uid: str) -> int | None:
        """How many places of its share stand before the job's first, plus one; None if none."""
        lot = self.first(uid)
        if lot is None:
            return None
        return bisect_left(self.lines[lot.share].places, lot.place) + 1

    def before(self, uid: str, count: int) -> list[str]:
        """The jobs directly before a job in its line, so many at most, the nearest first."""
        lot = self.first(uid)
        if lot is None:
            return []
        places = self.lines[lot.share].places
        at = bisect_left(places, lot.place)
        ahead = (places[number][3] for number in range(at - 1, -1, -1))
        return list(islice(dict.fromkeys(islice(ahead, 2 * count)), count))

    def jobs_with(self, ask: Ask) -> list[str]:
        """The jobs of a class, in order within each line."""
        members = (self.lines[share].classes[ask] for share in self.shares_with.get(ask, ()))
        return list(dict.fromkeys(place[3] for places in members for place in places))

    def first(self, uid: str) -> Lot | None:
        """The job's first place."""
        lots = self._of_job.get(uid)
        return lots[0] if lots else None

    def __iter__(self) -> Iterator[Lot]:
        for share in sorted(self.lines):
            for place in self.lines[share].places:
                yield self.lots[place]

    def __len__(self) -> int:
        return len(self.lots)

    @property
    def kinds(self) -> int:
        """How many kinds of request there are."""
        return sum(len(line.classes) for line in self.lines.values())

    def shares(self) -> Mapping[str, Line]:
        """The lines by share identifier; a queue without a policy has one, under ``""``."""
        return self.lines
