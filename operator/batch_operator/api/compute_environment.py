"""ComputeEnvironment: capacity that queues hand out."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from batch_operator.api.autoscalers import KarpenterProvisioner, PodFollowingProvisioner
from batch_operator.api.common import (
    Conditions,
    Model,
    ObservedGeneration,
    Quantity,
    Time,
    rules,
)
from batch_operator.api.cost import EnvironmentCost, PriceCatalogue
from batch_operator.api.scale import ScaleProvisioner
from batch_operator.api.serverless import NOT_FOR_SERVERLESS, ServerlessProvisioner
from batch_operator.api.unmanaged import NOT_FOR_UNMANAGED

LABEL_INSTANCE_TYPE = "node.kubernetes.io/instance-type"
"""Kubernetes' own, on nodes."""
NODE_VCPUS_MAX = 100_000
NODE_MEMORY_MAX = 1 << 53
"""Bytes."""
NODE_GPUS_MAX = 1000
NODE_PODS_MAX = 100_000


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
    SERVERLESS = "serverless"
    NONE = "none"


class EnvironmentStatus(StrEnum):
    """AWS's words for how an environment fares."""

    VALID = "VALID"
    INVALID = "INVALID"
    UPDATING = "UPDATING"
    DELETING = "DELETING"


class InstanceType(Model):
    """A size of node that the environment may use."""

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Its name, as in the label node.kubernetes.io/instance-type.",
    )
    vcpus: int = Field(ge=1, le=NODE_VCPUS_MAX, description="Its vCPUs.")
    memory: Quantity = Field(description="Its memory, e.g. 64Gi.")
    gpus: int = Field(default=0, ge=0, le=NODE_GPUS_MAX, description="Its GPUs.")
    price_per_hour: float | None = Field(
        default=None, ge=0, le=1_000_000, description="On-demand price of an hour."
    )
    spot_price_per_hour: float | None = Field(
        default=None, ge=0, le=1_000_000, description="Spot price of an hour."
    )


class KwokCapacity(Model):
    """How many fake nodes of one pool there can be."""

    instance_type: str = Field(min_length=1, max_length=63, description="The instance type.")
    capacity_type: CapacityType = Field(description="on-demand or spot.")
    nodes: int = Field(ge=0, le=10_000, description="So many nodes at most; more are refused.")


class KwokProvisioner(Model):
    """How fake nodes behave."""

    start_up_seconds: int = Field(
        default=0, ge=0, le=3600, description="From a node's creation until it is ready."
    )
    spot_interruptions_per_hour: float = Field(
        default=0,
        ge=0,
        le=3600,
        description="How often a spot node is taken away, on average, two minutes after a notice.",
    )
    capacity: list[KwokCapacity] = Field(
        default=[],
        max_length=200,
        description="Pools with a limit; what is not listed has none.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["instanceType", "capacityType"],
        },
    )


