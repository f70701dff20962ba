"""The six strategies by hand; docs/compute-environments.md has the same tables and the arithmetic.

| instance type, as listed | vCPUs | on-demand | of a vCPU | spot | of a vCPU |
| --- | ---: | ---: | ---: | ---: | ---: |
| large | 16 | 0.80 | 0.05 | 0.144 | 0.009 |
| medium | 8 | 0.36 | 0.045 | 0.12 | 0.015 |
| small | 4 | 0.20 | 0.05 | 0.08 | 0.02 |
| huge | 32 | none | | none | |

Risks of the spot pools: medium was interrupted once 6 h ago, 0.5; large was refused twice 12 h ago
and interrupted once 6 h ago, 2/4 + 1/2 = 1; the others are 0. So the price of a vCPU times
(1 + risk) is 0.0225 of medium, 0.02 of small, 0.018 of large.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from batch_operator.api.compute_environment import AllocationStrategy
from batch_operator.provisioning.history import History
from batch_operator.provisioning.pools import pools_of
from batch_operator.provisioning.strategies import can_overshoot, in_order
from support.environments import NOON, ON_DEMAND, SPOT, instance_type, managed, pool

PAGE = Path(__file__).resolve().parents[3] / "docs" / "compute-environments.md"
TYPES = (
    instance_type("large", 16, pricePerHour=0.80, spotPricePerHour=0.144),
    instance_type("medium", 8, pricePerHour=0.36, spotPricePerHour=0.12),
    instance_type("small", 4, pricePerHour=0.20, spotPricePerHour=0.08),
    instance_type("huge", 32),
)
HISTORIES = {
    pool("medium", SPOT): History(interruptions=1, interrupted_at=NOON - timedelta(hours=6)),
    pool("large", SPOT): History(
        refusals=2,
        refused_at=NOON - timedelta(hours=12),
        interruptions=1,
        interrupted_at=NOON - timedelta(hours=6),
    ),
}
BOTH = ["spot", "on-demand"]
ORDERS = {
    ("BEST_FIT", "on-demand"): "small, medium, large, huge",
    ("BEST_FIT_PROGRESSIVE", "on-demand"): "medium, small, large, huge",
    ("BEST_FIT_PROGRESSIVE_ORDERED", "on-demand"): "large, medium, small, huge",
    ("BEST_FIT", "spot"): "small, medium, large, huge",
    ("BEST_FIT_PROGRESSIVE", "spot"): "large, medium, small, huge",
    ("SPOT_CAPACITY_OPTIMIZED", "spot"): "small, huge, medium, large",
    ("SPOT_PRICE_CAPACITY_OPTIMIZED", "spot"): "large, small, medium, huge",
    ("SPOT_CAPACITY_OPTIMIZED_PRIORITIZED", "spot"): "medium, small, huge, large",
    ("BEST_FIT", "spot and on-demand"): (
        "small spot, medium spot, large spot, small, medium, large, huge spot, huge"
    ),
    ("BEST_FIT_PROGRESSIVE", "spot and on-demand"): (
        "large spot, medium spot, small spot, medium, small, large, huge spot, huge"
    ),
    ("SPOT_CAPACITY_OPTIMIZED", "spot and on-demand"): (
        "small spot, huge spot, medium spot, large spot, medium, small, large, huge"
    ),
    ("SPOT_PRICE_CAPACITY_OPTIMIZED", "spot and on-demand"): (
        "large spot, small spot, medium spot, huge spot, medium, small, large, huge"
    ),
    ("SPOT_CAPACITY_OPTIMIZED_PRIORITIZED", "spot and on-demand"): (
        "medium spot, small spot, huge spot, large spot, large, medium, small, huge"
    ),
}


def order(strategy: str, capacity: str, wanted_vcpus: int | None = None) -> str:
    """The pools in order, by instance type; where there are both, spot ones are called so."""
    spec = managed(*TYPES, capacityTypes=capacity.split(" and "))
    pools = pools_of(spec)
    found = in_order(AllocationStrategy(strategy), pools, HISTORIES, NOON, wanted_vcpus)
    assert found == in_order(
        AllocationStrategy(strategy), pools[::-1], HISTORIES, NOON, wanted_vcpus
    )
    is_mixed = " and " in capacity
    return ", ".join(
        one.key.instance_type + (" spot" if is_mixed and one.key.capacity_type is SPOT else "")
        for one in found
    )


@pytest.mark.parametrize(("strategy", "capacity"), ORDERS)
def test_pools_are_asked_in_the_order_of_the_table(strategy: str, capacity: str) -> None:
    assert order(strategy, capacity) == ORDERS[strategy, capacity]


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| ([a-z -]+) \| ([a-z, ]+) \|$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert {(strategy, capacity): found for strategy, capacity, found in rows} == ORDERS


@pytest.mark.parametrize(
    ("wanted_vcpus", "expected"),
    [
        # price of the vCPUs used: medium .36/w, small .20/min(w, 4), large .80/w
        (1, "small, medium, large, huge"),  # .20, .36, .80
        (4, "small, medium, large, huge"),  # .05, .09, .20
        (8, "medium, small, large, huge"),  # .045, .05, .10
        (16, "medium, small, large, huge"),  # .045, .05, .05: the smaller first
    ],
)
def test_a_node_is_no_larger_than_pays_for_what_is_waited_for(
    wanted_vcpus: int, expected: str
) -> None:
    assert order("BEST_FIT_PROGRESSIVE", "on-demand", wanted_vcpus) == expected


def test_spot_prices_count_by_what_is_used_too() -> None:
    """4 vCPUs: large .144/4 x 2 = .072, small .08/4 = .02, medium .12/4 x 1.5 = .045."""
    found = order("SPOT_PRICE_CAPACITY_OPTIMIZED", "spot", wanted_vcpus=4)

    assert found == "small, medium, large, huge"


def test_prices_that_differ_by_rounding_alone_are_a_tie() -> None:
    """0.3 / 6 is 0.049999999999999996 to a computer: that is no reason to prefer the larger."""
    spec = managed(
        instance_type("six", 6, pricePerHour=0.3), instance_type("two", 2, pricePerHour=0.1)
    )
    found = in_order(AllocationStrategy.BEST_FIT_PROGRESSIVE, pools_of(spec), {}, NOON)

    assert [one.key.instance_type for one in found] == ["two", "six"]


@pytest.mark.parametrize(("hours", "first"), [(0, "b"), (5.9, "b"), (6, "a"), (24, "a")])
def test_one_event_keeps_the_list_from_deciding_for_six_hours(hours: float, first: str) -> None:
    """A risk of more than a half is one event to the prioritized strategy, a half is none."""
    spec = managed(instance_type("a", 4), instance_type("b", 4), capacityTypes=["spot"])
    lost = {pool("a", SPOT): History(interruptions=1, interrupted_at=NOON - timedelta(hours=hours))}
    strategy = AllocationStrategy.SPOT_CAPACITY_OPTIMIZED_PRIORITIZED

    assert in_order(strategy, pools_of(spec), lost, NOON)[0].key.instance_type == first


def test_a_half_counts_for_nothing_beside_a_whole_event_either() -> None:
    spec = managed(instance_type("a", 4), instance_type("b", 4), capacityTypes=["spot"])
    lost = {
        pool("a", SPOT): History(interruptions=1.5, interrupted_at=NOON),
        pool("b", SPOT): History(interruptions=1, interrupted_at=NOON),
    }
    strategy = AllocationStrategy.SPOT_CAPACITY_OPTIMIZED_PRIORITIZED

    assert in_order(strategy, pools_of(spec), lost, NOON)[0].key.instance_type == "a"


def test_without_any_price_capacity_decides_then_size() -> None:
    spec = managed(
        instance_type("medium", 8),
        instance_type("small", 4),
        instance_type("tiny", 2),
        capacityTypes=["spot"],
    )
    lost = {pool("tiny", SPOT): History(interruptions=1, interrupted_at=NOON)}
    strategy = AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED
    found = in_order(strategy, pools_of(spec), lost, NOON)

    assert [one.key.instance_type for one in found] == ["small", "medium", "tiny"]


@pytest.mark.parametrize(
    ("bid_percentage", "expected"),
    [
        (None, {"medium", "small", "large", "huge"}),
        (40, {"medium", "small", "large", "huge"}),  # small: .08 is 40 % of .20
        (39, {"medium", "large", "huge"}),
        (18, {"large", "huge"}),  # large: .144 is 18 % of .80
        (17, {"huge"}),  # its spot price is not known: it is not ruled out
    ],
)
def test_a_spot_price_above_the_bid_rules_a_pool_out(
    bid_percentage: int | None, expected: set[str]
) -> None:
    spec = managed(*TYPES, capacityTypes=BOTH, bidPercentage=bid_percentage)
    found = pools_of(spec)

    assert {one.key.instance_type for one in found if one.key.capacity_type is SPOT} == expected
    assert sum(one.key.capacity_type is ON_DEMAND for one in found) == 4


def test_a_spot_price_that_is_not_given_is_the_on_demand_one() -> None:
    spec = managed(instance_type("small", 4, pricePerHour=0.2), capacityTypes=["spot"])

    assert [one.price for one in pools_of(spec)] == [0.2]


def test_only_best_fit_never_exceeds_the_limit() -> None:
    assert [one for one in AllocationStrategy if not can_overshoot(one)] == [
        AllocationStrategy.BEST_FIT
    ]
