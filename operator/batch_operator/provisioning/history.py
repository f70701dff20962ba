"""What was learned of a pool: how often it was refused or lost nodes, and how long they take.

AWS knows which spot pools have capacity; an operator on any cluster can only remember. Older events
weigh less: a count halves every `HALF_LIFE`. What is remembered stands in the environment's status,
so a restart forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import Allocatable, PoolStatus
from batch_operator.provisioning.pools import PoolKey, Space

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentStatus

HALF_LIFE = timedelta(hours=6)
BACK_OFF = timedelta(seconds=30)
BACK_OFF_MAX = timedelta(minutes=15)
FOLLOWED_BACK_OFF_MAX = timedelta(minutes=3)
"""Where an autoscaler follows Pods: what it was refused may have been for one Pod alone, that is
bound to a zone, and Karpenter itself leaves an offering alone for no longer."""
PATIENCE = timedelta(minutes=10)
"""A node that was ordered, or that is not ready, is waited for at least so long."""
PATIENCE_FACTOR = 5
"""Or so many times as long as a node of the pool took to become ready lately."""
START_UP_MAX = timedelta(hours=1)
"""That it took longer says the kubelet's clock, or a node that was not ready twice."""
SIZE_KEPT = timedelta(hours=6)
"""What nodes gave that are gone counts until so long after the newest of them was made."""
NEVER_CAME = "no node of it became ready within {} s"
_FORGOTTEN = 0.05
"""A count below this is none."""
_COUNT_DIGITS = 3
_MESSAGE_MAX = 256


@dataclass(frozen=True, slots=True)
class History:
    """Of one pool, as exact as its row in the status: a restart changes nothing.

    `refusals` and `interruptions` are as they were worth at their last time.
    """

    refusals: float = 0.0
    refused_at: datetime | None = None
    refused_until: datetime | None = None
    refused_in_a_row: int = 0
    """Since a node came last: the pool is left alone for longer each time."""
    message: str = ""
    interruptions: float = 0.0
    interrupted_at: datetime | None = None
    waiting_since: datetime | None = None
    """Nodes are ordered, and none has come since then."""
    overdue_at: datetime | None = None
    """When an order was given up last because no node came, if none has come since."""
    came_at: datetime | None = None
    """When the newest node that became ready was created."""
    ready_seconds: int | None = None
    allocatable: Space | None = None
    """The least that a node of it had to give, of those that there were last."""

    def expected(self, declared: Space) -> Space:
        """What a node that is not there yet will offer: as much as others of its pool, or less."""
        learned = self.allocatable
        if learned is None:
            return declared
        return Space(declared.at_most(learned).amounts, learned.pods)

    @property
    def patience(self) -> timedelta:
        """How long a node is waited for."""
        return max(PATIENCE, timedelta(seconds=PATIENCE_FACTOR * (self.ready_seconds or 0)))

    def is_refused(self, now: datetime) -> bool:
        """Whether it is left alone; after a clock was set back it is not, however long that was."""
        until = self.refused_until
        return until is not None and timedelta(0) < until - now <= BACK_OFF_MAX

    def refused(self, at: datetime, message: str, most: timedelta = BACK_OFF_MAX) -> History:
        """One more refusal: the more in a row, the longer the pool is left alone."""
        at = at.replace(microsecond=0)
        delay = min(most, BACK_OFF * 2 ** min(self.refused_in_a_row, 8))
        return replace(
            self,
            refusals=round(decayed(self.refusals, self.refused_at, at) + 1, _COUNT_DIGITS),
            refused_at=at,
            refused_until=at + delay,
            refused_in_a_row=self.refused_in_a_row + 1,
            message=message[:_MESSAGE_MAX],
            waiting_since=None,
        )

    def overdue(self, at: datetime, said: str = "", *, waited: timedelta | None = None) -> History:
        """What was ordered has not come: as good as a refusal. `said` is what is known of it."""
        message = NEVER_CAME.format(round((waited or self.patience).total_seconds()))
        if said:
            message += f": {said}"
        return replace(self.refused(at, message), overdue_at=at.replace(microsecond=0))

    def tried_anew(self) -> History:
        """The same after a change of the spec: what was refused before may be had now."""
        return replace(
            self,
            refused_until=None,
            refused_in_a_row=0,
            message="",
            overdue_at=None,
            allocatable=None,
        )

    def without_nodes(self, now: datetime) -> History:
        """The same while no node is there: what one of them had does not count for ever."""
        is_old = self.came_at is None or now >= self.came_at + SIZE_KEPT
        return replace(self, allocatable=None) if self.allocatable and is_old else self

    def interrupted(self, at: datetime, times: int = 1) -> History:
        at = at.replace(microsecond=0)
        count = decayed(self.interruptions, self.interrupted_at, at) + times
        return replace(self, interruptions=round(count, _COUNT_DIGITS), interrupted_at=at)

    def is_news(self, created_at: datetime) -> bool:
        """Whether a node that is ready says something new: one of those that came last does not."""
        return self.came_at is None or created_at > self.came_at

    def became_ready(self, created_at: datetime, seconds: int) -> History:
        """A node came; of how long it took the last weighs half.

        If it was made after the last refusal, the pool has capacity again.
        """
        seconds = min(seconds, round(START_UP_MAX.total_seconds()))
        known = seconds if self.ready_seconds is None else self.ready_seconds
        ready = replace(
            self,
            came_at=created_at,
            ready_seconds=round((known + seconds) / 2),
            waiting_since=None,
            overdue_at=None,
        )
        if self.refused_at is not None and created_at <= self.refused_at:
            return ready
        return replace(ready, refused_until=None, refused_in_a_row=0, message="")

    def waits(self, now: datetime, *, is_awaited: bool) -> History:
        """The same, with nodes on order or without; the time counts from the first."""
        since = (self.waiting_since or now.replace(microsecond=0)) if is_awaited else None
        return replace(self, waiting_since=since) if since != self.waiting_since else self

    def risk(self, now: datetime) -> float:
        """How unlikely its capacity is: events that count, as they are worth now."""
        return decayed(self.refusals, self.refused_at, now) + decayed(
            self.interruptions, self.interrupted_at, now
        )

    def is_blank(self, now: datetime) -> bool:
        """Whether there is nothing left to remember."""
        remembered = (self.came_at, self.allocatable, self.waiting_since, self.overdue_at)
        return not any(remembered) and not self.is_refused(now) and self.risk(now) == 0


