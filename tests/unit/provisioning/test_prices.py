"""What nodes cost, and what part of that an attempt bears, by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType
from batch_operator.api.cost import micros, money
from batch_operator.provisioning.catalogue import Listed
from batch_operator.provisioning.pools import PoolKey
from batch_operator.provisioning.prices import (
    KNOWN_MAX,
    Prices,
    cost_of,
    priced,
    seconds_until,
)
from support.builders import environment

GIB = 2**30
SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
SIZES = {"vcpus": 4, "memory": "16Gi"}


def prices(*types: dict[str, Any], **spec: Any) -> Prices:
    listed = [{"name": f"t{number}", **SIZES, **one} for number, one in enumerate(types)]
    return Prices(environment(instanceTypes=listed, **spec).spec)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (500_000, "0.50"),
        (1_500_000, "1.50"),
        (12_345_678_901_234, "12345678.901234"),
    ],
)
def test_money_is_a_decimal_with_two_places_at_least(amount: int, text: str) -> None:
    assert money(amount) == text
    assert micros(text) == amount


@given(st.integers(0, 10**20))
def test_what_is_written_of_money_is_read_again(amount: int) -> None:
    assert micros(money(amount)) == amount


@pytest.mark.parametrize(
    ("asks", "share"),
    [
        pytest.param(Amounts(1000, GIB), Fraction(1, 4), id="cpu counts most"),
        pytest.param(Amounts(1000, 8 * GIB), Fraction(1, 2), id="memory counts most"),
        pytest.param(Amounts(500, GIB, 1), Fraction(1, 2), id="a gpu counts most"),
        pytest.param(Amounts(8000, GIB), Fraction(1), id="no more than all of it"),
        pytest.param(Amounts(), Fraction(0), id="nothing"),
    ],
)
def test_an_attempt_bears_its_dominant_share(asks: Amounts, share: Fraction) -> None:
    assert asks.share_of(Amounts(4000, 16 * GIB, 2)) == share


@pytest.mark.parametrize(
    ("capacity_type", "price", "on_demand"),
    [(ON_DEMAND, 200_000_000, 200_000_000), (SPOT, 50_000_000, 200_000_000)],
)
def test_spot_has_its_own_price_and_saves_the_difference(
    capacity_type: CapacityType, price: int, on_demand: int
) -> None:
    known = prices({"pricePerHour": 0.2, "spotPricePerHour": 0.05})
    rate = known.of_node(PoolKey("t0", capacity_type))

    assert rate is not None
    assert (rate.price, rate.on_demand, rate.saved) == (price, on_demand, on_demand - price)


def test_spot_without_a_price_of_its_own_costs_what_on_demand_does_and_saves_nothing() -> None:
    rate = prices({"pricePerHour": 0.2}).of_node(PoolKey("t0", SPOT))

    assert rate is not None
    assert (rate.price, rate.saved) == (200_000_000, 0)


def test_what_has_no_price_has_no_cost() -> None:
    known = prices({}, {"pricePerHour": 1})

    assert known.of_attempt(Amounts(1000), PoolKey("t0", ON_DEMAND)) is None
    assert known.of_attempt(Amounts(1000), PoolKey("stranger", ON_DEMAND)) is None
    assert known
    assert not prices({})


def test_overhead_is_borne_by_those_who_fill_the_node() -> None:
    known = prices({"pricePerHour": 1}, nodeOverhead={"cpu": "1", "memory": "1Gi"})
    rate = known.of_attempt(Amounts(3000, GIB), PoolKey("t0", ON_DEMAND))

    assert rate is not None
    assert rate.price == 1_000_000_000


def test_the_lowest_rate_is_of_the_cheapest_node_that_suits_and_is_large_enough() -> None:
    small = {"vcpus": 1, "memory": "1Gi", "pricePerHour": 0.1}
    large = {"pricePerHour": 1.2, "spotPricePerHour": 0.8}
    known = prices(small, large)
    asks = Amounts(2000, GIB)

    whichever = known.lowest(asks, lambda _: True)
    on_demand = known.lowest(asks, lambda pool: pool.capacity_type is ON_DEMAND)

    assert whichever is not None
    assert on_demand is not None
    assert (whichever.pool, whichever.price) == (PoolKey("t1", SPOT), 400_000_000)
    assert (on_demand.pool, on_demand.price) == (PoolKey("t1", ON_DEMAND), 600_000_000)
    assert known.lowest(Amounts(9000), lambda _: True) is None


@pytest.mark.parametrize(
    ("rate", "seconds", "cost"),
    [
        (1_000_000_000, 3600, 1_000_000),
        (1_000_000_000, 1, 278),  # 277.8
        (200_000_000, 90, 5000),
        (3_600_000, 1, 1),
        (1_800_000, 1, 1),  # half a millionth is one
        (1_799_999, 1, 0),
    ],
)
def test_cost_is_rate_by_time_to_a_millionth(rate: int, seconds: int, cost: int) -> None:
    assert cost_of(rate, seconds) == cost


@given(cost=st.integers(1, 10**15), rate=st.integers(1, 10**15))
def test_the_time_until_so_much_is_spent_is_long_enough_and_no_longer(cost: int, rate: int) -> None:
    seconds = seconds_until(cost, rate)

    assert seconds is not None
    assert cost_of(rate, seconds) >= cost
    assert rate * (seconds - 1) < cost * 3600 * 1000


def test_what_costs_nothing_never_spends_anything() -> None:
    assert seconds_until(1, 0) is None


def test_a_catalogue_fills_in_what_the_environment_does_not_price_itself() -> None:
    own = {"name": "own", **SIZES, "pricePerHour": 1}
    spec = environment(
        instanceTypes=[own, {"name": "bare", **SIZES}, {"name": "not", **SIZES}]
    ).spec
    listed = {"own": Listed(9, 9), "bare": Listed(2, 0.5), "other": Listed(3)}
    found = {one.name: one for one in priced(spec, listed).instance_types}

    assert (found["own"].price_per_hour, found["own"].spot_price_per_hour) == (1, None)
    assert (found["bare"].price_per_hour, found["bare"].spot_price_per_hour) == (2, 0.5)
    assert found["not"].price_per_hour is None


@pytest.mark.parametrize(
    ("capacity_types", "price", "saved"),
    [
        pytest.param([], 2 * 40_000_000 + 4 * 4_000_000, 0, id="on demand"),
        pytest.param(["spot"], 2 * 12_000_000 + 4 * 4_000_000, 56_000_000, id="spot"),
    ],
)
def test_serverless_capacity_is_paid_by_the_size_that_a_pod_gets(
    capacity_types: list[str], price: int, saved: int
) -> None:
    """1.5 vCPUs and 3 GiB are rounded up to 2 and 4; memory has no spot price of its own."""
    section = {"pricePerVcpuHour": 0.04, "pricePerGibHour": 0.004, "spotPricePerVcpuHour": 0.012}
    provisioner = {"type": "serverless", "serverless": section}
    known = prices(type="MANAGED", capacityTypes=capacity_types, provisioner=provisioner)
    rate = known.of_attempt(Amounts(1500, 3 * GIB), None)

    assert rate is not None
    assert (rate.price, rate.saved) == (price, saved)
    assert rate.pool.instance_type == "2000m-4096Mi"
    assert known


def test_serverless_capacity_without_prices_has_no_cost() -> None:
    known = prices(type="MANAGED", provisioner={"type": "serverless", "serverless": {}})

    assert not known
    assert known.of_attempt(Amounts(1500, 3 * GIB), None) is None


def test_as_many_requests_as_tenants_may_write_fill_no_memory() -> None:
    found = prices({"pricePerHour": 3.6})
    pool = PoolKey("t0", ON_DEMAND)
    rates = {found.of_attempt(Amounts(1000, number), pool) for number in range(KNOWN_MAX + 10)}

    assert len(rates) == 1
    assert len(found._known) == 10
