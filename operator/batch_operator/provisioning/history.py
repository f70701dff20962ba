"""What was learned of a pool: how often it was refused or lost nodes, and how long they take.

AWS knows which spot pools have capacity; an operator on any cluster can only remember. Older events
weigh less: a count halves every `HALF_LIFE`. What is remembered stands in the environment's status,
so a restart forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import PoolStatus
from batch_operator.provisioning.pools import PoolKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentStatus

HALF_LIFE = timedelta(hours=6)
BACK_OFF = timedelta(seconds=30)
BACK_OFF_MAX = timedelta(minutes=15)
_FORGOTTEN = 0.05
"""A count below this is none."""
_MESSAGE_MAX = 256


@dataclass(frozen=True, slots=True)
class History:
    """Of one pool. `refusals` and `interruptions` are as they were worth at their last time."""

    refusals: float = 0.0
    refused_at: datetime | None = None
    refused_until: datetime | None = None
    message: str = ""
    interruptions: float = 0.0
    interrupted_at: datetime | None = None
    ready_seconds: int | None = None

    def is_refused(self, now: datetime) -> bool:
        return self.refused_until is not None and now < self.refused_until

    def refused(self, at: datetime, message: str) -> History:
        """One more refusal: the more there were lately, the longer the pool is left alone."""
        count = decayed(self.refusals, self.refused_at, at) + 1
        delay = min(BACK_OFF_MAX, BACK_OFF * 2 ** min(round(count) - 1, 8))
        return replace(
            self,
            refusals=count,
            refused_at=at,
            refused_until=at + delay,
            message=message[:_MESSAGE_MAX],
        )

    def interrupted(self, at: datetime, times: int = 1) -> History:
        count = decayed(self.interruptions, self.interrupted_at, at) + times
        return replace(self, interruptions=count, interrupted_at=at)

    def became_ready(self, seconds: int) -> History:
        """A node came, so the pool has capacity again; of how long it took the last weighs half."""
        known = seconds if self.ready_seconds is None else self.ready_seconds
        return replace(
            self, refused_until=None, message="", ready_seconds=round((known + seconds) / 2)
        )

    def risk(self, now: datetime) -> float:
        """How unlikely its capacity is: events that count, as they are worth now."""
        return decayed(self.refusals, self.refused_at, now) + decayed(
            self.interruptions, self.interrupted_at, now
        )

    def is_blank(self, now: datetime) -> bool:
        """Whether there is nothing left to remember."""
        return self.ready_seconds is None and not self.is_refused(now) and self.risk(now) == 0


def decayed(count: float, at: datetime | None, now: datetime) -> float:
    """What events counted at a time are worth now."""
    if at is None or not count:
        return 0.0
    left = count * 0.5 ** (max(timedelta(0), now - at) / HALF_LIFE)
    return 0.0 if left < _FORGOTTEN else float(left)


def histories_of(status: ComputeEnvironmentStatus) -> dict[PoolKey, History]:
    """What an environment's status remembers."""
    return {
        PoolKey(row.instance_type, row.capacity_type): History(
            refusals=row.refusals,
            refused_at=row.refused_at,
            refused_until=row.refused_until,
            message=row.message,
            interruptions=row.interruptions,
            interrupted_at=row.interrupted_at,
            ready_seconds=row.ready_seconds,
        )
        for row in status.pools
    }


def rows_of(
    histories: Mapping[PoolKey, History],
    desired: Mapping[PoolKey, int],
    ready: Mapping[PoolKey, int],
    order: Iterable[PoolKey],
    now: datetime,
) -> list[PoolStatus]:
    """A row for each pool of which there is something to say, in the given order."""
    rows: list[PoolStatus] = []
    for key in order:
        history = histories.get(key, History())
        if not desired.get(key) and not ready.get(key) and history.is_blank(now):
            continue
        rows.append(
            PoolStatus(
                instance_type=key.instance_type,
                capacity_type=key.capacity_type,
                desired=desired.get(key, 0),
                ready=ready.get(key, 0),
                refusals=round(history.refusals, 3),
                refused_at=history.refused_at,
                refused_until=history.refused_until,
                message=history.message,
                interruptions=round(history.interruptions, 3),
                interrupted_at=history.interrupted_at,
                ready_seconds=history.ready_seconds,
            )
        )
    return rows
