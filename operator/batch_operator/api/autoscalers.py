"""What a ComputeEnvironment says of autoscalers that follow waiting Pods by themselves."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from batch_operator.api.common import Model, rules


class NodeClassReference(Model):
    """What Karpenter makes nodes of: a cloud's own kind, such as AWS's EC2NodeClass."""

    group: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Its API group, e.g. karpenter.k8s.aws.",
    )
    kind: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[A-Z][A-Za-z0-9]*$",
        description="Its kind, e.g. EC2NodeClass.",
    )
    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Its name.",
    )


class KarpenterProvisioner(Model):
    """How Karpenter makes the environment's nodes."""

    node_class_ref: NodeClassReference = Field(
        description="The node class of the environment's NodePools."
    )


class ProvisioningClass(StrEnum):
    """cluster-autoscaler's own classes of ProvisioningRequest."""

    CHECK_CAPACITY = "check-capacity.autoscaling.x-k8s.io"
    BEST_EFFORT_ATOMIC = "best-effort-atomic-scale-up.autoscaling.x-k8s.io"


class PodFollowingProvisioner(Model):
    """How an autoscaler that reacts to waiting Pods is asked for the nodes of multi-node jobs."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.validUntilSeconds) || self.provisioningClassName.startsWith("
                "'best-effort')",
                "validUntilSeconds is for best-effort-atomic-scale-up.autoscaling.x-k8s.io: leave "
                "it out",
            ),
        )
    )

    provisioning_class_name: ProvisioningClass = Field(
        description="Of the ProvisioningRequest (cluster-autoscaler) that is made for each attempt "
        "of a multi-node job, where the cluster has that kind."
    )
    valid_until_seconds: int | None = Field(
        default=None,
        ge=60,
        le=604_800,
        description="best-effort-atomic-scale-up: how long the autoscaler tries.",
    )
