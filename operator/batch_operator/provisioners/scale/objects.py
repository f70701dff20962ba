"""What is read of the objects that make nodes, as far as it is needed, and how to ask for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from batch_operator.cluster.client import Resource

if TYPE_CHECKING:
    from batch_operator.api.scale import ScaleTarget

CLUSTER_API = "cluster.x-k8s.io"
ANNOTATION_MACHINE = f"{CLUSTER_API}/machine"
"""Cluster API's, on a Node: its Machine."""
ANNOTATION_DELETE_MACHINE = f"{CLUSTER_API}/delete-machine"
"""Cluster API's, on a Machine: when replicas is lowered it goes before all that are not marked.

Its value means nothing to Cluster API."""
OWNER_LABELS = {
    "machinedeployments": f"{CLUSTER_API}/deployment-name",
    "machinesets": f"{CLUSTER_API}/set-name",
    "machinepools": f"{CLUSTER_API}/pool-name",
}
"""Cluster API's, on a Machine: the name of what made it."""

_DIGITS_MAX = 10
_NAME, _NAME_LENGTH_MAX = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", 253


class _Count(msgspec.Struct):
    replicas: int = 0


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    resource_version: str = ""
    deletion_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Scale(msgspec.Struct):
    """autoscaling/v1 Scale: `spec` is how many there should be, `status` how many there are."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Count = msgspec.field(default_factory=_Count)
    status: _Count = msgspec.field(default_factory=_Count)


class _Condition(msgspec.Struct):
    type: str
    status: str
    message: str = ""


class _ScaledStatus(msgspec.Struct, rename="camel"):
    replicas: int | None = None
    ready_replicas: int | None = None
    conditions: list[_Condition] = []


class Scaled(msgspec.Struct):
    """The object itself. Kubernetes' own kinds and Cluster API's have these fields in common."""

    status: _ScaledStatus = msgspec.field(default_factory=_ScaledStatus)

    @property
    def ready(self) -> int | None:
        """How many machines have become nodes. Most kinds leave 0 out; some count none at all."""
        status = self.status
        return 0 if status.ready_replicas is None and status.replicas else status.ready_replicas

    @property
    def complaint(self) -> str:
        """What its conditions say of what is not as it should be."""
        return "; ".join(
            f"{one.type}: {' '.join(one.message.split())}"
            for one in self.status.conditions
            if one.status == "False" and one.message
        )


class NodeObject(msgspec.Struct):
    metadata: _Metadata


class _Reference(msgspec.Struct):
    name: str = ""


class _MachineStatus(msgspec.Struct, rename="camel"):
    node_ref: _Reference | None = None


class Machine(msgspec.Struct):
    """Cluster API's Machine."""

    metadata: _Metadata
    status: _MachineStatus = msgspec.field(default_factory=_MachineStatus)

    def is_of(self, target: ScaleTarget, node: str) -> bool:
        """Whether the target made it, and it made that node."""
        owner = self.metadata.labels.get(OWNER_LABELS.get(target.resource, ""))
        reference = self.status.node_ref
        return reference is not None and reference.name == node and owner == target.name

    def is_counted(self, replicas: int) -> bool:
        """Whether the present number of replicas is without it: its mark says what was written."""
        mark = self.metadata.annotations.get(ANNOTATION_DELETE_MACHINE, "")
        return mark.isdecimal() and len(mark) <= _DIGITS_MAX and replicas <= int(mark)


def is_name(text: str) -> bool:
    """Whether an object can have that name: it becomes a part of a path."""
    return len(text) <= _NAME_LENGTH_MAX and re.fullmatch(_NAME, text) is not None


def resource_of(target: ScaleTarget, subresource: str = "") -> Resource:
    """The target's resource, or its /scale."""
    group, _, version = target.api_version.rpartition("/")
    return Resource(group, version, target.resource, "Scale", subresource=subresource)


def machines_of(target: ScaleTarget) -> Resource:
    """The Machines that a Cluster API object makes."""
    group, _, version = target.api_version.rpartition("/")
    return Resource(group, version, "machines", "Machine")
