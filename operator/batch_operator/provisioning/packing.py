"""Where Pods that have no node yet would go, on paper: the largest first, each to the first fit.

First-fit decreasing needs at most 11/9 of the nodes of a perfect packing (Johnson 1973).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import CapacityType
from batch_operator.provisioning.pools import Space

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.api.amounts import Amounts
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import PoolKey


@dataclass(frozen=True, slots=True)
class Demand:
    """Pods without a node that ask for the same."""

    amounts: Amounts
    count: int
    on_demand: bool = False
    """They go to on-demand nodes only."""
    instance_type: str | None = None
    """They go to nodes of this type only."""
    gang: str | None = None
    """They are of use together only, with all others of that name: nodes of a multi-node job."""
    spot: bool = False
    """They go to spot nodes only."""
    refused_by: frozenset[str] = frozenset()
    """Uids of nodes that are no place for them, whatever room there is (see `misfits`)."""

    @property
    def kind(self) -> Demand:
        """One of these Pods, as its attempt asks for it."""
        return replace(self, count=1, refused_by=frozenset())

    def suits(self, key: PoolKey | None) -> bool:
        """Whether its node selector allows nodes of a pool."""
        if key is None:
            return not (self.on_demand or self.spot or self.instance_type)
        is_spot = key.capacity_type is CapacityType.SPOT
        is_type = self.instance_type in {None, key.instance_type}
        return is_type and not (self.on_demand and is_spot) and not (self.spot and not is_spot)


def gang_of(attempt: PodAttempt) -> str | None:
    """The name of all nodes of one attempt of a multi-node job, if it is one of these."""
    return f"{attempt.job_uid}/{attempt.number}" if attempt.node_group is not None else None


def demand_of(attempt: PodAttempt) -> Demand:
    """What one Pod of an attempt asks for; nodes of one multi-node attempt are a gang."""
    return Demand(
        amounts=attempt.amounts,
        count=1,
        on_demand=attempt.on_demand,
        instance_type=attempt.instance_type,
        gang=gang_of(attempt),
        spot=attempt.spot,
    )


@dataclass(slots=True)
class Place:
    """A node, there or to come, and what is left on it."""

    pool: PoolKey | None
    vcpus: int
    left: Space
    node: Node | None = None
    is_used: bool = False

    @property
    def name(self) -> str | None:
        return self.node.name if self.node is not None else None

    def is_full(self, least: Amounts) -> bool:
        """Whether no Pod has room that asks for so much, or for more, of CPU and of memory."""
        left = self.left.amounts
        is_short = left.milli_cpu < least.milli_cpu or left.memory < least.memory
        return is_short or self.left.pods <= 0

    def count_of(self, demand: Demand) -> int:
        """How many of these Pods there is room for."""
        if self.left.amounts.milli_cpu < demand.amounts.milli_cpu or not demand.suits(self.pool):
            return 0
        if self.node is not None and self.node.uid in demand.refused_by:
            return 0
        return max(0, min(self.left.pods, demand.amounts.count_in(self.left.amounts)))


@dataclass(frozen=True, slots=True)
class Taken:
    """What has been put onto a place, and what the place was before."""

    place: Place
    left: Space
    was_used: bool

    def undo(self) -> None:
        self.place.left, self.place.is_used = self.left, self.was_used


def put(demand: Demand, wanted: int, places: Iterable[Place], taken: list[Taken]) -> int:
    """Put Pods onto places, noting in `taken` what that changes; how many are left over."""
    for place in places:
        if not wanted:
            break
        count = min(wanted, place.count_of(demand))
        if count:
            taken.append(Taken(place, place.left, place.is_used))
            place.left -= Space(demand.amounts.times(count), count)
            place.is_used = True
            wanted -= count
    return wanted


def in_units(demand: Iterable[Demand]) -> list[list[Demand]]:
    """What goes together, the largest first: a gang, or Pods of which each goes alone."""
    gangs: dict[str, list[Demand]] = defaultdict(list)
    units: list[list[Demand]] = []
    for one in sorted(demand, key=_largest_first):
        if one.gang is None:
            units.append([one])
        elif one.gang in gangs:
            gangs[one.gang].append(one)
        else:
            units.append(gangs[one.gang])
            gangs[one.gang].append(one)
    return units


def _largest_first(demand: Demand) -> tuple[int, int, int, bool, str, str, list[str]]:
    amounts = demand.amounts
    return (
        -amounts.gpus,
        -amounts.milli_cpu,
        -amounts.memory,
        not demand.on_demand,
        demand.instance_type or "",
        demand.gang or "",
        sorted(demand.refused_by),
    )
