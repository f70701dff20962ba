"""What a ComputeEnvironment says of autoscalers that follow waiting Pods by themselves."""

from __future__ import annotations

from pydantic import Field

from batch_operator.api.common import Model


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
