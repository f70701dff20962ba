"""Which environments can never work, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.api.compute_environment import CapacityType, ComputeEnvironmentSpec
from batch_operator.provisioning.history import History
from batch_operator.provisioning.pools import PoolKey
from batch_operator.provisioning.validity import (
    TRIED_AGAIN_AFTER,
    contradiction,
    is_without_nodes,
)
from support.builders import START
from support.managed import LARGE, SMALL, elastic

SPOT = {**SMALL, "pricePerHour": 1.0, "spotPricePerHour": 0.5}
CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "bidPercentage 40 is below the spot price of every": {
        "instanceTypes": [SPOT],
        "capacityTypes": ["spot"],
        "bidPercentage": 40,
    },
    "nodeOverhead takes all CPU or all memory of every": {"nodeOverhead": {"memory": "16Gi"}},
    "every instance type is larger than maxvCpus 3": {
        "allocationStrategy": "BEST_FIT",
        "maxvCpus": 3,
    },
}
POSSIBLE: tuple[dict[str, Any], ...] = (
    {},
    {"instanceTypes": [SPOT], "capacityTypes": ["spot", "on-demand"], "bidPercentage": 40},
    {"instanceTypes": [SMALL, LARGE], "nodeOverhead": {"memory": "16Gi"}},
    {"maxvCpus": 3},
    {"allocationStrategy": "BEST_FIT", "maxvCpus": 4},
)
POOL = PoolKey("small", CapacityType.ON_DEMAND)


def spec(**fields: Any) -> ComputeEnvironmentSpec:
    return ComputeEnvironmentSpec.model_validate(elastic(**fields)["spec"])


@pytest.mark.parametrize("sentence", CONTRADICTIONS)
def test_a_spec_that_allows_no_node_is_told_with_what_to_write(sentence: str) -> None:
    assert (contradiction(spec(**CONTRADICTIONS[sentence])) or "").startswith(sentence)


@pytest.mark.parametrize("fields", POSSIBLE, ids=str)
def test_one_pool_that_works_is_enough(fields: dict[str, Any]) -> None:
    assert contradiction(spec(**fields)) is None


def test_an_unmanaged_environment_needs_no_pools() -> None:
    wire = {"type": "UNMANAGED", "maxvCpus": 1}

    assert contradiction(ComputeEnvironmentSpec.model_validate(wire)) is None


def test_an_environment_of_which_no_node_ever_came_is_without_nodes_for_a_while() -> None:
    never = {POOL: History(overdue_at=START)}
    once = {POOL: History(overdue_at=START, came_at=START)}

    assert is_without_nodes(never, START)
    assert not is_without_nodes(never, START + TRIED_AGAIN_AFTER)
    assert not is_without_nodes(once, START)
    assert not is_without_nodes({}, START)
