"""Fargate's sizes and prices, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType
from batch_operator.api.serverless import ServerlessProvisioner
from batch_operator.provisioning.serverless import price_per_hour, rounded

MIB, GIB = 1 << 20, 1 << 30
PLAIN = ServerlessProvisioner()
EKS = ServerlessProvisioner(memory_overhead="256Mi")


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ((1, 1), (250, 512 * MIB)),
        ((250, 513 * MIB), (250, GIB)),
        ((250, GIB + 1), (250, 2 * GIB)),
        ((250, 2 * GIB + 1), (500, 3 * GIB)),
        ((251, 100 * MIB), (500, GIB)),
        ((1000, GIB), (1000, 2 * GIB)),
        ((1000, 7 * GIB + 1), (1000, 8 * GIB)),
        ((1000, 8 * GIB + 1), (2000, 9 * GIB)),
        ((1500, GIB), (2000, 4 * GIB)),
        ((3000, 30 * GIB), (4000, 30 * GIB)),
        ((4000, 31 * GIB), (8000, 32 * GIB)),
        ((8000, 17 * GIB), (8000, 20 * GIB)),
        ((8000, 61 * GIB), (16_000, 64 * GIB)),
        ((16_000, 33 * GIB), (16_000, 40 * GIB)),
        ((17_000, 1), (32_000, 60 * GIB)),
        ((1, 121 * GIB), (32_000, 244 * GIB)),
    ],
)
def test_a_request_is_rounded_up_to_the_next_pair(
    asked: tuple[int, int], size: tuple[int, int]
) -> None:
    assert rounded(Amounts(*asked), PLAIN) == Amounts(*size)


@pytest.mark.parametrize(
    "asked", [Amounts(32_001, GIB), Amounts(1000, 244 * GIB + 1), Amounts(1000, GIB, 1)]
)
def test_what_is_larger_than_the_largest_pair_or_wants_a_gpu_has_no_size(asked: Amounts) -> None:
    assert rounded(asked, PLAIN) is None


def test_eks_adds_its_components_to_the_memory() -> None:
    """AWS: a Pod with 1 vCPU and 8 GB gets 2 vCPUs and 9 GB."""
    assert rounded(Amounts(1000, 8 * GIB), EKS) == Amounts(2000, 9 * GIB)


@pytest.mark.parametrize(
    ("capacity_type", "prices", "expected"),
    [
        (CapacityType.ON_DEMAND, {}, 0.04 * 2 + 0.005 * 5),
        (CapacityType.SPOT, {}, 0.04 * 2 + 0.005 * 5),
        (CapacityType.SPOT, {"spotPricePerVcpuHour": 0.01}, 0.01 * 2 + 0.005 * 5),
        (
            CapacityType.SPOT,
            {"spotPricePerVcpuHour": 0.01, "spotPricePerGibHour": 0.001},
            0.01 * 2 + 0.001 * 5,
        ),
    ],
)
def test_a_size_costs_its_vcpus_and_its_memory(
    capacity_type: CapacityType, prices: dict[str, Any], expected: float
) -> None:
    section = ServerlessProvisioner.model_validate(
        {"pricePerVcpuHour": 0.04, "pricePerGibHour": 0.005, **prices}
    )

    price = price_per_hour(Amounts(2000, 5 * GIB), capacity_type, section)

    assert price == pytest.approx(expected)


def test_without_both_prices_there_is_none() -> None:
    section = ServerlessProvisioner(price_per_vcpu_hour=0.04)

    assert price_per_hour(Amounts(2000, 5 * GIB), CapacityType.ON_DEMAND, section) is None
