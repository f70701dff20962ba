"""The NodePools that an environment should have (karpenter.sh/v1).

One for each capacity type, for it is the NodePool that labels its nodes. Which type of node suits
the Pods that wait best, and costs least, Karpenter decides; where the order of `instanceTypes`
decides, each has a NodePool of its own, since Karpenter knows an order only between NodePools.

Karpenter takes no node from a running job: idle nodes go and no others, Pods of jobs say that they
are not to be disrupted, and nodes do not expire. A node made with older settings goes when it is
empty: until when its jobs may run is the core's to decide (`provisioning.turnover`), which knows
such nodes by a label.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE, AllocationStrategy
from batch_operator.api.names import bounded
from batch_operator.provisioning.pools import capacity_types, pools_of, strategy_of
from batch_operator.provisioning.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batch_operator.api.compute_environment import CapacityType, ComputeEnvironmentSpec
    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.snapshot import Environment

API_VERSION = "karpenter.sh/v1"
LABEL_CAPACITY_TYPE = "karpenter.sh/capacity-type"
WEIGHT_MAX = 100
"""Karpenter's; of two NodePools that could serve a Pod the heavier one does."""
NAME_MAX = 57
"""A NodePool's name is the value of a label, and its NodeClaims add six characters."""


class Group(NamedTuple):
    """Pools of an environment that share a NodePool."""

    name: str
    capacity_type: CapacityType
    pools: tuple[PoolKey, ...]


def groups_of(environment: Environment) -> list[Group]:
    """Which pools share a NodePool, and its name."""
    spec = environment.spec
    keys = [one.key for one in pools_of(spec)]
    if strategy_of(spec) is AllocationStrategy.BEST_FIT_PROGRESSIVE_ORDERED:
        return [Group(_name(environment.name, *one), one.capacity_type, (one,)) for one in keys]
    shared = {
        one: tuple(key for key in keys if key.capacity_type is one) for one in capacity_types(spec)
    }
    return [
        Group(_name(environment.name, kind), kind, pools) for kind, pools in shared.items() if pools
    ]


def _name(*parts: str) -> str:
    """Readable, and different for different parts even where these read the same when joined."""
    digest = sha256("/".join(parts).encode()).hexdigest()[:6]
    return bounded(parts, digest, NAME_MAX)


def node_pools(environment: Environment, preference: Sequence[PoolKey]) -> list[dict[str, Any]]:
    """The NodePools; those whose pools are preferred weigh more.

    A field with the value None is one that must not be there.
    """
    place = {key: number for number, key in enumerate(preference)}
    groups = sorted(groups_of(environment), key=lambda one: min(place[key] for key in one.pools))
    return [
        _node_pool(environment, group, weight=max(1, WEIGHT_MAX - number))
        for number, group in enumerate(groups)
    ]


def _node_pool(environment: Environment, group: Group, weight: int) -> dict[str, Any]:
    spec = environment.spec
    ours = {
        meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
        meta.LABEL_COMPUTE_ENVIRONMENT: environment.name,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "NodePool",
        "metadata": {
            "name": group.name,
            "labels": ours,
            "ownerReferences": [_owner(environment)],
        },
        "spec": {
            "weight": weight,
            "limits": {"cpu": str(spec.max_vcpus)},
            "disruption": _disruption(spec),
            "template": {
                "metadata": {
                    "labels": {
                        meta.LABEL_COMPUTE_ENVIRONMENT: environment.name,
                        meta.LABEL_CAPACITY_TYPE: group.capacity_type.value,
                        meta.LABEL_SETTINGS: settings_of(spec),
                    }
                },
                "spec": _template_spec(environment, group),
            },
        },
    }


def _owner(environment: Environment) -> dict[str, Any]:
    """The NodePools go when the environment does."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "ComputeEnvironment",
        "name": environment.name,
        "uid": environment.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _template_spec(environment: Environment, group: Group) -> dict[str, Any]:
    spec = environment.spec
    assert spec.provisioner is not None  # or this provisioner would not have been asked
    assert spec.provisioner.karpenter is not None  # a rule of the CRD
    reference = spec.provisioner.karpenter.node_class_ref
    return {
        "nodeClassRef": {
            "group": reference.group,
            "kind": reference.kind,
            "name": reference.name,
        },
        "requirements": [
            _one_of(LABEL_INSTANCE_TYPE, [one.instance_type for one in group.pools]),
            _one_of(LABEL_CAPACITY_TYPE, [group.capacity_type.value]),
        ],
        "taints": [
            {
                "key": meta.TAINT_COMPUTE_ENVIRONMENT,
                "value": environment.name,
                "effect": "NoSchedule",
            }
        ],
        "expireAfter": "Never",
        "terminationGracePeriod": None,  # at its end Karpenter would evict
    }


def _one_of(label: str, values: Iterable[str]) -> dict[str, Any]:
    return {"key": label, "operator": "In", "values": list(values)}


def _disruption(spec: ComputeEnvironmentSpec) -> dict[str, Any]:
    """When Karpenter may take nodes away by itself. Budgets are shares of a NodePool's nodes."""
    policy = spec.scaling_policy
    minutes = policy.min_scale_down_delay_minutes if policy is not None else 1
    return {
        "consolidationPolicy": "WhenEmpty",
        "consolidateAfter": f"{minutes}m",
        "budgets": [{"nodes": "0", "reasons": ["Underutilized", "Drifted"]}, {"nodes": "100%"}],
    }


def without_absent(value: Any) -> Any:
    """The object as it is created: fields that must not be there left out."""
    if isinstance(value, dict):
        return {key: without_absent(one) for key, one in value.items() if one is not None}
    return value


def agrees(wanted: Any, found: Any) -> bool:
    """Whether an object has all that is wanted; what others or defaults have added does not count.

    An element of a list is compared with the element in its place.
    """
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            agrees(one, found.get(key)) for key, one in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(agrees(one, two) for one, two in zip(wanted, found, strict=True))
        )
    return bool(wanted == found)


def is_owned(node_pool: Mapping[str, Any], environment: Environment) -> bool:
    """Whether it is this environment's, and not that of one which had its name before."""
    owners = node_pool["metadata"].get("ownerReferences") or ()
    return any(one.get("uid") == environment.uid for one in owners)
