"""ConsumableResource: licences, tokens, disks: things that jobs hold while they run, or use up."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from batch_operator.api.common import Conditions, Model, ObservedGeneration, rules


class ResourceType(StrEnum):
    REPLENISHABLE = "REPLENISHABLE"
    NON_REPLENISHABLE = "NON_REPLENISHABLE"


class ConsumableResourceSpec(Model):
    """How much there is."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.resourceType == oldSelf.resourceType",
                "resourceType cannot be changed, as jobs may hold units: make another "
                "ConsumableResource",
            )
        )
    )

    total_quantity: int = Field(ge=0, le=1_000_000_000, description="Units in total.")
    resource_type: ResourceType = Field(
        default=ResourceType.REPLENISHABLE,
        description="REPLENISHABLE: returned when a job ends. NON_REPLENISHABLE: used up. "
        "It cannot be changed.",
    )


class Grant(Model):
    """Units that a job that is not over has used up, or is about to."""

    job_uid: str = Field(max_length=64, description="The BatchJob.")
    quantity: int = Field(ge=1, le=1_000_000_000_000, description="Units for each child.")
    indexes: str = Field(
        max_length=300_000,
        description="The children, as index intervals; 0 for a plain job. Every other one of "
        "100,000 is 294,445 characters.",
    )


class ConsumableResourceStatus(Model):
    """How much of it is in use."""

    observed_generation: ObservedGeneration = -1
    in_use_quantity: int = Field(
        default=0, ge=0, le=1_000_000_000_000, description="Units that running jobs hold."
    )
    spent_quantity: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000_000,
        description="NON_REPLENISHABLE: units that jobs have used up which are over.",
    )
    available_quantity: int = Field(
        default=0, ge=0, le=1_000_000_000, description="Units free for further jobs."
    )
    grants: list[Grant] = Field(
        default=[],
        max_length=1000,
        description="NON_REPLENISHABLE: units used up by jobs that are not over.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["jobUid"],
        },
    )
    conditions: Conditions = Field(default=[])
