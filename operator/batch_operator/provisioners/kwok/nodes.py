"""A fake node, as kwok and the simulator's kubelet play it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE
from batch_operator.provisioning.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.snapshot import Environment

ANNOTATION_KWOK = "kwok.x-k8s.io/node"
ANNOTATION_START_UP = f"fake.{meta.GROUP}/start-up"
"""How long the node takes until it is ready, such as 30s."""
TAINT_NOT_READY = "node.kubernetes.io/not-ready"
PODS = "250"


def fake_node(
    name: str, environment: Environment, pool: PoolKey, start_up_s: float
) -> dict[str, Any]:
    """A Node of a pool that is not ready yet."""
    spec = environment.spec
    size = next(one for one in spec.instance_types if one.name == pool.instance_type)
    amounts = {"cpu": str(size.vcpus), "memory": str(size.memory), "pods": PODS}
    if size.gpus:
        amounts["nvidia.com/gpu"] = str(size.gpus)
    labels = {"kubernetes.io/os": "linux", "type": "kwok", meta.LABEL_SETTINGS: settings_of(spec)}
    node = ready_node(name, environment.name, pool, amounts, labels)
    started = {ANNOTATION_KWOK: "fake", ANNOTATION_START_UP: f"{start_up_s:g}s"}
    node["metadata"]["annotations"] = started
    # As a kubelet does; the node controller takes it off when the node is ready.
    node["spec"]["taints"].append({"key": TAINT_NOT_READY, "effect": "NoSchedule"})
    # Without it the node controller would take the taint off at once.
    node["status"]["conditions"] = [
        {"type": "Ready", "status": "False", "reason": "KubeletNotReady"}
    ]
    return node


def ready_node(
    name: str,
    environment: str,
    pool: PoolKey,
    amounts: Mapping[str, str],
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """A Node of a pool: labelled and tainted for its environment's jobs alone."""
    key = meta.TAINT_COMPUTE_ENVIRONMENT
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                meta.LABEL_COMPUTE_ENVIRONMENT: environment,
                LABEL_INSTANCE_TYPE: pool.instance_type,
                meta.LABEL_CAPACITY_TYPE: pool.capacity_type.value,
                **labels,
            },
        },
        "spec": {"taints": [{"key": key, "value": environment, "effect": "NoSchedule"}]},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
