"""Environments whose nodes Karpenter makes, and what it writes: NodeClaims and Events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from batch_operator.cluster.client import ListPage
from support.builders import environment

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Environment

SMALL_AND_LARGE: list[dict[str, Any]] = [
    {"name": "small", "vcpus": 4, "memory": "16Gi"},
    {"name": "large", "vcpus": 16, "memory": "64Gi"},
]
NODE_CLASS = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "batch"}


def karpenter_spec(**spec: Any) -> dict[str, Any]:
    """As in a manifest."""
    return {
        "type": "MANAGED",
        "maxvCpus": 64,
        "instanceTypes": SMALL_AND_LARGE,
        "provisioner": {"type": "karpenter", "karpenter": {"nodeClassRef": NODE_CLASS}},
        **spec,
    }


def karpenter_environment(name: str = "karp", **spec: Any) -> Environment:
    return environment(name, **karpenter_spec(**spec))


def page(*objects: dict[str, Any]) -> ListPage:
    """All there is of a kind."""
    return ListPage([msgspec.Raw(json.dumps(one).encode()) for one in objects], "1", "")


def node_claim(
    node_pool: str,
    *,
    asked: tuple[str, ...] = (),
    instance_type: str | None = None,
    **conditions: tuple[str, str, str, str],
) -> dict[str, Any]:
    """A NodeClaim; each condition is a status, a time, a reason and a message."""
    labels = {"karpenter.sh/nodepool": node_pool}
    if instance_type is not None:
        labels["node.kubernetes.io/instance-type"] = instance_type
    requirement = {
        "key": "node.kubernetes.io/instance-type", "operator": "In", "values": list(asked)
    }  # fmt: skip
    return {
        "metadata": {"name": f"{node_pool}-x2b4c", "labels": labels},
        "spec": {"requirements": [requirement] if asked else []},
        "status": {
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "lastTransitionTime": at,
                    "reason": reason,
                    "message": message,
                }
                for kind, (status, at, reason, message) in conditions.items()
            ]
        },
    }


def no_capacity(node_pool: str, message: str, at: str) -> dict[str, Any]:
    """The Event of a NodeClaim for which the cloud had no capacity."""
    claim = f"{node_pool}-x2b4c"
    return {
        "metadata": {"name": f"{claim}.17a", "namespace": "default", "creationTimestamp": at},
        "involvedObject": {"kind": "NodeClaim", "name": claim},
        "reason": "InsufficientCapacityError",
        "message": f"NodeClaim {claim} event: {message}",
        "lastTimestamp": at,
    }
