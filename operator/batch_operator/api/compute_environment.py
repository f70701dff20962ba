"""ComputeEnvironment: capacity that queues hand out."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from batch_operator.api.common import (
    Conditions,
    Model,
    ObservedGeneration,
    Quantity,
    rules,
)


class ComputeEnvironmentType(StrEnum):
    MANAGED = "MANAGED"
    UNMANAGED = "UNMANAGED"


class EnvironmentState(StrEnum):
    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class CapacityType(StrEnum):
    ON_DEMAND = "on-demand"
    SPOT = "spot"


class AllocationStrategy(StrEnum):
    BEST_FIT = "BEST_FIT"
    BEST_FIT_PROGRESSIVE = "BEST_FIT_PROGRESSIVE"
    BEST_FIT_PROGRESSIVE_ORDERED = "BEST_FIT_PROGRESSIVE_ORDERED"
    SPOT_CAPACITY_OPTIMIZED = "SPOT_CAPACITY_OPTIMIZED"
    SPOT_PRICE_CAPACITY_OPTIMIZED = "SPOT_PRICE_CAPACITY_OPTIMIZED"
    SPOT_CAPACITY_OPTIMIZED_PRIORITIZED = "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED"


class ProvisionerType(StrEnum):
    KWOK = "kwok"
    KARPENTER = "karpenter"
    SCALE = "scale"
    NONE = "none"


class InstanceType(Model):
    """A size of node that the environment may use."""

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Its name, as in the label node.kubernetes.io/instance-type.",
    )
    vcpus: int = Field(ge=1, le=100_000, description="Its vCPUs.")
    memory: Quantity = Field(description="Its memory, e.g. 64Gi.")
    gpus: int = Field(default=0, ge=0, le=1000, description="Its GPUs.")
    price_per_hour: float | None = Field(
        default=None, ge=0, le=1_000_000, description="On-demand price of an hour."
    )
    spot_price_per_hour: float | None = Field(
        default=None, ge=0, le=1_000_000, description="Spot price of an hour."
    )


class Provisioner(Model):
    """What adds and removes nodes."""

    type: ProvisionerType = Field(description="kwok (fake nodes), karpenter, scale or none.")


class UpdatePolicy(Model):
    """What becomes of running jobs when nodes are replaced."""

    terminate_jobs_on_update: bool = Field(
        default=False, description="Stop jobs at once instead of waiting for them."
    )
    job_execution_timeout_minutes: int = Field(
        default=30, ge=1, le=7200, description="How long to wait for jobs, in minutes."
    )


class ComputeEnvironmentSpec(Model):
    """Which nodes, and how much of them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.minvCpus) || self.minvCpus <= self.maxvCpus",
                "minvCpus must not be above maxvCpus",
            ),
            (
                "self.type == 'UNMANAGED' || has(self.instanceTypes)",
                "type MANAGED needs instanceTypes",
            ),
            (
                "self.type == 'UNMANAGED' || !has(self.nodeSelector)",
                "nodeSelector is for type UNMANAGED: a MANAGED environment labels its own nodes",
            ),
        )
    )

    type: ComputeEnvironmentType = Field(
        description="UNMANAGED: nodes that exist already. MANAGED: nodes are added and removed."
    )
    state: EnvironmentState = Field(
        default=EnvironmentState.ENABLED,
        description="DISABLED: nothing new is placed here; what runs goes on.",
    )
    max_vcpus: int = Field(
        alias="maxvCpus",
        ge=1,
        le=10_000_000,
        description="The most vCPUs that jobs may hold here at the same time.",
    )
    min_vcpus: int = Field(
        default=0,
        alias="minvCpus",
        ge=0,
        le=10_000_000,
        description="MANAGED: vCPUs that are kept even when idle.",
    )
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        default=None,
        max_length=20,
        description="UNMANAGED: labels of the nodes that jobs go to. Omitted: nodes labelled "
        "batch-operator.io/compute-environment=NAME. {}: every node that takes Pods.",
    )
    instance_types: list[InstanceType] = Field(
        default=[],
        max_length=100,
        description="MANAGED: sizes of node to choose from.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    capacity_types: list[CapacityType] = Field(
        default=[],
        max_length=2,
        description="MANAGED: on-demand, spot or both.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    allocation_strategy: AllocationStrategy | None = Field(
        default=None, description="MANAGED: how instance types are chosen."
    )
    bid_percentage: int | None = Field(
        default=None, ge=1, le=100, description="MANAGED: highest spot price, in % of on-demand."
    )
    provisioner: Provisioner | None = Field(
        default=None, description="MANAGED: what adds and removes nodes."
    )
    update_policy: UpdatePolicy | None = Field(
        default=None, description="MANAGED: what becomes of running jobs on an update."
    )
    scale_down_delay_seconds: int | None = Field(
        default=None, ge=0, le=604_800, description="MANAGED: idle time before a node is removed."
    )


class VcpuUsage(Model):
    """vCPUs that jobs hold, and may hold."""

    used: str = Field(max_length=32, description="Held by jobs now.")
    max: int = Field(ge=1, le=10_000_000, description="maxvCpus.")


class ComputeEnvironmentStatus(Model):
    """How full the environment is."""

    observed_generation: ObservedGeneration = -1
    vcpus: VcpuUsage | None = Field(default=None, description="vCPUs in use.")
    conditions: Conditions = Field(default=[])
