"""Pools: an instance type of one capacity type, of which an environment may have nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import (
    AllocationStrategy,
    CapacityType,
    ComputeEnvironmentSpec,
    ComputeEnvironmentType,
)
from batch_operator.api.quantity import memory_bytes, milli_cpu
from batch_operator.api.scale import ScaleIn

if TYPE_CHECKING:
    from batch_operator.api.compute_environment import InstanceType


PODS_MAX = 110
"""The kubelet's default, for nodes of which nothing else is known."""


class PoolKey(NamedTuple):
    """What nodes' labels say: `node.kubernetes.io/instance-type`, and the capacity type."""

    instance_type: str
    capacity_type: CapacityType

    @property
    def in_words(self) -> str:
        return f"{self.instance_type} ({self.capacity_type})"


@dataclass(frozen=True, slots=True)
class Space:
    """Room for Pods on a node: their requests, and how many there may be."""

    amounts: Amounts = field(default_factory=Amounts)
    pods: int = 0

    def __add__(self, other: Space) -> Space:
        return Space(self.amounts + other.amounts, self.pods + other.pods)

    def __sub__(self, other: Space) -> Space:
        return Space(self.amounts - other.amounts, self.pods - other.pods)

    def at_most(self, other: Space) -> Space:
        """The smaller one of each resource."""
        mine, others = self.amounts, other.amounts
        return Space(
            Amounts(
                min(mine.milli_cpu, others.milli_cpu),
                min(mine.memory, others.memory),
                min(mine.gpus, others.gpus),
            ),
            min(self.pods, other.pods),
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool of an environment. `order` is its instance type's place in `instanceTypes`."""

    key: PoolKey
    order: int
    vcpus: int
    offers: Space
    """What a node of it should give to Pods: its size without the environment's `nodeOverhead`."""
    price: float | None
    """Of one node for an hour, if it is known."""
    is_whole: bool = False
    """Its nodes go all at once or not at all: nobody can be told which of them is to go."""


def pools_of(spec: ComputeEnvironmentSpec) -> list[Pool]:
    """All pools that the environment may use, in the order of `instanceTypes`.

    AWS: a spot price above `bidPercentage` of the on-demand price rules a pool out.
    """
    sizes = sizes_of(spec)
    return [
        Pool(
            key=PoolKey(one.name, capacity_type),
            order=order,
            vcpus=one.vcpus,
            offers=Space(sizes[one.name], PODS_MAX),
            price=price_of(one, capacity_type),
            is_whole=goes_whole(spec),
        )
        for order, one in enumerate(spec.instance_types)
        for capacity_type in capacity_types(spec)
        if not (capacity_type is CapacityType.SPOT and _is_above_bid(one, spec.bid_percentage))
    ]


def sizes_of(spec: ComputeEnvironmentSpec) -> dict[str, Amounts]:
    """By instance type: what a node of it can give to jobs, `nodeOverhead` taken off."""
    overhead = Amounts()
    if spec.node_overhead is not None:
        overhead = Amounts(
            milli_cpu(spec.node_overhead.cpu), memory_bytes(spec.node_overhead.memory)
        )
    return {
        one.name: Amounts(one.vcpus * 1000, memory_bytes(one.memory), one.gpus) - overhead
        for one in spec.instance_types
    }


def goes_whole(spec: ComputeEnvironmentSpec) -> bool:
    """Whether the environment's pools can only be emptied, not thinned out."""
    scale = spec.provisioner.scale if spec.provisioner is not None else None
    return scale is not None and scale.scale_in is ScaleIn.WHEN_POOL_IS_IDLE


def price_of(instance_type: InstanceType, capacity_type: CapacityType) -> float | None:
    """The price of one node for an hour; a spot price that is not given is the on-demand one."""
    if capacity_type is CapacityType.SPOT and instance_type.spot_price_per_hour is not None:
        return instance_type.spot_price_per_hour
    return instance_type.price_per_hour


def _is_above_bid(instance_type: InstanceType, bid_percentage: int | None) -> bool:
    whole, spot = instance_type.price_per_hour, instance_type.spot_price_per_hour
    if bid_percentage is None or whole is None or spot is None:
        return False
    return spot > whole * bid_percentage / 100


def capacity_types(spec: ComputeEnvironmentSpec) -> list[CapacityType]:
    """What an environment asks for, spot first; on-demand when it says nothing."""
    given = set(spec.capacity_types) or {CapacityType.ON_DEMAND}
    return sorted(given, key=lambda one: one is not CapacityType.SPOT)


def strategy_of(spec: ComputeEnvironmentSpec) -> AllocationStrategy:
    """DEVIATION: AWS has a default for ECS only, BEST_FIT, and advises against it."""
    if spec.allocation_strategy is not None:
        return spec.allocation_strategy
    if CapacityType.SPOT in spec.capacity_types:
        return AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED
    return AllocationStrategy.BEST_FIT_PROGRESSIVE


def is_managed(spec: ComputeEnvironmentSpec) -> bool:
    return spec.type is ComputeEnvironmentType.MANAGED
