"""MANAGED compute environments and their nodes, with everything that a test does not care about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType, ComputeEnvironmentSpec
from batch_operator.provisioning.nodes import Node
from batch_operator.provisioning.packing import Demand
from batch_operator.provisioning.pools import PoolKey, Space

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
GIB = 1 << 30


def at(seconds: float) -> datetime:
    """So long after noon."""
    return NOON + timedelta(seconds=seconds)


def instance_type(name: str, vcpus: int, memory: str = "64Gi", **fields: Any) -> dict[str, Any]:
    return {"name": name, "vcpus": vcpus, "memory": memory, **fields}


def managed(*types: dict[str, Any], **fields: Any) -> ComputeEnvironmentSpec:
    """An environment with these instance types, 100 vCPUs at most."""
    wire = {
        "type": "MANAGED",
        "maxvCpus": 100,
        "provisioner": {"type": "kwok"},
        "instanceTypes": list(types) or [instance_type("small", 4)],
        **fields,
    }
    return ComputeEnvironmentSpec.model_validate(wire)


def pool(name: str = "small", capacity_type: CapacityType = ON_DEMAND) -> PoolKey:
    return PoolKey(name, capacity_type)


def space(vcpus: float, memory_gib: int = 64, gpus: int = 0, pods: int = 110) -> Space:
    return Space(Amounts(round(vcpus * 1000), memory_gib * GIB, gpus), pods)


def node(
    name: str = "n1", of: PoolKey | None = None, offers: Space | None = None, **fields: Any
) -> Node:
    """A node that has been ready since noon, of pool `small` and its size unless said otherwise."""
    return Node(
        **{
            "name": name,
            "uid": f"uid-{name}",
            "resource_version": 1,
            "environment": "elastic",
            "claimed_by": "elastic",
            "pool": of or pool(),
            "offers": offers or space(4),
            "ready": True,
            "created_at": NOON,
            "ready_at": NOON,
            **fields,
        }
    )


def ask(count: int, vcpus: float = 1, memory_gib: int = 1, gpus: int = 0, **fields: Any) -> Demand:
    """So many Pods, each of which asks for this."""
    return Demand(Amounts(round(vcpus * 1000), memory_gib * GIB, gpus), count, **fields)
