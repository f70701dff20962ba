"""BatchJob: one submission of a job, and everything the operator says about it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from batch_operator.api.array import PARAMETERS_DIGEST_LENGTH, ArrayProperties
from batch_operator.api.array_rows import (
    ArrayIndexes,
    IndexAttempts,
    IndexEvents,
    IndexFailure,
    Intervals,
)
from batch_operator.api.common import (
    Conditions,
    ConsumableRequests,
    Model,
    Name,
    ObservedGeneration,
    Quantity,
    RetryStrategy,
    ShareUsage,
    Time,
    Timeout,
    rules,
)
from batch_operator.api.compute_environment import CapacityType
from batch_operator.api.cost import JobCost, Money
from batch_operator.api.dependency import Dependency
from batch_operator.api.index_set import MAX_INDEX
from batch_operator.api.requests import StopRequest, fixed, of_array, one_way


class JobState(StrEnum):
    """AWS Batch's seven states, in the order of life."""

    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class EnvVar(Model):
    """An environment variable with a literal value."""

    name: str = Field(
        min_length=1,
        max_length=256,
        pattern=r"^[-._A-Za-z][-._A-Za-z0-9]*$",
        description="The variable's name; names that start with AWS_BATCH are the operator's.",
    )
    value: str = Field(default="", max_length=8192, description="Its value.")


Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]


class Resources(Model):
    """What a container asks for, by resource name (cpu, memory, nvidia.com/gpu …)."""

    requests: Quantities = Field(
        default={}, description="Guaranteed amounts; the sum of cpu counts against maxvCpus."
    )
    limits: Quantities = Field(default={}, description="Upper bounds, enforced by the node.")


class ContainerOverride(Model):
    """Changes to one container of the definition, for this job only."""

    name: str | None = Field(
        default=None,
        max_length=63,
        description="The container to change; omitted: the definition's first container.",
    )
    image: str | None = Field(
        default=None, min_length=1, max_length=1024, description="Replaces the image."
    )
    command: list[Annotated[str, Field(max_length=8192)]] = Field(
        default=[], max_length=256, description="Replaces the command (the image's entrypoint)."
    )
    args: list[Annotated[str, Field(max_length=8192)]] = Field(
        default=[], max_length=256, description="Replaces the arguments."
    )
    env: list[EnvVar] = Field(
        default=[],
        max_length=256,
        description="Variables that are added, or replace those of the same name.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            **rules(
                (
                    "self.all(v, !v.name.startsWith('AWS_BATCH'))",
                    "names that start with AWS_BATCH are set by the operator: choose another name",
                )
            ),
        },
    )
    resources: Resources | None = Field(
        default=None, description="Requests and limits that replace those of the same resource."
    )


