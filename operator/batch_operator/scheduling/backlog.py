"""The jobs of one queue that could start, in the order in which they may."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

Entry = tuple[int, "datetime", str]
"""Rank (0 for retries, which AWS puts in front of the queue; 1 otherwise), submission, job uid."""

RETRY, FIRST_TRY = 0, 1


class Backlog:
    """Entries in total order: rank, then time of submission, then uid.

    Adding and removing cost a binary search and one memory move; reading from the front is free.
    """

    __slots__ = ("_entries", "_of_job")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._of_job: dict[str, tuple[Entry, ...]] = {}

    def set(self, uid: str, entries: Sequence[Entry]) -> None:
        """Make `entries` the only ones of job `uid`."""
        before = self._of_job.get(uid, ())
        if before == tuple(entries):
            return
        for entry in before:
            del self._entries[bisect_left(self._entries, entry)]
        for entry in entries:
            insort(self._entries, entry)
        if entries:
            self._of_job[uid] = tuple(entries)
        else:
            self._of_job.pop(uid, None)

    def position(self, uid: str) -> int | None:
        """How many entries stand before the job's first, plus one; None when it is not waiting."""
        entries = self._of_job.get(uid)
        return bisect_left(self._entries, entries[0]) + 1 if entries else None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
