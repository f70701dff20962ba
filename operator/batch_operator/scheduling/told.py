"""How often the job at the head of a queue is told anew how much room there is for it.

That changes with everything that starts or ends where it could run, and each time would be a write.
So it is told when it comes to the head, and then at intervals that grow with its waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from batch_operator.scheduling.dispatch import Blocked

AGAIN_AFTER = timedelta(seconds=30)
AGAIN_PART = 0.1
"""Or after this part of the time for which it has been at the head, if that is longer."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the job at the head was told, and when; `since` it is there."""

    uid: str
    room: tuple[object, ...]
    since: datetime
    at: datetime

    @property
    def again_at(self) -> datetime:
        return self.at + max(AGAIN_AFTER, (self.at - self.since) * AGAIN_PART)


@dataclass(frozen=True, slots=True)
class News:
    """What the head has been told by now, whose status says something else, when to come back."""

    told: Told | None
    uids: tuple[str, ...] = ()
    again_at: datetime | None = None


def news_of(head: Blocked | None, known: Told | None, now: datetime) -> News:
    """Who has to be told something: of `head`, which blocks a queue now, or was `known` to."""
    before = (known.uid,) if known is not None else ()
    if head is None:
        return News(None, before)
    room = _room(head)
    if known is None or known.uid != head.uid:
        return News(Told(head.uid, room, now, now), (*before, head.uid))
    if room == known.room:
        return News(known)
    if now < known.again_at:
        return News(known, again_at=known.again_at)
    return News(Told(head.uid, room, known.since, now), (head.uid,))


def _room(head: Blocked) -> tuple[object, ...]:
    """All that its sentence is made of, and that changes with no look at it."""
    free = tuple((one.name, milli_cpu) for one, milli_cpu in head.free)
    return free, head.units, tuple(one.name for one in head.unsuited), head.usable, head.kept_for
