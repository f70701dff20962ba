"""What nodes cost, and what part of that an attempt bears.

Prices are of instance types, by capacity type, for an hour; the environment gives them, or a
catalogue that it names. An attempt bears its dominant share of its node's price: the largest part
that it takes of the node's CPU, memory or GPUs, as `nodeOverhead` leaves them. Capacity that comes
with an attempt, as AWS's Fargate, is paid for as the size that it is rounded up to. What has no
known price has no cost.

Reckoned in whole numbers, so that a sum does not depend on the order of its parts: rates in
billionths of the currency's unit per hour, amounts in millionths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType
from batch_operator.provisioning.pools import PoolKey, capacity_types, price_of, sizes_of
from batch_operator.provisioning.serverless import price_per_hour, rounded, serverless_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction

    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.provisioning.catalogue import Listed

NANOS = 1_000_000_000
KNOWN_MAX = 4096
"""So many rates are remembered: what is asked for is up to those who submit."""
_PER_MICRO = 3600 * 1000
"""Billionths per hour times seconds, in a millionth."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What something costs, and what it would on demand, in billionths per hour.

    `is_guess`: the node is not known, and this is the least that it can be.
    """

    pool: PoolKey
    price: int
    on_demand: int
    is_guess: bool = False

    @property
    def saved(self) -> int:
        return max(0, self.on_demand - self.price)

    def part(self, share: Fraction) -> Rate:
        return replace(self, price=_part(self.price, share), on_demand=_part(self.on_demand, share))


def cost_of(rate: int, seconds: int) -> int:
    """Millionths, half of one rounded up. `rate` may be a sum."""
    return (2 * rate * seconds + _PER_MICRO) // (2 * _PER_MICRO)


def seconds_until(cost: int, rate: int) -> int | None:
    """How long it takes at least until so many millionths are spent; None if that is never."""
    return None if rate <= 0 else max(0, -(-cost * _PER_MICRO // rate))


def _part(rate: int, share: Fraction) -> int:
    return (2 * rate * share.numerator + share.denominator) // (2 * share.denominator)


class Prices:
    """The prices of one environment's nodes and of attempts on them.

    `before` are those that it had: nodes of an instance type that was taken out of the spec cost
    what they did, as long as they are there.
    """

    def __init__(self, spec: ComputeEnvironmentSpec, before: Prices | None = None) -> None:
        self._listed = {one.name for one in spec.instance_types}
        self.rates: dict[PoolKey, Rate] = {}
        for one in spec.instance_types:
            for capacity_type in CapacityType:
                price = price_of(one, capacity_type)
                whole = price_of(one, CapacityType.ON_DEMAND)
                if price is not None:
                    key = PoolKey(one.name, capacity_type)
                    on_demand = _nanos(price if whole is None else whole)
                    self.rates[key] = Rate(key, _nanos(price), on_demand)
        self.sizes = sizes_of(spec)
        if before is not None:
            gone = before.sizes.keys() - self._listed
            self.sizes |= {name: before.sizes[name] for name in gone}
            self.rates |= {
                key: rate for key, rate in before.rates.items() if key.instance_type in gone
            }
        self._serverless = serverless_of(spec)
        self._capacity_type = capacity_types(spec)[0]
        self._known: dict[tuple[PoolKey | None, Amounts], Rate | None] = {}

    def __bool__(self) -> bool:
        """Whether any price is known."""
        return bool(self.rates) or self._of_size(Amounts()) is not None

    @property
    def is_serverless(self) -> bool:
        """Attempts bring their capacity: what is paid for is their size, on whatever node."""
        return self._serverless is not None

    def of_node(self, pool: PoolKey) -> Rate | None:
        return self.rates.get(pool)

    def of_attempt(self, asks: Amounts, pool: PoolKey | None) -> Rate | None:
        """What an attempt bears of a node's price; None where that is not known."""
        if (pool, asks) not in self._known:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            found = self._of_size(asks) if self.is_serverless else self._of_part(asks, pool)
            self._known[pool, asks] = found
        return self._known[pool, asks]

    def _of_part(self, asks: Amounts, pool: PoolKey | None) -> Rate | None:
        if pool is None:
            return None
        node, size = self.rates.get(pool), self.sizes.get(pool.instance_type)
        return node.part(asks.share_of(size)) if node and size else None

    def _of_size(self, asks: Amounts) -> Rate | None:
        """Of capacity that comes with an attempt: the size that it is rounded up to."""
        section = self._serverless
        size = rounded(asks, section) if section is not None else None
        if section is None or size is None:
            return None
        price = price_per_hour(size, self._capacity_type, section)
        whole = price_per_hour(size, CapacityType.ON_DEMAND, section)
        if price is None:
            return None
        name = f"{size.milli_cpu}m-{size.memory >> 20}Mi"
        key = PoolKey(name, self._capacity_type)
        return Rate(key, _nanos(price), _nanos(price if whole is None else whole))

    def lowest(self, asks: Amounts, suits: Callable[[PoolKey], bool]) -> Rate | None:
        """What an attempt bears at least, on whichever node of those that suit."""
        rates = (
            self.of_attempt(asks, pool)
            for pool in self.rates
            if pool.instance_type in self._listed and suits(pool)
            if asks.fits_into(self.sizes[pool.instance_type])
        )
        known = (replace(one, is_guess=True) for one in rates if one is not None)
        return min(known, key=lambda one: (one.price, one.pool), default=None)


def _nanos(price: float) -> int:
    return round(price * NANOS)


def priced(spec: ComputeEnvironmentSpec, catalogue: Mapping[str, Listed]) -> ComputeEnvironmentSpec:
    """The spec with a catalogue's prices where it gives none itself."""
    types = []
    for one in spec.instance_types:
        listed = catalogue.get(one.name)
        has_own = one.price_per_hour is not None or one.spot_price_per_hour is not None
        if listed is None or has_own:
            types.append(one)
            continue
        prices = {"price_per_hour": listed.on_demand, "spot_price_per_hour": listed.spot}
        types.append(one.model_copy(update=prices))
    return spec.model_copy(update={"instance_types": types})
