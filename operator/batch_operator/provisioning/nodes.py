"""What one Node tells: whose it is, what it offers, and whether it is about to go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.amounts import Amounts, gpus_of
from batch_operator.api.compute_environment import (
    LABEL_INSTANCE_TYPE,
    NODE_GPUS_MAX,
    NODE_MEMORY_MAX,
    NODE_PODS_MAX,
    NODE_VCPUS_MAX,
    CapacityType,
)
from batch_operator.api.quantity import memory_bytes, milli_cpu, units
from batch_operator.provisioning.history import PATIENCE
from batch_operator.provisioning.interruptions import SCALE_DOWN, notice_of
from batch_operator.provisioning.pools import PoolKey, Space

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from batch_operator.api.objects import Node as NodeObject
    from batch_operator.provisioning.history import History

_LARGEST = Space(Amounts(NODE_VCPUS_MAX * 1000, NODE_MEMORY_MAX, NODE_GPUS_MAX), NODE_PODS_MAX)
"""Of what a Node says it has no more counts: a virtual one may say anything."""
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
"""A time after this is none: what is added to it may be beyond any calendar."""


@dataclass(frozen=True, slots=True)
class Node:
    """One Node, as far as compute environments are concerned. `pool` is None without labels."""

    name: str
    uid: str
    resource_version: int
    environment: str
    claimed_by: str | None
    """Whose taint it has: another's than its label says is a conflict."""
    pool: PoolKey | None
    offers: Space
    """Its allocatable resources."""
    ready: bool
    created_at: datetime
    ready_at: datetime | None = None
    unready_since: datetime | None = None
    cordoned: bool = False
    draining_since: datetime | None = None
    """We have cordoned it, to remove it once it is idle, and nobody has uncordoned it since."""
    notice: str | None = None
    """It was announced that it will be taken away: by whom or what."""
    settings: str | None = None
    """Which infrastructure settings of its environment it was made with."""
    says_capacity_type: bool = True
    """Its labels say whether it is spot or on-demand; on-demand is taken for granted if not."""
    deleting: bool = False
    """It is being taken away, or those who do so have been told to."""

    @property
    def owner(self) -> str | None:
        """The environment that counts it: none when label and taint do not name the same."""
        is_disputed = self.claimed_by not in {None, self.environment}
        return None if is_disputed or not self.environment else self.environment

    @property
    def claimants(self) -> frozenset[str]:
        """The environments that label and taint name."""
        return frozenset({self.environment, self.claimed_by or ""} - {""})

    @property
    def stays(self) -> bool:
        """Nobody has begun to take it away."""
        return not (self.notice or self.deleting or self.draining_since)

    def broken_at(self, patience: timedelta) -> datetime | None:
        """When it will not have been ready for longer than a node is waited for.

        One that has been ready need not start: for that no slow machine is waited for.
        """
        if self.unready_since is None:
            return None
        wait = min(patience, PATIENCE) if self.is_down(patience) else patience
        return self.unready_since + wait

    def is_broken(self, now: datetime, patience: timedelta) -> bool:
        at = self.broken_at(patience)
        return at is not None and now >= at

    def is_down(self, patience: timedelta) -> bool:
        """Whether it has been ready, and is not: no Pod can go there until it is again.

        One that had not become ready in time, counted from its creation, was broken already.
        """
        return self.unready_since is not None and self.unready_since > self.created_at + patience

    @property
    def is_going(self) -> bool:
        """It will not last: what runs there is to be ended while there is time."""
        return self.notice is not None or self.deleting

    @property
    def takes_pods(self) -> bool:
        return self.ready and not (self.cordoned or self.notice or self.deleting)


def observed_node(node: NodeObject) -> Node:
    """The facts of a Node, within bounds: its kubelet has a clock of its own, and may be wrong."""
    labels, annotations = node.metadata.labels, node.metadata.annotations
    taints = {one.key: one.value for one in node.spec.taints}
    ready = next((one for one in node.status.conditions if one.type == "Ready"), None)
    is_ready = ready is not None and ready.status == "True"
    created_at = node.metadata.creation_timestamp
    assert created_at is not None  # the API server sets it
    changed_at = _plausible(ready.last_transition_time if ready is not None else None, created_at)
    amounts, cordoned = node.status.allocatable, node.spec.unschedulable
    draining_since = _plausible(_time(annotations.get(meta.ANNOTATION_DRAINING)), created_at)
    return Node(
        name=node.metadata.name,
        uid=node.metadata.uid,
        resource_version=int(node.metadata.resource_version),
        environment=labels.get(meta.LABEL_COMPUTE_ENVIRONMENT, ""),
        claimed_by=taints.get(meta.TAINT_COMPUTE_ENVIRONMENT),
        pool=_pool(labels),
        offers=Space(
            Amounts(
                milli_cpu(amounts.get("cpu", "0")),
                memory_bytes(amounts.get("memory", "0")),
                gpus_of(amounts),
            ),
            units(amounts.get("pods", "0")),
        ).at_most(_LARGEST),
        ready=is_ready,
        created_at=created_at,
        ready_at=changed_at if is_ready else None,
        unready_since=None if is_ready else changed_at or created_at,
        cordoned=cordoned,
        draining_since=draining_since if cordoned else None,
        notice=notice_of(node),
        settings=labels.get(meta.LABEL_SETTINGS),
        says_capacity_type=meta.LABEL_CAPACITY_TYPE in labels,
        deleting=node.metadata.deletion_timestamp is not None
        or meta.ANNOTATION_RELEASED in annotations,
    )


def _pool(labels: Mapping[str, str]) -> PoolKey | None:
    instance_type = labels.get(LABEL_INSTANCE_TYPE)
    capacity_type = labels.get(meta.LABEL_CAPACITY_TYPE, CapacityType.ON_DEMAND)
    if instance_type is None or capacity_type not in set(CapacityType):
        return None
    return PoolKey(instance_type, CapacityType(capacity_type))


def _plausible(at: datetime | None, created_at: datetime) -> datetime | None:
    """A time in the life of a Node, which begins when it is created."""
    return None if at is None or at > _LATEST else max(at, created_at)


def _time(text: str | None) -> datetime | None:
    """A time that we wrote; whoever may change Nodes can write anything there."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def is_interruption(node: Node, before: Node | None, history: History, *, is_busy: bool) -> bool:
    """Whether it is news that a node is being taken away from its environment.

    What has a notice is counted when its cordon is seen, which stays on the node: who has no state
    of it from `before`, after a restart, can tell by the time of it whether that is in the history.
    An idle node that an autoscaler or Karpenter has no use for is not taken away from anybody, and
    what is given up by our own choice tells nothing of its pool.
    """
    if node.notice is None:
        was_there = before is not None and not before.deleting
        return node.deleting and was_there and is_busy and not node.draining_since
    if node.draining_since is None or node.notice == meta.ANNOTATION_GIVEN_UP:
        return False
    if node.notice == SCALE_DOWN and not is_busy:
        return False
    if before is not None:
        return before.notice is None or before.draining_since is None
    last = history.interrupted_at
    return last is None or node.draining_since.replace(microsecond=0) > last.replace(microsecond=0)
