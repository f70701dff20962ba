"""Pools: an instance type of one capacity type, of which an environment may have nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import (
    AllocationStrategy,
    CapacityType,
    ComputeEnvironmentSpec,
    ComputeEnvironmentType,
)
from batch_operator.api.quantity import memory_bytes, milli_cpu

if TYPE_CHECKING:
    from batch_operator.api.compute_environment import InstanceType


class PoolKey(NamedTuple):
    """What nodes' labels say: `node.kubernetes.io/instance-type`, and the capacity type."""

    instance_type: str
    capacity_type: CapacityType


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool of an environment. `order` is its instance type's place in `instanceTypes`."""

    key: PoolKey
    order: int
    vcpus: int
    offers: Amounts
    """What a node of it can give to jobs, the environment's `nodeOverhead` taken off."""
    price: float | None
    """Of one node for an hour, if it is known."""

    @property
    def price_per_vcpu(self) -> float:
        """What is not priced comes after what is."""
        return float("inf") if self.price is None else self.price / self.vcpus


def pools_of(spec: ComputeEnvironmentSpec) -> list[Pool]:
    """All pools that the environment may use, in the order of `instanceTypes`.

    AWS: a spot price above `bidPercentage` of the on-demand price rules a pool out.
    """
    overhead = Amounts()
    if spec.node_overhead is not None:
        overhead = Amounts(
            milli_cpu(spec.node_overhead.cpu), memory_bytes(spec.node_overhead.memory)
        )
    return [
        Pool(
            key=PoolKey(one.name, capacity_type),
            order=order,
            vcpus=one.vcpus,
            offers=Amounts(one.vcpus * 1000, memory_bytes(one.memory), one.gpus) - overhead,
            price=price_of(one, capacity_type),
        )
        for order, one in enumerate(spec.instance_types)
        for capacity_type in capacity_types(spec)
        if not (capacity_type is CapacityType.SPOT and _is_above_bid(one, spec.bid_percentage))
    ]


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
    """Spot first: it is preferred where an environment has both and prices do not say else."""
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
