"""What a cycle wants written, or read: a closed union of idempotent steps, as data.

Names are deterministic and every step says which object it means by uid, so that a step that is
carried out twice, or after a restart, changes nothing the second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import ComputeEnvironmentStatus
from batch_operator.api.consumable_resource import ConsumableResourceStatus
from batch_operator.api.job import BatchJobStatus
from batch_operator.api.job_definition import JobDefinitionStatus
from batch_operator.api.job_queue import JobQueueStatus
from batch_operator.api.scheduling_policy import SchedulingPolicyStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from batch_operator.api.job_definition import JobDefinitionSpec
    from batch_operator.api.serverless import ServerlessProvisioner
    from batch_operator.lifecycle.array_parameters import SourceKey
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.plan import Plan
    from batch_operator.provisioning.catalogue import CatalogueKey
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.packing import Demand
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.scheduling.snapshot import Environment, Job


class Urgency(IntEnum):
    """How long a status may wait so that several changes of one object become one write."""

    LAZY = 0  # only an explanation changed
    NORMAL = 1  # a state changed
    COUNTED = 2  # outcomes were counted, and Pods wait to be released
    FINAL = 3  # the job is over


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Create the Pod of one attempt."""

    job: Job
    plan: Plan
    index: int
    number: int
    array_size: int | None
    environment: str
    node_selector: Mapping[str, str]
    memory_factor: float = 1.0
    """What the template's memory is multiplied by, after attempts that ran out of it."""
    pod_annotations: Mapping[str, str] = field(default_factory=dict)
    """What the environment's autoscaler is to know of its Pods."""
    provisioning_class: str | None = None
    """Of the ProvisioningRequest that the environment's autoscaler gets for a multi-node job."""
    serverless: ServerlessProvisioner | None = None
    """Where the Pod goes if it brings its capacity with it."""
    held_milli: int | None = None
    """What it holds of its environment, in milli-CPU, if that is not what it asks for."""
    asks: Demand | None = None
    """What its Pod asks of a node; None for a multi-node job, whose Pods differ."""

    @property
    def milli_cpu(self) -> int:
        return self.plan.milli_cpu if self.held_milli is None else self.held_milli


@dataclass(frozen=True, slots=True)
class StartGang:
    """Create the Indexed Jobs of one attempt of a multi-node job: those of `groups`, in order.

    The main node's comes first: as long as it does not stand, nothing was asked for.
    """

    start: StartAttempt
    groups: tuple[int, ...]

    @property
    def job(self) -> Job:
        return self.start.job


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Let a Pod of a multi-node job be scheduled, and tell its containers who it is."""

    pod: PodAttempt
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReleasePod:
    """Take our finalizer and tracking label off a Pod whose outcome is in the stored status.

    Here and below the Pod may be the Job that stands in for Pods of a multi-node job.
    """

    pod: PodAttempt


@dataclass(frozen=True, slots=True)
class StopPod:
    """End an attempt: on a node by its kubelet, so that its log stays; on none by deleting it.

    One on no node is deleted only as it was seen: cancel spares what a node has got meanwhile. A
    Job is suspended, so that it makes no more Pods.
    """

    pod: PodAttempt
    requeue: str | None = None
    """It is ended for reasons of the operator's own: the mark to put on it, in the same write. One
    Pod on no node is only marked by this; the look that sees the mark deletes it."""


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Remove the Pod of an attempt that was counted although it lives."""

    pod: PodAttempt


@dataclass(frozen=True, slots=True)
class ReadConfigMap:
    """Get the lines of a ConfigMap that a job waits for. It is not watched: it cannot change."""

    source: SourceKey
    job_uid: str


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """Get what Events say of the Pods of a namespace, one of which does not start."""

    source: str
    """The namespace."""
    job_uid: str


@dataclass(frozen=True, slots=True)
class ReadCatalogue:
    """Get the prices of a ConfigMap that an environment names."""

    source: CatalogueKey
    environment_uid: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Forget a job whose ttlSecondsAfterFinished has passed."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class CreateRevision:
    """Keep a JobDefinition's spec as an immutable revision."""

    namespace: str
    definition: str
    definition_uid: str
    revision: int
    spec: JobDefinitionSpec


@dataclass(frozen=True, slots=True)
class DeleteRevision:
    """Forget a revision that no job uses any more."""

    namespace: str
    definition: str
    revision: int


@dataclass(frozen=True, slots=True)
class CordonNode:
    """Let a node take no more Pods, because it is to go; or again, without `since`."""

    node: Node
    since: datetime | None
    given_up: bool = False
    """It has been waited for long enough: have what still runs there ended."""


@dataclass(frozen=True, slots=True)
class Provide:
    """Have an environment's provisioner make its nodes as planned. `nodes` are those there are."""

    environment: Environment
    plan: CapacityPlan
    nodes: tuple[Node, ...]
    is_last: bool = False
    """The environment is being deleted, and no node of it is known any more: let it go."""


Status = (
    BatchJobStatus
    | JobDefinitionStatus
    | JobQueueStatus
    | ComputeEnvironmentStatus
    | SchedulingPolicyStatus
    | ConsumableResourceStatus
)


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Make an object's status read so. None for `status` withdraws a write that still waits.

    `decided_on` is the resource version of the object that the decision was taken on.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    decided_on: int
    status: Status | None
    urgency: Urgency = Urgency.NORMAL


Mutation = (
    StartAttempt
    | StartGang
    | OpenGate
    | ReleasePod
    | StopPod
    | DeletePod
    | ReadConfigMap
    | ReadCatalogue
    | ReadEvents
    | DeleteJob
    | CreateRevision
    | DeleteRevision
    | CordonNode
    | Provide
    | WriteStatus
)
