"""What has happened to an environment between two of its statuses: for Events, and for counters.

It is read off statuses alone, of which the later one is stored: what was told before a restart is
not told again after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import EnvironmentStatus, PoolStatus
from batch_operator.api.sentences import listed
from batch_operator.provisioning.history import decayed
from batch_operator.provisioning.pools import PoolKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentStatus

NOTE_MAX = 1024
"""Characters of an Event's note."""
_NAMED_MAX = 5
"""A note tells of so many pools; the others are counted."""


@dataclass(frozen=True, slots=True)
class Happening:
    """A CamelCase reason, and a sentence."""

    reason: str
    note: str
    is_warning: bool = False


@dataclass(frozen=True, slots=True)
class PoolChange:
    """What has happened to one pool. `desired` is how many nodes of it there should be now."""

    pool: PoolKey
    desired: int
    more: int
    """By how many nodes that is above what it was; below it, if negative."""
    refusals: int
    interruptions: int
    message: str
    """What the pool was refused with last; empty once a node has come since."""

    @property
    def given_back(self) -> int:
        """Nodes fewer that were neither lost nor refused: nothing needs them any more."""
        return 0 if self.refusals else max(0, -self.more - self.interruptions)


def pool_changes(
    before: ComputeEnvironmentStatus, after: ComputeEnvironmentStatus
) -> list[PoolChange]:
    """Of every pool that either status has."""
    old, new = _by_pool(before), _by_pool(after)
    found = []
    for key in {**new, **old}:
        nothing = PoolStatus(instance_type=key.instance_type, capacity_type=key.capacity_type)
        found.append(_change(key, old.get(key, nothing), new.get(key, nothing)))
    return found


def happenings(
    before: ComputeEnvironmentStatus, after: ComputeEnvironmentStatus
) -> list[Happening]:
    """What somebody who runs the environment wants to know; no reason more than once."""
    pools = pool_changes(before, after)
    return [
        *_fared(before, after),
        *_told(
            "ScaledUp",
            [
                f"{_nodes(one.more, 'more ')} of {one.pool.in_words}, {one.desired} in all"
                for one in pools
                if one.more > 0
            ],
        ),
        *_told(
            "ScaledDown",
            [
                f"{_nodes(one.given_back, 'fewer ')} of {one.pool.in_words}, {one.desired} in all"
                for one in pools
                if one.given_back
            ],
        ),
        *_told(
            "CapacityRefused",
            [
                f"{one.pool.in_words}: {one.message}"
                for one in pools
                if one.refusals and one.message
            ],
            is_warning=True,
        ),
        *_told(
            "NodesLost",
            [
                f"{_nodes(one.interruptions)} of {one.pool.in_words} taken away"
                for one in pools
                if one.interruptions
            ],
            is_warning=True,
        ),
    ]


def _by_pool(status: ComputeEnvironmentStatus) -> dict[PoolKey, PoolStatus]:
    return {PoolKey(one.instance_type, one.capacity_type): one for one in status.pools}


def _change(key: PoolKey, before: PoolStatus, after: PoolStatus) -> PoolChange:
    return PoolChange(
        key,
        after.desired,
        after.desired - before.desired,
        refusals=_new(before.refusals, before.refused_at, after.refusals, after.refused_at),
        interruptions=_new(
            before.interruptions, before.interrupted_at, after.interruptions, after.interrupted_at
        ),
        message=after.message,
    )


def _new(before: float, before_at: datetime | None, after: float, at: datetime | None) -> int:
    """How many events came on top of a count in which older ones weigh less."""
    return max(0, round(after - decayed(before, before_at, at))) if at is not None else 0


def _fared(before: ComputeEnvironmentStatus, after: ComputeEnvironmentStatus) -> list[Happening]:
    """Changes of AWS's word, and of an infrastructure update, which an INVALID one may have too."""
    invalid, deleting = EnvironmentStatus.INVALID, EnvironmentStatus.DELETING
    reason = (after.status_reason or "")[:NOTE_MAX]
    if after.status is deleting:
        return [] if before.status is deleting else [Happening("Deleting", reason)]
    found = []
    if after.status is invalid and before.status is not invalid:
        found.append(Happening("Invalid", reason, is_warning=True))
    if before.status is invalid and after.status is not invalid:
        found.append(Happening("Valid", "it can work again"))
    if after.update is not None and after.update != before.update:
        found.append(Happening("UpdateBegun", "nodes with the settings of before are replaced"))
    if after.update is None and before.update is not None:
        found.append(Happening("UpdateEnded", "no node with the settings of before is left"))
    return found


def _told(reason: str, notes: Sequence[str], *, is_warning: bool = False) -> list[Happening]:
    if not notes:
        return []
    note = listed(notes, _NAMED_MAX, "; ")[:NOTE_MAX]
    return [Happening(reason, note, is_warning)]


def _nodes(count: int, which: str = "") -> str:
    return f"1 {which}node" if count == 1 else f"{count} {which}nodes"
