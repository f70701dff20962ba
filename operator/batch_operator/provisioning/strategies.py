"""AWS Batch's six allocation strategies: in which order an environment's pools are asked.

AWS: user guide, "Instance type allocation strategies for AWS Batch". Where AWS knows how much
capacity a spot pool has, this operator goes by what it has learned of it (`history`).
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import AllocationStrategy, CapacityType
from batch_operator.provisioning.history import history_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from batch_operator.provisioning.history import History
    from batch_operator.provisioning.pools import Pool, PoolKey

    Rank = Callable[[Pool, float, int], tuple[float, ...]]
    """Of a pool, its risk, and how many vCPUs of one of its nodes would be used."""

UNPRICED = float("inf")
"""What has no price comes after what has one."""
_PRICE_DIGITS = 9
"""Prices that differ by less are the same: a tie must not hang on how a float is rounded."""


def in_order(
    strategy: AllocationStrategy,
    pools: Iterable[Pool],
    histories: Mapping[PoolKey, History],
    now: datetime,
    wanted_vcpus: int | None = None,
) -> list[Pool]:
    """Pools that are large enough, the one to ask first in front.

    With `wanted_vcpus`, so many are waited for in all: the price of a vCPU is that of one which
    would be used, so that the last node is not larger than pays. Ties: the smaller, then the one
    listed first, then spot.
    """
    rank = _RANKS[strategy]

    def place(pool: Pool) -> tuple[float, ...]:
        risk = history_of(histories, pool.key).risk(now)
        used = pool.vcpus if wanted_vcpus is None else min(pool.vcpus, max(1, wanted_vcpus))
        return (*rank(pool, risk, used), pool.vcpus, pool.order, _is_not_spot(pool))

    return sorted(pools, key=place)


def waits(strategy: AllocationStrategy) -> bool:
    """AWS: BEST_FIT waits for the type that it has chosen, all others move on to the next."""
    return strategy is AllocationStrategy.BEST_FIT


def can_overshoot(strategy: AllocationStrategy) -> bool:
    """AWS: all strategies but BEST_FIT may exceed maxvCpus, by one instance at most.

    DEVIATION: AWS's BEST_FIT may, too, where it is for spot.
    """
    return strategy is not AllocationStrategy.BEST_FIT


def goes_by_price(strategy: AllocationStrategy) -> bool:
    """Whether how many vCPUs are waited for makes a difference to the order."""
    return strategy in {
        AllocationStrategy.BEST_FIT_PROGRESSIVE,
        AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED,
    }


def _node_price(pool: Pool, _: float, __: int) -> tuple[float, ...]:
    return (UNPRICED if pool.price is None else pool.price,)


def _vcpu_price(pool: Pool, _: float, used: int) -> tuple[float, ...]:
    return (_per_vcpu(pool, used),)


def _listed(pool: Pool, _: float, __: int) -> tuple[float, ...]:
    return (pool.order,)


def _capacity(pool: Pool, risk: float, _: int) -> tuple[float, ...]:
    return _is_not_spot(pool), risk, _per_vcpu(pool, pool.vcpus)


def _price_and_capacity(pool: Pool, risk: float, used: int) -> tuple[float, ...]:
    """Each recent event makes a pool as unattractive as a price once higher."""
    return _is_not_spot(pool), round(_per_vcpu(pool, used) * (1 + risk), _PRICE_DIGITS), risk


def _capacity_then_listed(pool: Pool, risk: float, _: int) -> tuple[float, ...]:
    """Risk in whole events, half of one being none, so that the list has a say."""
    return _is_not_spot(pool), ceil(risk - 0.5), pool.order


def _is_not_spot(pool: Pool) -> bool:
    """Beyond AWS an environment may fall back from spot to on-demand: that comes last."""
    return pool.key.capacity_type is not CapacityType.SPOT


def _per_vcpu(pool: Pool, used: int) -> float:
    return UNPRICED if pool.price is None else round(pool.price / used, _PRICE_DIGITS)


_RANKS: dict[AllocationStrategy, Rank] = {
    AllocationStrategy.BEST_FIT: _node_price,
    AllocationStrategy.BEST_FIT_PROGRESSIVE: _vcpu_price,
    AllocationStrategy.BEST_FIT_PROGRESSIVE_ORDERED: _listed,
    AllocationStrategy.SPOT_CAPACITY_OPTIMIZED: _capacity,
    AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED: _price_and_capacity,
    AllocationStrategy.SPOT_CAPACITY_OPTIMIZED_PRIORITIZED: _capacity_then_listed,
}
