"""AWS Batch's six allocation strategies: in which order an environment's pools are asked.

AWS: user guide, "Instance type allocation strategies for AWS Batch". Where AWS knows how much
capacity a spot pool has, this operator goes by what it has learned of it (`history`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api.compute_environment import AllocationStrategy, CapacityType
from batch_operator.provisioning.history import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from batch_operator.provisioning.pools import Pool, PoolKey

    Histories = Mapping[PoolKey, History]
    Rank = Callable[[Pool, Histories, datetime], tuple[Any, ...]]

_NONE = History()
RISK_GRAIN = 1.0
"""Risks that differ by less than one recent event are the same to the prioritized strategy."""


def in_order(
    strategy: AllocationStrategy, pools: Iterable[Pool], histories: Histories, now: datetime
) -> list[Pool]:
    """Pools that are large enough, the one to ask first in front. Ties: the smaller, then by name.

    With BEST_FIT there is one at most: AWS waits for it.
    """
    rank = _RANKS[strategy]
    ordered = sorted(pools, key=lambda one: (*rank(one, histories, now), one.vcpus, one.key))
    return ordered[:1] if strategy is AllocationStrategy.BEST_FIT else ordered


def can_overshoot(strategy: AllocationStrategy) -> bool:
    """AWS: all strategies but BEST_FIT may exceed maxvCpus, by one instance at most."""
    return strategy is not AllocationStrategy.BEST_FIT


def _node_price(pool: Pool, _: Histories, __: datetime) -> tuple[Any, ...]:
    return (float("inf") if pool.price is None else pool.price,)


def _vcpu_price(pool: Pool, _: Histories, __: datetime) -> tuple[Any, ...]:
    return (pool.price_per_vcpu,)


def _listed(pool: Pool, _: Histories, __: datetime) -> tuple[Any, ...]:
    return (pool.order,)


def _capacity(pool: Pool, histories: Histories, now: datetime) -> tuple[Any, ...]:
    return _spot_first(pool), _risk(pool, histories, now), pool.price_per_vcpu


def _price_and_capacity(pool: Pool, histories: Histories, now: datetime) -> tuple[Any, ...]:
    """Each recent event makes a pool as unattractive as a price once higher."""
    return _spot_first(pool), pool.price_per_vcpu * (1 + _risk(pool, histories, now))


def _capacity_then_listed(pool: Pool, histories: Histories, now: datetime) -> tuple[Any, ...]:
    return _spot_first(pool), _risk(pool, histories, now) // RISK_GRAIN, pool.order


def _spot_first(pool: Pool) -> bool:
    """Beyond AWS an environment may fall back from spot to on-demand: that comes last."""
    return pool.key.capacity_type is not CapacityType.SPOT


def _risk(pool: Pool, histories: Histories, now: datetime) -> float:
    return histories.get(pool.key, _NONE).risk(now)


_RANKS: dict[AllocationStrategy, Rank] = {
    AllocationStrategy.BEST_FIT: _node_price,
    AllocationStrategy.BEST_FIT_PROGRESSIVE: _vcpu_price,
    AllocationStrategy.BEST_FIT_PROGRESSIVE_ORDERED: _listed,
    AllocationStrategy.SPOT_CAPACITY_OPTIMIZED: _capacity,
    AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED: _price_and_capacity,
    AllocationStrategy.SPOT_CAPACITY_OPTIMIZED_PRIORITIZED: _capacity_then_listed,
}