_NO_HISTORY = History()
_AS_IN_STATUS = tuple(one.name for one in fields(History) if one.name != "allocatable")
"""What the status keeps under the same name, in the same form."""


def history_of(histories: Mapping[PoolKey, History], key: PoolKey | None) -> History:
    """What was learned of a pool, which may be nothing."""
    return histories.get(key, _NO_HISTORY) if key is not None else _NO_HISTORY


def has_never_worked(histories: Mapping[PoolKey, History]) -> bool:
    """Whether orders ran into their time limit, and no node of any pool has ever become ready.

    AWS: such an environment is INVALID, for none of its instances joined the cluster.
    """
    known = histories.values()
    return any(one.overdue_at for one in known) and not any(one.came_at for one in known)


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
            **{name: getattr(row, name) for name in _AS_IN_STATUS},
            allocatable=_space(row.allocatable),
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
        history = history_of(histories, key)
        if not desired.get(key) and not ready.get(key) and history.is_blank(now):
            continue
        rows.append(
            PoolStatus(
                instance_type=key.instance_type,
                capacity_type=key.capacity_type,
                desired=desired.get(key, 0),
                ready=ready.get(key, 0),
                **{name: getattr(history, name) for name in _AS_IN_STATUS},
                allocatable=_allocatable(history.allocatable),
            )
        )
    return rows


def _allocatable(space: Space | None) -> Allocatable | None:
    if space is None:
        return None
    amounts = space.amounts
    return Allocatable(
        milli_cpu=amounts.milli_cpu, memory=amounts.memory, gpus=amounts.gpus, pods=space.pods
    )


def _space(row: Allocatable | None) -> Space | None:
    if row is None:
        return None
    return Space(Amounts(row.milli_cpu, row.memory, row.gpus), row.pods)
