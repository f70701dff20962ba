"""From what the API server sends to what the core knows, once, at the edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from batch_operator.api import meta
from batch_operator.api.compute_environment import ComputeEnvironmentSpec, ComputeEnvironmentStatus
from batch_operator.api.consumable_resource import ConsumableResourceSpec, ConsumableResourceStatus
from batch_operator.api.job import BatchJobSpec, BatchJobStatus
from batch_operator.api.job_definition import JobDefinitionSpec, JobDefinitionStatus
from batch_operator.api.job_queue import JobQueueSpec, JobQueueStatus
from batch_operator.api.objects import (
    ConfigMap,
    ControllerRevision,
    DaemonSet,
    Job,
    Metadata,
    Node,
    Pod,
)
from batch_operator.api.scheduling_policy import SchedulingPolicySpec, SchedulingPolicyStatus
from batch_operator.api.stored import Stored
from batch_operator.lifecycle.attempt import PodAttempt, observed_attempt, observed_group
from batch_operator.provisioning.daemons import DaemonSet as DaemonSetFacts
from batch_operator.provisioning.daemons import observed_daemon_set
from batch_operator.provisioning.nodes import Node as NodeFacts
from batch_operator.provisioning.nodes import observed_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.common import Model

SpecT = TypeVar("SpecT", bound="Model")
StatusT = TypeVar("StatusT", bound="Model")


class _Envelope(msgspec.Struct):
    metadata: Metadata
    spec: msgspec.Raw
    status: msgspec.Raw = msgspec.Raw(b"{}")


class _Object(msgspec.Struct):
    metadata: Metadata


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_OBJECT = msgspec.json.Decoder(_Object)
_POD = msgspec.json.Decoder(Pod)
_JOB = msgspec.json.Decoder(Job)
_NODE = msgspec.json.Decoder(Node)
_DAEMON_SET = msgspec.json.Decoder(DaemonSet)
_CONFIG_MAP = msgspec.json.Decoder(ConfigMap)
_REVISION = msgspec.json.Decoder(ControllerRevision)


class Decoder(Generic[SpecT, StatusT]):
    """Reads objects of one of our kinds.

    A spec is parsed again only when its generation changes: nearly all events of a BatchJob are
    echoes of its status.
    """

    def __init__(self, spec: type[SpecT], status: type[StatusT]) -> None:
        self._spec = spec
        self._status = status
        self._known: Mapping[str, Stored[SpecT, StatusT]] = {}

    def reuse(self, known: Mapping[str, Stored[SpecT, StatusT]]) -> None:
        """Take specs from these objects, by uid, where the generation is the same."""
        self._known = known

    def __call__(self, raw: msgspec.Raw | bytes) -> Stored[SpecT, StatusT]:
        envelope = _ENVELOPE.decode(raw)
        metadata = envelope.metadata
        known = self._known.get(metadata.uid)
        if known is not None and known.generation == metadata.generation:
            spec = known.spec
        else:
            spec = self._spec.model_validate_json(bytes(envelope.spec))
        assert metadata.creation_timestamp is not None  # the API server sets it
        return Stored(
            namespace=metadata.namespace,
            name=metadata.name,
            uid=metadata.uid,
            resource_version=int(metadata.resource_version),
            generation=metadata.generation,
            created_at=metadata.creation_timestamp,
            deleting=metadata.deletion_timestamp is not None,
            spec=spec,
            status=self._status.model_validate_json(bytes(envelope.status)),
            finalizers=tuple(metadata.finalizers),
        )


def job_decoder() -> Decoder[BatchJobSpec, BatchJobStatus]:
    return Decoder(BatchJobSpec, BatchJobStatus)


def definition_decoder() -> Decoder[JobDefinitionSpec, JobDefinitionStatus]:
    return Decoder(JobDefinitionSpec, JobDefinitionStatus)


def queue_decoder() -> Decoder[JobQueueSpec, JobQueueStatus]:
    return Decoder(JobQueueSpec, JobQueueStatus)


def environment_decoder() -> Decoder[ComputeEnvironmentSpec, ComputeEnvironmentStatus]:
    return Decoder(ComputeEnvironmentSpec, ComputeEnvironmentStatus)


def policy_decoder() -> Decoder[SchedulingPolicySpec, SchedulingPolicyStatus]:
    return Decoder(SchedulingPolicySpec, SchedulingPolicyStatus)


def consumable_decoder() -> Decoder[ConsumableResourceSpec, ConsumableResourceStatus]:
    return Decoder(ConsumableResourceSpec, ConsumableResourceStatus)


def attempt(raw: msgspec.Raw | bytes) -> PodAttempt:
    """A Pod of ours as the attempt that it stands for."""
    return observed_attempt(_POD.decode(raw))


def group(raw: msgspec.Raw | bytes) -> PodAttempt:
    """A Job of ours as the stand-in for the Pods that it makes."""
    return observed_group(_JOB.decode(raw))


def node(raw: msgspec.Raw | bytes) -> NodeFacts:
    """A Node, as far as compute environments are concerned."""
    return observed_node(_NODE.decode(raw))


def daemon_set(raw: msgspec.Raw | bytes) -> DaemonSetFacts:
    """A DaemonSet, as far as room on nodes is concerned."""
    return observed_daemon_set(_DAEMON_SET.decode(raw))


def config_map(raw: msgspec.Raw | bytes) -> ConfigMap:
    return _CONFIG_MAP.decode(raw)


def controller_uid(raw: msgspec.Raw | bytes) -> str | None:
    """The uid of the object that controls this one, whatever its kind."""
    owners = _OBJECT.decode(raw).metadata.owner_references
    return next((owner.uid for owner in owners if owner.controller), None)


@dataclass(frozen=True, slots=True)
class Namespace:
    """The labels of a Namespace."""

    uid: str
    resource_version: int
    name: str
    labels: Mapping[str, str]


def namespace(raw: msgspec.Raw | bytes) -> Namespace:
    """A Namespace, by which queues may choose who submits to them."""
    metadata = _OBJECT.decode(raw).metadata
    return Namespace(
        uid=metadata.uid,
        resource_version=int(metadata.resource_version),
        name=metadata.name,
        labels=metadata.labels,
    )


@dataclass(frozen=True, slots=True)
class Revision:
    """One kept revision of a JobDefinition."""

    uid: str
    resource_version: int
    namespace: str
    definition: str
    number: int
    spec: JobDefinitionSpec


def revision(raw: msgspec.Raw | bytes) -> Revision:
    """A ControllerRevision of ours.

    Raises:
        KeyError: it does not say which definition it belongs to.
    """
    kept = _REVISION.decode(raw)
    return Revision(
        uid=kept.metadata.uid,
        resource_version=int(kept.metadata.resource_version),
        namespace=kept.metadata.namespace,
        definition=kept.metadata.labels[meta.LABEL_JOB_DEFINITION],
        number=kept.revision,
        spec=JobDefinitionSpec.model_validate_json(bytes(kept.data)),
    )