class Provisioner(Model):
    """What adds and removes nodes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.serverless) == (self.type == 'serverless')",
                "serverless belongs to type serverless, which needs it: it says where Pods go",
            ),
            ("!has(self.kwok) || self.type == 'kwok'", "kwok is for type kwok: leave it out"),
            ("!has(self.none) || self.type == 'none'", "none is for type none: leave it out"),
            (
                "has(self.scale) == (self.type == 'scale')",
                "scale.targets belongs to type scale, which needs it: it names what makes the "
                "nodes of each pool",
            ),
            (
                "has(self.karpenter) == (self.type == 'karpenter')",
                "karpenter.nodeClassRef belongs to type karpenter, which needs it: it names what "
                "Karpenter makes nodes of",
            ),
        )
    )

    type: ProvisionerType = Field(
        description="kwok (fake nodes), karpenter, scale, serverless or none."
    )
    kwok: KwokProvisioner | None = Field(default=None, description="How fake nodes behave.")
    scale: ScaleProvisioner | None = Field(
        default=None, description="What makes the nodes of each pool."
    )
    serverless: ServerlessProvisioner | None = Field(
        default=None, description="Where Pods go that bring their capacity, and what it costs."
    )
    karpenter: KarpenterProvisioner | None = Field(
        default=None, description="How Karpenter makes nodes."
    )
    none: PodFollowingProvisioner | None = Field(
        default=None,
        description="MANAGED: how the autoscaler is asked for the nodes of multi-node jobs. "
        "Omitted: it sees their Pods, as of all jobs.",
    )


class NodeOverhead(Model):
    """What a node cannot give to Pods."""

    cpu: Quantity = Field(default="0", description="CPU, e.g. 200m.")
    memory: Quantity = Field(default="0", description="Memory, e.g. 500Mi.")


class ScalingPolicy(Model):
    """When idle nodes are removed."""

    min_scale_down_delay_minutes: int = Field(
        default=1,
        ge=0,
        le=10_080,
        description="How long a node stays after its last job has ended, in minutes; 0: it goes "
        "as soon as it is seen idle.",
    )


class UpdatePolicy(Model):
    """What becomes of running jobs when nodes are replaced."""

    terminate_jobs_on_update: bool = Field(
        default=False, description="Stop jobs at once instead of waiting for them."
    )
    job_execution_timeout_minutes: int = Field(
        default=30, ge=1, le=7200, description="How long to wait for jobs, in minutes."
    )


_MAKE_ANOTHER = "make another environment, and name it in the queues' computeEnvironmentOrder"
_NAMES = "has({0}.instanceTypes) ? {0}.instanceTypes.map(t, t.name) : []"
_SIZES = "has({0}.instanceTypes) ? {0}.instanceTypes.map(t, t.vcpus * 1000 + t.gpus) : []"
_CAPACITY = (
    "has({0}.capacityTypes) && size({0}.capacityTypes) > 0 ? {0}.capacityTypes : ['on-demand']"
)


def _is_best_fit(spec: str) -> str:
    """AWS: an environment with this strategy has no infrastructure updates."""
    return f"has({spec}.allocationStrategy) && {spec}.allocationStrategy == 'BEST_FIT'"


class ComputeEnvironmentSpec(Model):
    """Which nodes, and how much of them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.minvCpus) || self.minvCpus <= self.maxvCpus",
                "minvCpus must not be above maxvCpus",
            ),
            (
                "self.type == 'UNMANAGED' || has(self.provisioner)",
                "type MANAGED needs a provisioner: what adds and removes its nodes",
            ),
            (
                "self.type == 'UNMANAGED' || !has(self.provisioner) || self.provisioner.type in "
                "['serverless', 'none'] || (has(self.instanceTypes) && "
                "size(self.instanceTypes) > 0)",
                "type MANAGED needs instanceTypes",
            ),
            (
                "!has(self.allocationStrategy) || !self.allocationStrategy.startsWith('SPOT_') || "
                "(has(self.capacityTypes) && 'spot' in self.capacityTypes)",
                "this allocationStrategy is for spot: write capacityTypes: [spot], or [spot, "
                "on-demand] to fall back on on-demand, or take another",
            ),
            (
                "!has(self.allocationStrategy) || self.allocationStrategy != "
                "'BEST_FIT_PROGRESSIVE_ORDERED' || !has(self.capacityTypes) || "
                "!('spot' in self.capacityTypes)",
                "BEST_FIT_PROGRESSIVE_ORDERED is for on-demand alone: write capacityTypes: "
                "[on-demand], or take another allocationStrategy",
            ),
            (
                "!has(self.provisioner) || !has(self.provisioner.scale) || "
                "!has(self.instanceTypes) || (size(self.provisioner.scale.targets) == "
                "size(self.instanceTypes) * (has(self.capacityTypes) && "
                "size(self.capacityTypes) == 2 ? 2 : 1) && "
                "self.instanceTypes.all(t, (has(self.capacityTypes) && "
                "size(self.capacityTypes) > 0 ? self.capacityTypes : ['on-demand']).all(c, "
                "self.provisioner.scale.targets.exists(x, x.instanceType == t.name && "
                "x.capacityType == c))))",
                "provisioner.scale.targets must have one object for each of instanceTypes in each "
                "of capacityTypes (on-demand when omitted), and no other",
            ),
            (
                "!has(self.minvCpus) || self.minvCpus == 0 || !has(self.provisioner) || "
                "!has(self.provisioner.scale) || (has(self.provisioner.scale.scaleIn) && "
                "self.provisioner.scale.scaleIn == 'MarkMachines')",
                "minvCpus needs provisioner.scale.scaleIn MarkMachines: with WhenPoolIsIdle a pool "
                "goes as a whole, and nobody can say which machines would stay",
            ),
            (
                "!has(self.minvCpus) || self.minvCpus == 0 || !has(self.provisioner) || "
                "!(self.provisioner.type in ['karpenter', 'none'])",
                "minvCpus needs a provisioner that orders nodes: with karpenter and none they "
                "follow waiting Pods, so leave it out",
            ),
            *NOT_FOR_SERVERLESS,
            *NOT_FOR_UNMANAGED,
            (
                "self.type == 'UNMANAGED' || !has(self.nodeSelector)",
                "nodeSelector is for type UNMANAGED: a MANAGED environment labels its own nodes",
            ),
            ("self.type == oldSelf.type", f"type cannot be changed: {_MAKE_ANOTHER}"),
            (
                "!has(self.provisioner) || !has(oldSelf.provisioner) || "
                "self.provisioner.type == oldSelf.provisioner.type",
                f"provisioner.type cannot be changed: {_MAKE_ANOTHER}",
            ),
            (
                f"({_is_best_fit('self')}) == ({_is_best_fit('oldSelf')})",
                f"BEST_FIT can be neither set nor left by an update: {_MAKE_ANOTHER}",
            ),
            (
                f"!({_is_best_fit('oldSelf')}) || "
                + " && ".join(
                    f"({one.format('self')}) == ({one.format('oldSelf')})"
                    for one in (_NAMES, _SIZES, _CAPACITY)
                ),
                f"with BEST_FIT neither the names and sizes of instanceTypes nor capacityTypes can "
                f"be changed: {_MAKE_ANOTHER}",
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
        description="MANAGED: sizes of node to choose from. UNMANAGED: sizes and prices of its "
        "nodes, for what jobs cost.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    price_catalogue: PriceCatalogue | None = Field(
        default=None,
        description="Where prices are of those instanceTypes that give none themselves.",
    )
    capacity_types: list[CapacityType] = Field(
        default=[],
        max_length=2,
        description="MANAGED: on-demand (also when omitted), spot or both. UNMANAGED: spot says "
        "that it has spot nodes, for budgets.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    allocation_strategy: AllocationStrategy | None = Field(
        default=None,
        description="MANAGED: how instance types are chosen. Omitted: "
        "SPOT_PRICE_CAPACITY_OPTIMIZED where there is spot, BEST_FIT_PROGRESSIVE elsewhere.",
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
    scaling_policy: ScalingPolicy | None = Field(
        default=None, description="MANAGED: when idle nodes are removed."
    )
    node_overhead: NodeOverhead | None = Field(
        default=None,
        description="MANAGED: what the system takes of every node. What DaemonSets ask for is "
        "known, and comes on top. UNMANAGED: the same of instanceTypes, for what jobs cost.",
    )


class VcpuUsage(Model):
    """vCPUs that jobs hold, and may hold."""

    used: str = Field(max_length=32, description="Held by jobs now.")
    max: int = Field(ge=1, le=10_000_000, description="maxvCpus.")
    desired: int | None = Field(
        default=None,
        ge=0,
        le=10_000_000,
        description="MANAGED: vCPUs of the nodes that there should be.",
    )


class NodeCounts(Model):
    """Nodes of a MANAGED environment."""

    desired: int = Field(ge=0, le=10_000_000, description="How many there should be.")
    ready: int = Field(ge=0, le=10_000_000, description="How many there are that take Pods.")
    draining: int = Field(
        ge=0, le=10_000_000, description="How many take no more Pods and are about to go."
    )


class Allocatable(Model):
    """What a node can give to Pods."""

    milli_cpu: int = Field(ge=0, le=NODE_VCPUS_MAX * 1000, description="Thousandths of a CPU.")
    memory: int = Field(ge=0, le=NODE_MEMORY_MAX, description="Bytes of memory.")
    gpus: int = Field(default=0, ge=0, le=NODE_GPUS_MAX, description="GPUs.")
    pods: int = Field(ge=0, le=NODE_PODS_MAX, description="How many Pods.")


class PoolStatus(Model):
    """One instance type of one capacity type: what is ordered, and what was learned of it.

    `refusals` and `interruptions` are counts in which older ones weigh less, as they were worth at
    `refusedAt` and `interruptedAt`.
    """

    instance_type: str = Field(max_length=63, description="The instance type.")
    capacity_type: CapacityType = Field(description="on-demand or spot.")
    desired: int = Field(
        default=0, ge=0, le=10_000_000, description="How many nodes there should be."
    )
    ready: int = Field(default=0, ge=0, le=10_000_000, description="How many there are.")
    refusals: float = Field(default=0, ge=0, le=1e9, description="How often it was refused.")
    refused_at: Time | None = Field(default=None, description="When it was refused last.")
    refused_until: Time | None = Field(
        default=None, description="Until then it is not asked for again."
    )
    refused_in_a_row: int = Field(
        default=0, ge=0, le=1_000_000, description="How often, since a node of it came last."
    )
    message: str = Field(default="", max_length=256, description="What it was refused with.")
    interruptions: float = Field(default=0, ge=0, le=1e9, description="How many nodes were lost.")
    interrupted_at: Time | None = Field(default=None, description="When one was lost last.")
    waiting_since: Time | None = Field(
        default=None, description="Nodes are ordered, and none has come since then."
    )
    overdue_at: Time | None = Field(
        default=None,
        description="When an order was given up because no node came; none has come since.",
    )
    came_at: Time | None = Field(
        default=None, description="When the newest node that became ready was created."
    )
    ready_seconds: int | None = Field(
        default=None,
        ge=0,
        le=10_000_000,
        description="How long a node took to become ready, lately.",
    )
    allocatable: Allocatable | None = Field(
        default=None,
        description="The least that a node of it had for Pods, of those that there were last.",
    )


class EnvironmentUpdate(Model):
    """An infrastructure update that is under way."""

    settings: str = Field(
        max_length=63, description="What nodes made from now on carry: a digest of the settings."
    )
    started_at: Time = Field(
        description="When it began; jobExecutionTimeoutMinutes counts from then."
    )


QUEUES_MAX = 100
"""So many queues are named in an environment's status."""


class ComputeEnvironmentStatus(Model):
    """How the environment fares."""

    observed_generation: ObservedGeneration = -1
    status: EnvironmentStatus | None = Field(
        default=None, description="VALID, INVALID, UPDATING or DELETING."
    )
    status_reason: str | None = Field(
        default=None, max_length=1024, description="Why; ComputeEnvironment Healthy when VALID."
    )
    vcpus: VcpuUsage | None = Field(default=None, description="vCPUs in use.")
    nodes: NodeCounts | None = Field(default=None, description="MANAGED: its nodes.")
    update: EnvironmentUpdate | None = Field(
        default=None, description="MANAGED: its nodes are being replaced, after a change of spec."
    )
    queues: list[Annotated[str, Field(max_length=63)]] = Field(
        default=[],
        max_length=QUEUES_MAX,
        description="The JobQueues that name it; while there are any it cannot be deleted.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    pools: list[PoolStatus] = Field(
        default=[],
        max_length=200,
        description="MANAGED: its pools of nodes, as far as there is something to say.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["instanceType", "capacityType"],
        },
    )
    cost: EnvironmentCost | None = Field(
        default=None, description="What it has cost; omitted while no price is known."
    )
    conditions: Conditions = Field(default=[])
