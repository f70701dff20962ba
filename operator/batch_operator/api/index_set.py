"""Sets of array indexes, as small as bits and as readable as `0-4999,5003`.

An array of 10,000 children is one object: its status holds sets of indexes, not rows. In memory a
set is one Python integer with a bit per index, so union, difference and counting run at memory
speed (10,000 indexes are 1.25 KB); on the wire it is a string of sorted, disjoint intervals, the
notation of `completedIndexes` in batch/v1 Jobs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain, islice, starmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_INDEX = 99_999
"""The highest index that is ever accepted: it bounds the memory a hostile string can ask for."""

_INTERVAL = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_DIGITS_MAX = 9  # more than any index has, and few enough to be read at once
_SHOWN_MAX = 40  # characters of what is wrong that a sentence repeats
_RUN_OF_ONES = re.compile("1+")


@dataclass(frozen=True, slots=True)
class IndexSet:
    """An immutable set of array indexes; bit *i* of `bits` says whether index *i* is in it."""

    bits: int = 0

    @classmethod
    def of(cls, indexes: Iterable[int]) -> IndexSet:
        bits = 0
        for index in indexes:
            bits |= 1 << index
        return cls(bits)

    @classmethod
    def range(cls, size: int) -> IndexSet:
        """All indexes from 0 to `size - 1`."""
        return cls((1 << size) - 1)

    @classmethod
    def parse(cls, text: str | None) -> IndexSet:
        """Read intervals such as `0-9,15`, in any order; an absent or empty text names none.

        Raises:
            ValueError: not intervals of indexes from 0 to `MAX_INDEX`; the message says what to
                write.
        """
        bits = 0
        for part in text.split(",") if text else ():
            match = _INTERVAL.fullmatch(part.strip())
            if match is None:
                shown = part[:_SHOWN_MAX]
                raise ValueError(f"{shown!r} is no index: write intervals such as 0-9,15")
            low, high = _index(match[1]), _index(match[2] or match[1])
            if not low <= high <= MAX_INDEX:
                shown = part[:_SHOWN_MAX]
                raise ValueError(f"{shown!r} must rise and end at or below {MAX_INDEX}")
            bits |= ((1 << (high - low + 1)) - 1) << low
        return cls(bits)

    def __str__(self) -> str:
        return ",".join(
            str(start) if end - start == 1 else f"{start}-{end - 1}" for start, end in self._runs()
        )

    def _runs(self) -> Iterator[tuple[int, int]]:
        """First index, and the one behind the last, of each interval: a step for many indexes."""
        # Lowest bit first, so that the position in the text is the index.
        digits = format(self.bits, "b")[::-1] if self.bits else ""
        return (run.span() for run in _RUN_OF_ONES.finditer(digits))

    # What changes nothing gives one of the operands: most sets of most jobs are empty.

    def __or__(self, other: IndexSet) -> IndexSet:
        if not other.bits:
            return self
        return IndexSet(self.bits | other.bits) if self.bits else other

    def __and__(self, other: IndexSet) -> IndexSet:
        if not other.bits:
            return other
        return IndexSet(self.bits & other.bits) if self.bits else self

    def __sub__(self, other: IndexSet) -> IndexSet:
        return IndexSet(self.bits & ~other.bits) if self.bits and other.bits else self

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return self.bits != 0

    def __contains__(self, index: int) -> bool:
        return bool(self.bits >> index & 1)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(starmap(range, self._runs())) if self.bits else iter(())

    @property
    def end(self) -> int:
        """The number above all indexes; 0 of an empty set."""
        return self.bits.bit_length()

    def first(self, count: int) -> list[int]:
        """The lowest `count` indexes, ascending; fewer when the set is smaller."""
        return list(islice(self, max(0, count)))


def _index(digits: str) -> int:
    """The number; of one that is too long for an index, only that it is above all of them."""
    return int(digits) if len(digits) <= _DIGITS_MAX else MAX_INDEX + 1
