"""SchedulingPolicy: how a queue's capacity is shared between share identifiers."""

from __future__ import annotations

from pydantic import Field

from batch_operator.api.common import Conditions, Model, ObservedGeneration


class Share(Model):
    """The weight of a share identifier, or of all that begin alike."""

    share_identifier: str = Field(
        min_length=1,
        max_length=255,
        pattern=r"^[A-Za-z0-9_.-]+\*?$",
        description="An identifier, or a prefix that ends in *.",
    )
    weight_factor: float = Field(
        default=1.0,
        ge=0.0001,
        le=999.9999,
        description="Lower weighs more: 0.5 gets twice the capacity of 1.",
    )


class FairsharePolicy(Model):
    """AWS Batch's fair share."""

    share_decay_seconds: int = Field(
        default=0, ge=0, le=604_800, description="How long past use counts; 0 means 600."
    )
    compute_reservation: int = Field(
        default=0, ge=0, le=99, description="Percentage kept free for shares not yet active."
    )
    share_distribution: list[Share] = Field(
        default=[],
        max_length=500,
        description="Weights; identifiers that are not listed weigh 1.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["shareIdentifier"],
        },
    )


class SchedulingPolicySpec(Model):
    """How capacity is shared."""

    fairshare_policy: FairsharePolicy = Field(description="AWS Batch's fair share.")


class SchedulingPolicyStatus(Model):
    """Whether the policy can be used."""

    observed_generation: ObservedGeneration = -1
    conditions: Conditions = Field(default=[])
