"""The order in which a queue's lots are tried in one cycle."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from batch_operator.api.index_set import IndexSet
    from batch_operator.scheduling.backlog import Ask, Backlog, Line, Lot, Place

MANY = 1 << 30
PASSED_MAX = 200
"""Classes that are passed over in one walk: a bound on what backfilling a queue costs a cycle in
which every job has a timeout of its own."""


class Standing(Protocol):
    """How the shares of a queue stand to one another; see `scheduling.shares`."""

    def rank(self, share: str) -> float:
        """Who has the lowest is served next."""

    def take(self, share: str, milli_cpu: int) -> None:
        """Something of the share starts."""

    def served_before(self, share: str, milli_cpu: int, other: float) -> int:
        """How many starts of a size it takes until the share stands behind a rank; 1 at least."""


class Equal:
    """The standing of the only line of a queue without a policy."""

    def rank(self, share: str) -> float:  # noqa: ARG002
        return 0.0

    def take(self, share: str, milli_cpu: int) -> None:
        """Nothing changes."""

    def served_before(self, share: str, milli_cpu: int, other: float) -> int:  # noqa: ARG002
        return MANY


class Walk:
    """Gives lots in dispatch order, and is told what became of each.

    It reads every line from its front and costs what it gives. Once something is passed over it
    reads class by class, and of the classes only those that could fit; so it does in a line of
    which a class is left out.
    """

    def __init__(self, backlog: Backlog, standing: Standing) -> None:
        self._backlog = backlog
        self._standing = standing
        self._passed: set[Ask] = set()
        self._cursors = {share: _Cursor(line) for share, line in backlog.shares().items()}
        self._order = [(standing.rank(share), share) for share in self._cursors]
        heapq.heapify(self._order)

    def next(self) -> Lot | None:
        """The lot to try now; the same one again until something is said about it."""
        while self._order:
            cursor = self._cursors[self._order[0][1]]
            place = cursor.place()
            if place is not None:
                return self._backlog.lots[place]
            heapq.heappop(self._order)
        return None

    def turns(self, count: int) -> tuple[str, ...]:
        """The shares whose turn it is, one after the other as things stand, so many at most."""
        found: list[str] = []
        next_ones = [(self._order[0], 0)] if self._order else []  # the heap's first, and its places
        while next_ones and len(found) < count:
            (_, share), at = heapq.heappop(next_ones)
            if self._cursors[share].place() is not None:
                found.append(share)
            for child in range(2 * at + 1, min(2 * at + 3, len(self._order))):
                heapq.heappush(next_ones, (self._order[child], child))
        return tuple(found)

    def chunk(self, lot: Lot) -> int:
        """How many of the current lot may start before another share has its turn."""
        others = self._order[1:3]
        if not others:
            return MANY
        return self._standing.served_before(lot.share, lot.ask.milli_cpu, min(others)[0])

    def indexes(self, lot: Lot, count: int, first: IndexSet) -> list[int]:
        """Take the next indexes of the current lot, those in `first` before the others."""
        cursor = self._cursors[lot.share]
        if cursor.indexes is None:
            cursor.indexes = _chained(lot.indexes & first, lot.indexes - first)
        found = list(islice(cursor.indexes, count))
        cursor.taken += len(found)
        return found

    def taken(self, lot: Lot) -> int:
        """How many of the current lot have been taken."""
        return self._cursors[lot.share].taken

    def started(self, lot: Lot, count: int) -> None:
        """So many of the current lot start, and its share's standing changes."""
        self._standing.take(lot.share, count * lot.ask.milli_cpu)
        heapq.heapreplace(self._order, (self._standing.rank(lot.share), lot.share))

    def done(self, lot: Lot) -> None:
        """Nothing more of the lot starts in this cycle, though others of its class may."""
        self._cursors[lot.share].advance()

    def leave_out(self, lot: Lot, but_for: Sequence[AbstractSet[str]] = ()) -> None:
        """Go on without the lot's class in its line, but for jobs that are in one of the sets."""
        self._cursors[lot.share].leave_out(but_for)

    def pass_over(self, lot: Lot, could_fit: Callable[[Ask], bool]) -> None:
        """The lot does not fit, and so nothing of its class; go on with what could."""
        self._passed.add(lot.ask)
        if len(self._passed) >= PASSED_MAX:
            self._order.clear()
        for cursor in self._cursors.values():
            cursor.by_class(self._passed, could_fit)


class _Cursor:
    """A place in one line."""

    __slots__ = (
        "_at",
        "_classes",
        "_could_fit",
        "_line",
        "_passed",
        "_spared",
        "indexes",
        "taken",
    )

    def __init__(self, line: Line) -> None:
        self._line = line
        self._at = 0
        self._classes: list[tuple[Place, int, Ask]] | None = None
        """A heap, once something is left out: each class's next place, and where that is."""
        self._spared: dict[Ask, Sequence[AbstractSet[str]]] = {}
        """Of classes that are left out: the jobs that are not."""
        self._passed: set[Ask] = set()
        self._could_fit: Callable[[Ask], bool] = bool
        self.indexes: Iterator[int] | None = None
        self.taken = 0

    def place(self) -> Place | None:
        if self._classes is None:
            return self._line.places[self._at] if self._at < len(self._line.places) else None
        while self._classes:
            place, _, ask = self._classes[0]
            if ask not in self._passed and self._could_fit(ask):
                return place
            heapq.heappop(self._classes)
            self.indexes, self.taken = None, 0
        return None

    def advance(self) -> None:
        self.indexes, self.taken = None, 0
        if self._classes is None:
            self._at += 1
            return
        self._go_on(self._classes)

    def leave_out(self, but_for: Sequence[AbstractSet[str]]) -> None:
        """Go on behind this place, with nothing of its class but that of some jobs."""
        self.indexes, self.taken = None, 0
        classes = self._by_class()
        self._spared[classes[0][2]] = but_for
        self._go_on(classes)

    def _go_on(self, classes: list[tuple[Place, int, Ask]]) -> None:
        """Put the first class's next place in its turn, or leave it if there is none."""
        _, at, ask = classes[0]
        members, spared = self._line.classes[ask], self._spared.get(ask)
        later = range(at + 1, len(members) if spared is None or spared else 0)
        for number in later:
            if spared is None or any(members[number][3] in jobs for jobs in spared):
                heapq.heapreplace(classes, (members[number], number, ask))
                return
        heapq.heappop(classes)

    def by_class(self, passed: set[Ask], could_fit: Callable[[Ask], bool]) -> None:
        """Go on class by class from here, without those that were passed over."""
        if self._passed is passed:
            return
        here = self.place()
        self._passed, self._could_fit = passed, could_fit
        self._by_class()
        if self.place() != here:
            self.indexes, self.taken = None, 0

    def _by_class(self) -> list[tuple[Place, int, Ask]]:
        """What is still to come of each class, from here on."""
        if self._classes is not None:
            return self._classes
        here = self.place()
        found: list[tuple[Place, int, Ask]] = []
        if here is not None:
            for ask, members in self._line.classes.items():
                at = bisect_left(members, here)
                if at < len(members) and ask not in self._passed and self._could_fit(ask):
                    found.append((members[at], at, ask))
        heapq.heapify(found)
        self._classes = found
        return found


def _chained(first: IndexSet, rest: IndexSet) -> Iterator[int]:
    yield from first
    yield from rest