ContainerOverrides = Annotated[
    list[ContainerOverride],
    Field(
        max_length=20,
        description="Changes to the definition's containers, for this job only.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    ),
]
TargetNodes = Annotated[
    str,
    Field(
        max_length=16,
        pattern=r"^([0-9]+|[0-9]*:[0-9]*)$",
        description="Node indexes as first:last, e.g. 0:3, 4: or :3; the narrower range wins.",
    ),
]


class NodePropertyOverride(Model):
    """Changes for the nodes of one range of a multi-node job."""

    target_nodes: TargetNodes
    container_overrides: ContainerOverrides = Field(default=[])


class NodeOverrides(Model):
    """Changes to a multi-node definition, for this job only."""

    num_nodes: int | None = Field(
        default=None, ge=1, le=1000, description="Another number of nodes."
    )
    node_property_overrides: list[NodePropertyOverride] = Field(
        default=[],
        max_length=5,
        description="Changes per range of nodes.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class BatchJobSpec(Model):
    """What to run and how. Only schedulingPriority, suspend, cancel and terminate can change."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            fixed("jobQueue", required=True),
            fixed("jobDefinition", required=True),
            *(
                fixed(field)
                for field in (
                    "jobName",
                    "parameters",
                    "shareIdentifier",
                    "dependsOn",
                    "arrayProperties",
                    "containerOverrides",
                    "nodeOverrides",
                    "consumableResources",
                    "retryStrategy",
                    "timeout",
                    "ttlSecondsAfterFinished",
                )
            ),
            one_way("cancel"),
            one_way("terminate"),
            (
                "has(self.arrayProperties) || !has(self.dependsOn) || self.dependsOn.all(d, "
                "!has(d.type) || (d.type != 'SEQUENTIAL' && d.type != 'N_TO_N'))",
                "SEQUENTIAL and N_TO_N are for the children of an array: give arrayProperties, or "
                "take another type",
            ),
            of_array("cancel"),
            of_array("terminate"),
        )
    )

    job_queue: Name = Field(description="The JobQueue to submit to.")
    job_definition: str = Field(
        max_length=75,
        pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(:[1-9][0-9]{0,9})?$",
        description="The JobDefinition to run: name for its latest revision, or name:revision.",
    )
    job_name: str | None = Field(
        default=None,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="AWS Batch's free name of the job, for people; metadata.name is its identity.",
    )
    parameters: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default={},
        max_length=100,
        description="Values for the Ref::name placeholders in the definition's command and args; "
        "they win over the definition's defaults.",
    )
    share_identifier: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Whose share of the queue this job uses, when it has a scheduling policy.",
    )
    scheduling_priority: int | None = Field(
        default=None,
        ge=0,
        le=9999,
        description="Order within a share identifier: higher first. Can be changed later.",
    )
    depends_on: list[Dependency] = Field(
        default=[],
        max_length=1000,
        description="Jobs that must have SUCCEEDED before this one may run.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    array_properties: ArrayProperties | None = Field(
        default=None, description="Makes the job an array of children."
    )
    container_overrides: ContainerOverrides = Field(default=[])
    node_overrides: NodeOverrides | None = Field(
        default=None, description="Changes to a multi-node definition, for this job only."
    )
    consumable_resources: ConsumableRequests = Field(default=[])
    retry_strategy: RetryStrategy | None = Field(
        default=None, description="Replaces the definition's retry strategy as a whole."
    )
    timeout: Timeout | None = Field(default=None, description="Replaces the definition's timeout.")
    ttl_seconds_after_finished: int | None = Field(
        default=None,
        ge=0,
        le=315_360_000,
        description="Delete the job and its Pods so many seconds after it has ended; omitted: "
        "keep it.",
    )
    suspend: bool = Field(
        default=False,
        description="Start nothing (more) while this is true. What has a node goes on. A Pod that "
        "waits for one is deleted, at the cost of no try, ten times for each child.",
    )
    cancel: StopRequest | None = Field(
        default=None, description="End the job, or children of it, unless they have started."
    )
    terminate: StopRequest | None = Field(
        default=None,
        description="End the job, or children of it, whatever their state, stopping containers.",
    )


class Attempt(Model):
    """One try of the job."""

    attempt: int = Field(ge=1, le=1000, description="Its number, from 1.")
    pod_name: str = Field(max_length=253, description="The Pod that ran it.")
    pod_uid: str = Field(max_length=64, description="That Pod's uid.")
    node_name: str | None = Field(default=None, max_length=253, description="The node it ran on.")
    compute_environment: str | None = Field(
        default=None, max_length=63, description="The compute environment it ran in."
    )
    started_at: Time | None = Field(default=None, description="When its containers started.")
    stopped_at: Time | None = Field(default=None, description="When it ended.")
    exit_code: int | None = Field(
        default=None,
        ge=-2_147_483_648,
        le=4_294_967_295,
        description="Exit code of the container that decided the outcome.",
    )
    reason: str | None = Field(
        default=None, max_length=255, description="Detail from the container runtime."
    )
    status_reason: str | None = Field(
        default=None, max_length=1024, description="Why the attempt is over, in AWS Batch's words."
    )
    instance_type: str | None = Field(
        default=None, max_length=63, description="The instance type of its node, if it has a price."
    )
    capacity_type: CapacityType | None = Field(
        default=None, description="on-demand or spot, of such a node."
    )
    cost: Money | None = Field(
        default=None, description="What it has cost, once it is over; of all nodes of a gang."
    )


class EstimatedStart(Model):
    """When the job is expected to start, from what is learned of how long others run."""

    p50: Time | None = Field(
        default=None, description="As likely before as after this; omitted where nothing is known."
    )
    p90: Time | None = Field(default=None, description="In nine of ten cases not after this.")
    basis: str = Field(max_length=1024, description="What it rests on, or why there is none.")


class Pending(Model):
    """Why the job is not running."""

    reason: str = Field(max_length=64, description="One CamelCase word that scripts can rely on.")
    message: str = Field(max_length=1024, description="The reason as a sentence.")
    position: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Place in the queue at the time of since."
    )
    queue: str | None = Field(default=None, max_length=63, description="The queue it waits in.")
    blocked_by: list[Annotated[str, Field(max_length=253)]] = Field(
        default=[], max_length=3, description="Up to three names of what stands in the way."
    )
    since: Time = Field(description="Since when this is the reason.")
    estimated_start: EstimatedStart | None = Field(
        default=None,
        description="A forecast for the first jobs of a queue, as of the last write of this.",
    )
    next_look_at: Time | None = Field(
        default=None, description="When the operator looks again even if nothing changes."
    )


class WaitingChildren(Model):
    """Why those children of an array wait that have no Pod."""

    state: JobState = Field(description="The state that they are in.")
    reason: str = Field(max_length=64, description="One CamelCase word that scripts can rely on.")
    status_reason: str | None = Field(
        default=None, max_length=1024, description="Why, in AWS Batch's words."
    )
    index: int | None = Field(
        default=None, ge=0, le=99_999, description="The child whose turn is next."
    )
    since: Time = Field(
        description="Since when this is the reason, and this the child whose turn is next."
    )


def _counts(what: str) -> Any:
    return Field(default={}, max_length=7, description=what)


def _events(what: str) -> Any:
    return Field(
        default=[],
        max_length=10,
        description=f"Children that are not over and {what}",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


StateCounts = dict[JobState, Annotated[int, Field(ge=0, le=1_000_000_000)]]


class ArrayStatus(Model):
    """An array's children, in a size that does not grow with their number."""

    size: int = Field(ge=0, le=100_000, description="Number of children.")
    members: Intervals | None = Field(
        default=None,
        description="The children of a rerunFailedOf, recorded before the first of them starts.",
    )
    told_size: int | None = Field(
        default=None,
        ge=0,
        le=MAX_INDEX + 1,
        description="AWS_BATCH_JOB_ARRAY_SIZE of the children of a rerunFailedOf: that array's, "
        "recorded with members.",
    )
    parameters_digest: str | None = Field(
        default=None,
        max_length=PARAMETERS_DIGEST_LENGTH,
        description="Of the lines that the children get from parameters.configMap, recorded before "
        "the first of them starts; no child starts with others.",
    )
    parameters_digest_indexes: Intervals | None = Field(
        default=None,
        description="Of a rerunFailedOf that takes lines from where that array took its own: the "
        "indexes that parametersDigest is of, that array's; both are recorded with members.",
    )
    status_summary: StateCounts = _counts("Number of children by state.")
    indexes: ArrayIndexes = Field(
        default=ArrayIndexes(), description="Children by state, as index intervals."
    )
    attempts: list[IndexAttempts] = Field(
        default=[],
        max_length=20,
        description="Attempts used up by children that are not over.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    out_of_memory: list[IndexEvents] = _events(
        "ran out of memory, by how often; kept when retryStrategy.onOutOfMemory needs it."
    )
    hosts_lost: list[IndexEvents] = _events(
        "lost their node, by how often; kept when retryStrategy.onHostLost needs it."
    )
    waiting: list[WaitingChildren] = Field(
        default=[],
        max_length=2,
        description="Why children without a Pod wait; kept when the queue has time limits.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    preempted: list[IndexEvents] = _events(
        "made room for others, were rejected by a node that had none for them, or were suspended "
        "before they had one, by how often: these attempts cost them no try."
    )
    moved: list[IndexEvents] = _events(
        "were moved to another compute environment, by how often: these attempts cost them no try."
    )
    failures: list[IndexFailure] = Field(
        default=[],
        max_length=20,
        description="Failed children by how they failed.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class NodeRangeStatus(Model):
    """One range of nodes of a multi-node job."""

    target_nodes: TargetNodes
    state: JobState = Field(
        description="The state of the range's nodes: that of the one that is furthest among those "
        "not over; once all are over FAILED if any failed."
    )
    status_summary: StateCounts = _counts(
        "Number of nodes by state. The job ends with its main node: nodes that are still being "
        "stopped then count as FAILED."
    )


class BatchJobStatus(Model):
    """What the operator has found and done."""

    observed_generation: ObservedGeneration = -1
    state: JobState = Field(
        default=JobState.SUBMITTED,
        description="SUBMITTED, PENDING (waits for dependencies; also an array whose children are "
        "at work), RUNNABLE (waits for its turn or for capacity), STARTING, RUNNING, SUCCEEDED or "
        "FAILED.",
    )
    job_definition: str | None = Field(
        default=None, max_length=75, description="The revision the job was given: name:revision."
    )
    compute_environment: str | None = Field(
        default=None, max_length=63, description="Where its latest attempt was placed."
    )
    started_at: Time | None = Field(default=None, description="When the first attempt started.")
    stopped_at: Time | None = Field(default=None, description="When the job ended.")
    status_reason: str | None = Field(
        default=None,
        max_length=1024,
        description="Why the job is in its state, in AWS Batch's words.",
    )
    attempts: list[Attempt] = Field(
        default=[],
        max_length=20,
        description="The job's attempts, oldest first; empty for arrays. Those that were "
        "preempted, moved, rejected by their node or suspended before they had one are among them, "
        "and cost no try.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    pending: Pending | None = Field(default=None, description="Why the job is not running.")
    array: ArrayStatus | None = Field(default=None, description="The children of an array.")
    nodes: list[NodeRangeStatus] = Field(
        default=[],
        max_length=5,
        description="The node ranges of a multi-node job.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    share_usage: ShareUsage | None = Field(
        default=None,
        description="What its attempts that are over count against its share identifier.",
    )
    cost: JobCost | None = Field(
        default=None,
        description="What its attempts have cost that are over; omitted while nothing is known.",
    )
    conditions: Conditions = Field(default=[])
