"""What can be read of compute environments, and drawn, and alerted on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batch_operator.api.compute_environment import ComputeEnvironmentStatus
from batch_operator.controllers.operator import Teller
from batch_operator.observability.metrics import Metrics
from batch_operator.scheduling.mutations import WriteStatus
from support.builders import environment

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Environment

NOON = "2026-01-01T12:00:00Z"
SMALL = {"name": "small", "vcpus": 4, "memory": "16Gi"}
OF_POOL = {"environment": "cloud", "instance_type": "small", "capacity_type": "spot"}


def cloud(pool: dict[str, Any] | None = None, name: str = "cloud", **status: Any) -> Environment:
    """An environment of 64 vCPUs with this pool of `small` on spot."""
    one = environment(
        name,
        type="MANAGED",
        maxvCpus=64,
        provisioner={"type": "kwok"},
        instanceTypes=[SMALL],
    )
    pools = [] if pool is None else [{"instanceType": "small", "capacityType": "spot", **pool}]
    wire = {"status": "VALID", "pools": pools, **status}
    return replace(one, status=ComputeEnvironmentStatus.model_validate(wire))


def written(metrics: Metrics, before: Environment, after: Environment) -> None:
    write = WriteStatus("ComputeEnvironment", "", after.name, after.uid, 1, after.status)
    Teller(metrics, lambda: {"main"}).status_written(write, before, after)


def sample(metrics: Metrics, name: str, labels: dict[str, str]) -> float | None:
    return metrics.registry.get_sample_value(f"batch_operator_{name}", labels)


def test_nodes_and_vcpus_of_an_environment_are_gauges() -> None:
    metrics = Metrics()
    status = {
        "vcpus": {"used": "1.5", "max": 64, "desired": 12},
        "nodes": {"desired": 3, "ready": 2, "draining": 1},
    }
    metrics.environments.show([cloud(**status)])

    assert {
        name: sample(metrics, f"environment_{name}", {"environment": "cloud"})
        for name in (
            "max_vcpus", "desired_vcpus", "used_vcpus",
            "desired_nodes", "ready_nodes", "draining_nodes",
        )
    } == {
        "max_vcpus": 64, "desired_vcpus": 12, "used_vcpus": 1.5,
        "desired_nodes": 3, "ready_nodes": 2, "draining_nodes": 1,
    }  # fmt: skip


def test_the_status_of_an_environment_is_one_of_four() -> None:
    metrics = Metrics()
    metrics.environments.show([cloud(status="INVALID")])

    assert {
        word: sample(metrics, "environment_status", {"environment": "cloud", "status": word})
        for word in ("VALID", "INVALID", "UPDATING", "DELETING")
    } == {"VALID": 0, "INVALID": 1, "UPDATING": 0, "DELETING": 0}


def test_an_unmanaged_environment_has_no_nodes_to_show() -> None:
    metrics = Metrics()
    metrics.environments.show([environment("onprem")])

    assert sample(metrics, "environment_max_vcpus", {"environment": "onprem"}) == 4
    assert sample(metrics, "environment_desired_nodes", {"environment": "onprem"}) is None


def test_a_pool_shows_its_nodes_and_how_long_they_take() -> None:
    metrics = Metrics()
    metrics.environments.show([cloud({"desired": 3, "ready": 2, "readySeconds": 70})])

    assert sample(metrics, "pool_desired_nodes", OF_POOL) == 3
    assert sample(metrics, "pool_ready_nodes", OF_POOL) == 2
    assert sample(metrics, "pool_node_startup_seconds", OF_POOL) == 70
    assert sample(metrics, "pool_refusals_total", OF_POOL) == 0


def test_refusals_and_interruptions_of_a_pool_are_counted_as_they_come() -> None:
    metrics = Metrics()
    states = [
        cloud(),
        cloud({"refusals": 1, "refusedAt": NOON}),
        cloud({"refusals": 1, "refusedAt": NOON, "interruptions": 3, "interruptedAt": NOON}),
        cloud({"refusals": 2, "refusedAt": NOON, "interruptions": 3, "interruptedAt": NOON}),
    ]
    for before, after in itertools.pairwise(states):
        written(metrics, before, after)

    assert sample(metrics, "pool_refusals_total", OF_POOL) == 2
    assert sample(metrics, "pool_interruptions_total", OF_POOL) == 3


def test_what_is_gone_has_no_series() -> None:
    metrics, there = Metrics(), cloud({"desired": 1, "refusals": 1, "refusedAt": NOON})
    written(metrics, cloud(), there)
    metrics.environments.show([there])
    others = there.spec.model_copy(update={"instance_types": []})
    metrics.environments.show([replace(cloud(), spec=others)])

    assert sample(metrics, "pool_refusals_total", OF_POOL) is None
    assert sample(metrics, "pool_desired_nodes", OF_POOL) is None

    metrics.environments.show([])

    assert "cloud" not in metrics.exposition().decode()


def test_a_counter_outlives_a_row_of_the_status_that_has_nothing_more_to_say() -> None:
    metrics, there = Metrics(), cloud({"refusals": 1, "refusedAt": NOON})
    written(metrics, cloud(), there)
    written(metrics, there, cloud())
    metrics.environments.show([cloud()])

    assert sample(metrics, "pool_refusals_total", OF_POOL) == 1
