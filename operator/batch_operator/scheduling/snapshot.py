"""The world as one cycle sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import ComputeEnvironmentSpec, ComputeEnvironmentStatus
from batch_operator.api.consumable_resource import ConsumableResourceSpec, ConsumableResourceStatus
from batch_operator.api.job import BatchJobSpec, BatchJobStatus
from batch_operator.api.job_queue import JobQueueSpec, JobQueueStatus
from batch_operator.api.scheduling_policy import SchedulingPolicySpec, SchedulingPolicyStatus
from batch_operator.api.stored import Stored
from batch_operator.lifecycle.stops import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from batch_operator.api.compute_environment import ProvisionerType
    from batch_operator.lifecycle.array_parameters import Source, SourceKey
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.evaluate import Refusal
    from batch_operator.lifecycle.plan import Definition
    from batch_operator.lifecycle.start_troubles import Troubles
    from batch_operator.provisioning.catalogue import Catalogue, CatalogueKey
    from batch_operator.provisioning.daemons import DaemonSet
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import PoolKey

Job = Stored[BatchJobSpec, BatchJobStatus]
Queue = Stored[JobQueueSpec, JobQueueStatus]
Environment = Stored[ComputeEnvironmentSpec, ComputeEnvironmentStatus]
SharePolicy = Stored[SchedulingPolicySpec, SchedulingPolicyStatus]
Consumable = Stored[ConsumableResourceSpec, ConsumableResourceStatus]
Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since the last cycle: job uids, and keys or names of the other kinds.

    `removed_jobs` are the keys of those among `jobs` that are gone; `statuses` the uids of jobs of
    which nothing but the stored status has changed, unless they are among `jobs`, too.
    """

    jobs: AbstractSet[str] = frozenset()
    statuses: AbstractSet[str] = frozenset()
    removed_jobs: AbstractSet[Key] = frozenset()
    definitions: AbstractSet[Key] = frozenset()
    queues: AbstractSet[str] = frozenset()
    environments: AbstractSet[str] = frozenset()
    policies: AbstractSet[str] = frozenset()
    consumables: AbstractSet[str] = frozenset()
    namespaces: AbstractSet[str] = frozenset()
    """Those whose labels have changed."""
    nodes: AbstractSet[str] = frozenset()
    """Environments whose nodes, or what is known of their pools, have changed."""


@dataclass(frozen=True, slots=True)
class PoolRefusal:
    """A pool had no more nodes to give."""

    at: datetime
    message: str


@dataclass(frozen=True, slots=True)
class ProvisionerReport:
    """What an environment's provisioner said when it was last asked."""

    problem: str | None = None
    """What somebody has to mend."""
    is_invalid: bool = False
    """Until then no node can come."""
    coming: Mapping[PoolKey, int] = field(default_factory=dict)
    """Nodes that an autoscaler has ordered and that are not there yet."""
    waits: Mapping[PoolKey, str] = field(default_factory=dict)
    """By pool whose nodes are not all there: what is known of it where they are made."""
    refused_gangs: Mapping[str, str] = field(default_factory=dict)
    """By name of a gang that gets no nodes now: why."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a cycle decides from. The mappings are read, never written.

    `attempts` holds, by job uid and then by Pod name, the Pods that are tracked and the creates
    that are on their way. `start_budget` bounds the starts of one cycle, so that a large array
    does not fill the operator's memory with creates that wait for the API server.
    """

    now: datetime
    jobs: Mapping[str, Job]
    job_uids: Mapping[Key, str]
    attempts: Mapping[str, Mapping[str, PodAttempt]]
    definitions: Mapping[Key, Definition]
    queues: Mapping[str, Queue]
    environments: Mapping[str, Environment]
    refusals: Mapping[str, Refusal]
    policies: Mapping[str, SharePolicy] = field(default_factory=dict)
    consumables: Mapping[str, Consumable] = field(default_factory=dict)
    parameter_sources: Mapping[SourceKey, Source] = field(default_factory=dict)
    """What has been read of the ConfigMaps that open jobs take parameters from."""
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Their labels, by name."""
    catalogues: Mapping[CatalogueKey, Catalogue] = field(default_factory=dict)
    """What has been read of price catalogues; their prices are in the environments' specs."""
    troubles: Mapping[str, Troubles] = field(default_factory=dict)
    """By namespace: what Events say of Pods that do not start."""
    nodes: Mapping[str, Mapping[str, Node]] = field(default_factory=dict)
    """By compute environment and name; under "" those that name none."""
    daemon_sets: tuple[DaemonSet, ...] = ()
    stray_nodes: Mapping[str, Mapping[str, Node]] = field(default_factory=dict)
    """By compute environment that label or taint names, and name: nodes that none counts."""
    refused_pools: Mapping[str, Mapping[PoolKey, PoolRefusal]] = field(default_factory=dict)
    """By compute environment: what its provisioner could not get lately."""
    reports: Mapping[str, ProvisionerReport] = field(default_factory=dict)
    """By compute environment whose provisioner has been asked since the operator's start."""
    followers: AbstractSet[ProvisionerType] = frozenset()
    """Provisioners whose nodes follow waiting Pods without being ordered."""
    changes: Changes = field(default_factory=Changes)
    policy: Policy = field(default_factory=Policy)
    start_budget: int = 1000
