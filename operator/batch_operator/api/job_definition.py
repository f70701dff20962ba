"""JobDefinition: how to run a job. Every change of it is a new revision, kept immutably."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from batch_operator.api.common import (
    Conditions,
    ConsumableRequests,
    Model,
    ObservedGeneration,
    RetryStrategy,
    Timeout,
    rules,
)
from batch_operator.api.job import TargetNodes

POD_TEMPLATE = "PodTemplateSpec"
"""Marks where `api.crd` puts the schema of Kubernetes' own pod template."""


class JobDefinitionType(StrEnum):
    CONTAINER = "container"
    MULTINODE = "multinode"


class JobDefinitionState(StrEnum):
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


def _pod_template(description: str, **default: Any) -> Any:
    return Field(
        **default,
        description=description,
        json_schema_extra={"x-batch-operator-embed": POD_TEMPLATE},
    )


class NodeRange(Model):
    """How a range of nodes of a multi-node job runs."""

    target_nodes: TargetNodes
    pod_template: dict[str, Any] = _pod_template("The Pod of each node in the range.")


class NodeProperties(Model):
    """A multi-node parallel job: its size and its nodes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.mainNode < self.numNodes", "mainNode must be below numNodes: nodes count from 0")
        )
    )

    num_nodes: int = Field(ge=1, le=1000, description="Number of nodes, 1 to 1000.")
    main_node: int = Field(default=0, ge=0, le=999, description="Index of the main node.")
    node_range_properties: list[NodeRange] = Field(
        min_length=1,
        max_length=5,
        description="Ranges that together cover all nodes; the narrower wins where they overlap.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class JobDefinitionSpec(Model):
    """How to run a job."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(has(self.type) && self.type == 'multinode') ? "
                "(has(self.nodeProperties) && !has(self.podTemplate)) : "
                "(has(self.podTemplate) && !has(self.nodeProperties))",
                "type container needs podTemplate, type multinode needs nodeProperties, and "
                "neither takes the other",
            )
        )
    )

    type: JobDefinitionType = Field(
        default=JobDefinitionType.CONTAINER,
        description="container (single jobs and arrays) or multinode.",
    )
    parameters: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default={},
        max_length=100,
        description="Default values for the Ref::name placeholders in command and args.",
    )
    pod_template: dict[str, Any] | None = _pod_template(
        "The Pod of each attempt: a Kubernetes pod template. Each container's "
        "resources.requests.cpu counts against the compute environment's maxvCpus.",
        default=None,
    )
    node_properties: NodeProperties | None = Field(
        default=None, description="The nodes of a multi-node parallel job."
    )
    retry_strategy: RetryStrategy | None = Field(
        default=None, description="How often a job is tried; omitted: once."
    )
    timeout: Timeout | None = Field(
        default=None, description="Limit on an attempt's run time; omitted: none."
    )
    scheduling_priority: int | None = Field(
        default=None, ge=0, le=9999, description="Order within a share identifier: higher first."
    )
    consumable_resources: ConsumableRequests = Field(default=[])
    state: JobDefinitionState = Field(
        default=JobDefinitionState.ACTIVE,
        description="INACTIVE: takes no new jobs; those already submitted are not affected.",
    )
    inactive_revisions: list[Annotated[int, Field(ge=1, le=2_147_483_647)]] = Field(
        default=[],
        max_length=1000,
        description="Revisions that take no new jobs.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    revision_history_limit: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="Older revisions that are kept beside the latest; those that jobs still use "
        "are kept in any case.",
    )


COUNT_MAX = 1_000_000_000
RUN_TIME_S_MAX = 315_360_000


class LearnedRunTimes(Model):
    """How long attempts take that succeed, over all revisions; kept up to date coarsely."""

    count: int = Field(
        ge=1, le=COUNT_MAX, description="Number of successful attempts that this was learned from."
    )
    p50_seconds: int = Field(
        ge=0, le=RUN_TIME_S_MAX, description="Half of the latest attempts took no longer."
    )
    p90_seconds: int = Field(
        ge=0, le=RUN_TIME_S_MAX, description="Nine of ten of the latest attempts took no longer."
    )


class JobDefinitionStatus(Model):
    """What the operator keeps of the definition."""

    observed_generation: ObservedGeneration = -1
    latest_revision: int | None = Field(
        default=None,
        ge=1,
        le=2_147_483_647,
        description="The revision that new jobs get: the latest that is ACTIVE.",
    )
    run_times: LearnedRunTimes | None = Field(
        default=None,
        description="How long attempts take, learned from those that succeeded; omitted: none has.",
    )
    conditions: Conditions = Field(default=[])


def revisioned(spec: JobDefinitionSpec) -> JobDefinitionSpec:
    """The part of a definition that makes a revision: all but what is said about revisions."""
    fresh = {
        "state": JobDefinitionState.ACTIVE,
        "inactive_revisions": [],
        "revision_history_limit": 10,
    }
    return spec.model_copy(update=fresh)
