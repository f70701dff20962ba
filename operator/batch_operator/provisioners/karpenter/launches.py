"""What Karpenter tells of the nodes that it tries to launch.

A NodeClaim is one node, wanted or there. Karpenter (v1) says on it how far it is (conditions
Launched, Registered, Initialized). Where the cloud has no capacity it says so in an Event and
deletes the NodeClaim at once; where a launch fails otherwise the reason stands in the condition
Launched, which is then Unknown, for up to five minutes.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime  # noqa: TC003  # msgspec reads the annotations
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE
from batch_operator.provisioning.pools import PoolKey
from batch_operator.scheduling.snapshot import PoolRefusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batch_operator.provisioners.karpenter.node_pools import Group

LABEL_NODE_POOL = "karpenter.sh/nodepool"
NO_CAPACITY = "InsufficientCapacityError"
"""The reason of the Event."""
_NOT_TRIED = "AwaitingReconciliation"
"""The reason of the condition before the first attempt."""


class Launch(NamedTuple):
    """One that failed: for which pools, when, and why."""

    pools: tuple[PoolKey, ...]
    at: datetime
    message: str


class _Condition(msgspec.Struct, rename="camel"):
    type: str
    status: str
    last_transition_time: datetime
    reason: str = ""
    message: str = ""


class _Requirement(msgspec.Struct):
    key: str
    values: list[str] = []


class _ClaimMetadata(msgspec.Struct, rename="camel"):
    labels: dict[str, str] = {}
    deletion_timestamp: datetime | None = None


class _ClaimSpec(msgspec.Struct):
    requirements: list[_Requirement] = []


class _ClaimStatus(msgspec.Struct):
    conditions: list[_Condition] = []


class _NodeClaim(msgspec.Struct):
    metadata: _ClaimMetadata
    spec: _ClaimSpec
    status: _ClaimStatus = msgspec.field(default_factory=_ClaimStatus)


class _Involved(msgspec.Struct):
    name: str = ""


class _EventMetadata(msgspec.Struct, rename="camel"):
    creation_timestamp: datetime


class _Event(msgspec.Struct, rename="camel"):
    metadata: _EventMetadata
    involved_object: _Involved
    message: str = ""
    last_timestamp: datetime | None = None


_CLAIM = msgspec.json.Decoder(_NodeClaim)
_EVENT = msgspec.json.Decoder(_Event)


def node_pools_of(claims: Iterable[msgspec.Raw]) -> set[str]:
    """Names of NodePools that have nodes, or nodes on their way."""
    return {one.metadata.labels.get(LABEL_NODE_POOL, "") for one in map(_CLAIM.decode, claims)}


def coming(claims: Iterable[msgspec.Raw], groups: Sequence[Group]) -> Counter[PoolKey]:
    """Nodes that are launched and have not registered yet, by pool."""
    by_name = {one.name: one for one in groups}
    found: Counter[PoolKey] = Counter()
    for claim in map(_CLAIM.decode, claims):
        group = by_name.get(claim.metadata.labels.get(LABEL_NODE_POOL, ""))
        # Karpenter sets the type once it knows it.
        instance_type = claim.metadata.labels.get(LABEL_INSTANCE_TYPE)
        if group is None or instance_type is None or claim.metadata.deletion_timestamp:
            continue
        if not _holds(claim, "Registered"):
            found[PoolKey(instance_type, group.capacity_type)] += 1
    return found


def failed_launches(claims: Iterable[msgspec.Raw], groups: Sequence[Group]) -> list[Launch]:
    """Launches that NodeClaims tell have failed, of the types that were asked for."""
    by_name = {one.name: one for one in groups}
    found: list[Launch] = []
    for claim in map(_CLAIM.decode, claims):
        group = by_name.get(claim.metadata.labels.get(LABEL_NODE_POOL, ""))
        launched = next((one for one in claim.status.conditions if one.type == "Launched"), None)
        if group is None or launched is None or launched.status == "True":
            continue
        if launched.reason == _NOT_TRIED:
            continue
        asked = {
            value
            for one in claim.spec.requirements
            if one.key == LABEL_INSTANCE_TYPE
            for value in one.values
        }
        pools = tuple(key for key in group.pools if key.instance_type in asked) or group.pools
        message = f"{launched.reason}: {launched.message}"
        found.append(Launch(pools, launched.last_transition_time, message))
    return found


def lacks_of_capacity(events: Iterable[msgspec.Raw], groups: Sequence[Group]) -> list[Launch]:
    """Launches for which the cloud had no capacity: of the types that the message names, or all."""
    by_name = {one.name: one for one in groups}
    found: list[Launch] = []
    for event in map(_EVENT.decode, events):
        # A NodeClaim is called after its NodePool: NAME-x2b4c.
        group = by_name.get(event.involved_object.name.rpartition("-")[0])
        if group is None:
            continue
        named = tuple(key for key in group.pools if _names(event.message, key.instance_type))
        at = event.last_timestamp or event.metadata.creation_timestamp
        message = event.message.partition(" event: ")[2] or event.message
        found.append(Launch(named or group.pools, at, message))
    return found


def latest(launches: Iterable[Launch]) -> dict[PoolKey, PoolRefusal]:
    """The latest failure of each pool."""
    found: dict[PoolKey, PoolRefusal] = {}
    for one in sorted(launches, key=lambda one: (one.at, one.message)):
        found.update(dict.fromkeys(one.pools, PoolRefusal(one.at, one.message)))
    return found


def problem_of(node_pool: Mapping[str, Any]) -> str | None:
    """What keeps a NodePool from giving nodes, by Karpenter's own word."""
    name = node_pool["metadata"]["name"]
    conditions = node_pool.get("status", {}).get("conditions") or ()
    for one in conditions:
        if one["status"] == "False" and one["type"] == "NodeRegistrationHealthy":
            return f"nodes of NodePool {name} do not come up: {_why(one)}"
    for one in conditions:
        if one["status"] == "False" and one["type"] in {"ValidationSucceeded", "NodeClassReady"}:
            return f"Karpenter does not use NodePool {name}: {_why(one)}"
    return None


def _why(condition: Mapping[str, Any]) -> str:
    return f"{condition.get('message') or condition.get('reason')}"


def _holds(claim: _NodeClaim, condition: str) -> bool:
    return any(one.type == condition and one.status == "True" for one in claim.status.conditions)


def _names(message: str, instance_type: str) -> bool:
    """Whether a message names the type, and not a longer one that it is a part of."""
    word = rf"(?<![\w.-]){re.escape(instance_type)}(?![\w-]|\.\w)"
    return re.search(word, message) is not None
