"""MANAGED compute environments in the simulator: jobs on nodes that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType
from batch_operator.provisioning.nodes import Node
from batch_operator.provisioning.pools import PoolKey, Space
from support.builders import START
from support.play import play, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from support.play import Played

NODE = "elastic-small-on-demand-"
"""How the names of nodes begin; the first of them is the oldest."""
SMALL = {"name": "small", "vcpus": 4, "memory": "16Gi", "pricePerHour": 0.2}
LARGE = {"name": "large", "vcpus": 8, "memory": "32Gi", "pricePerHour": 0.4}


def a_node(name: str = "n", **fields: Any) -> Node:
    """A node of `elastic` that has been ready since the start."""
    known = {
        "name": name,
        "uid": f"uid-{name}",
        "resource_version": 1,
        "environment": "elastic",
        "claimed_by": "elastic",
        "pool": PoolKey("small", CapacityType.ON_DEMAND),
        "offers": Space(Amounts(4000, 16 << 30), 110),
        "ready": True,
        "created_at": START,
        "ready_at": START,
    }
    return Node(**{**known, **fields})


def elastic(name: str = "elastic", **spec: Any) -> dict[str, Any]:
    """An environment of fake nodes, ready 40 s after they were asked for."""
    return written(
        "ComputeEnvironment",
        name,
        {
            "type": "MANAGED",
            "maxvCpus": 64,
            "instanceTypes": [SMALL],
            "provisioner": {"type": "kwok"},
            **spec,
        },
    )


def play_elastic(
    jobs: Mapping[str, Mapping[str, Any]],
    *environments: dict[str, Any],
    events: Iterable[Mapping[str, Any]] = (),
    runtime: str = "10m",
    **more: Any,
) -> Played:
    """Simulate jobs whose queue names these environments in order, or one `elastic`."""
    found = environments or (elastic(),)
    order = [
        {"order": number, "computeEnvironment": one["metadata"]["name"]}
        for number, one in enumerate(found)
    ]
    return play(
        jobs,
        queue={"computeEnvironmentOrder": order},
        others=found,
        behaviors=[{"job": "*", "runtime": runtime}],
        events=events,
        **more,
    )


def patch_node(at: str, **body: Any) -> dict[str, Any]:
    """An event: somebody changes a node's metadata or spec."""
    return {"at": at, "patch": {"kind": "Node", "name": f"{NODE}*", **body}}


def node_of(played: Played, job: str, attempt: int = 1) -> str:
    """On which node an attempt of a job ran."""
    return str(played.rows(job)[attempt - 1]["nodeName"])


def labels(**values: str | None) -> dict[str, Any]:
    """Metadata with labels of the environment's own: compute_environment, capacity_type."""
    prefix = "batch-operator.io/"
    return {"labels": {prefix + key.replace("_", "-"): one for key, one in values.items()}}


def delete(at: str, kind: str, name: str) -> dict[str, Any]:
    return {"at": at, "delete": {"kind": kind, "name": name}}


def environment(played: Played, name: str = "elastic") -> Mapping[str, Any]:
    """The status of an environment."""
    return played.outcome.statuses["ComputeEnvironment", "", name]


def is_gone(played: Played, name: str = "elastic") -> bool:
    return ("ComputeEnvironment", "", name) not in played.outcome.statuses


def condition(played: Played, kind: str, name: str = "elastic") -> tuple[str, str] | None:
    """Reason and message of a condition that is there and True."""
    for one in environment(played, name).get("conditions", ()):
        if one["type"] == kind and one["status"] == "True":
            return one["reason"], one["message"]
    return None
