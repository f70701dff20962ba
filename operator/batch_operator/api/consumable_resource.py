"""ConsumableResource: licences, tokens, disks: things that jobs hold while they run, or use up."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from batch_operator.api.common import Conditions, Model, ObservedGeneration


class ResourceType(StrEnum):
    REPLENISHABLE = "REPLENISHABLE"
    NON_REPLENISHABLE = "NON_REPLENISHABLE"


class ConsumableResourceSpec(Model):
    """How much there is."""

    total_quantity: int = Field(ge=0, le=1_000_000_000, description="Units in total.")
    resource_type: ResourceType = Field(
        default=ResourceType.REPLENISHABLE,
        description="REPLENISHABLE: returned when a job ends. NON_REPLENISHABLE: used up.",
    )


class ConsumableResourceStatus(Model):
    """How much of it is in use."""

    observed_generation: ObservedGeneration = -1
    in_use_quantity: int = Field(default=0, ge=0, le=1_000_000_000, description="Units held.")
    available_quantity: int = Field(default=0, ge=0, le=1_000_000_000, description="Units free.")
    conditions: Conditions = Field(default=[])
