"""Metrics of compute environments and their pools of nodes, as their stored statuses have them.

What has no environment or pool any more has no series either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from batch_operator.api.compute_environment import EnvironmentStatus
from batch_operator.provisioning.happenings import pool_changes

if TYPE_CHECKING:
    from collections.abc import Collection

    from prometheus_client import CollectorRegistry

    from batch_operator.api.compute_environment import ComputeEnvironmentStatus
    from batch_operator.scheduling.snapshot import Environment

_ENVIRONMENT = ("environment",)
_POOL = ("environment", "instance_type", "capacity_type")


class EnvironmentMetrics:
    """Gauges are renewed when they are asked for, counters grow with every status written."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges: list[Gauge] = []

        def gauge(name: str, what: str, labels: tuple[str, ...]) -> Gauge:
            one = Gauge(f"batch_operator_{name}", what, labels, registry=registry)
            self._gauges.append(one)
            return one

        def counter(name: str, what: str) -> Counter:
            return Counter(f"batch_operator_{name}_total", what, _POOL, registry=registry)

        self._status = gauge(
            "environment_status",
            "1 for the status that a compute environment has: VALID, INVALID, UPDATING, DELETING.",
            (*_ENVIRONMENT, "status"),
        )
        self._max_vcpus = gauge("environment_max_vcpus", "maxvCpus.", _ENVIRONMENT)
        self._used_vcpus = gauge("environment_used_vcpus", "vCPUs that jobs hold.", _ENVIRONMENT)
        self._desired_vcpus = gauge(
            "environment_desired_vcpus", "vCPUs of the nodes that there should be.", _ENVIRONMENT
        )
        self._desired = gauge(
            "environment_desired_nodes", "How many nodes there should be.", _ENVIRONMENT
        )
        self._ready = gauge(
            "environment_ready_nodes", "How many nodes there are that take Pods.", _ENVIRONMENT
        )
        self._draining = gauge(
            "environment_draining_nodes", "How many nodes are about to go.", _ENVIRONMENT
        )
        self._pool_desired = gauge(
            "pool_desired_nodes", "How many nodes of a pool there should be.", _POOL
        )
        self._pool_ready = gauge(
            "pool_ready_nodes", "How many nodes of a pool there are that take Pods.", _POOL
        )
        self._start_up = gauge(
            "pool_node_startup_seconds",
            "How long a node of a pool took lately from its creation until it was ready.",
            _POOL,
        )
        self._refusals = counter("pool_refusals", "How often a pool had no more nodes to give.")
        self._interruptions = counter(
            "pool_interruptions", "Nodes of a pool that were taken away while they were wanted."
        )
        self._counted: set[tuple[str, str, str]] = set()
        """The labels of the counters' series."""

    def written(
        self, name: str, before: ComputeEnvironmentStatus, after: ComputeEnvironmentStatus
    ) -> None:
        """Count what has happened since an environment's status was written before."""
        for one in pool_changes(before, after):
            self._count((name, *one.pool), one.refusals, one.interruptions)

    def _count(self, labels: tuple[str, str, str], refusals: int, interruptions: int) -> None:
        self._counted.add(labels)
        self._refusals.labels(*labels).inc(refusals)
        self._interruptions.labels(*labels).inc(interruptions)

    def show(self, environments: Collection[Environment]) -> None:
        """What is so now, of all environments that there are."""
        for one in self._gauges:
            one.clear()
        for each in environments:
            self._show_environment(each)
            self._show_pools(each)
        listed = {(one.name, row.name) for one in environments for row in one.spec.instance_types}
        for labels in [one for one in self._counted if one[:2] not in listed]:
            self._counted.remove(labels)
            self._refusals.remove(*labels)
            self._interruptions.remove(*labels)

    def _show_environment(self, environment: Environment) -> None:
        name, status = environment.name, environment.status
        for word in EnvironmentStatus:
            self._status.labels(name, word).set(word is status.status)
        self._max_vcpus.labels(name).set(environment.spec.max_vcpus)
        if status.vcpus is not None:
            self._used_vcpus.labels(name).set(float(status.vcpus.used))
        if status.vcpus is not None and status.vcpus.desired is not None:
            self._desired_vcpus.labels(name).set(status.vcpus.desired)
        if status.nodes is not None:
            self._desired.labels(name).set(status.nodes.desired)
            self._ready.labels(name).set(status.nodes.ready)
            self._draining.labels(name).set(status.nodes.draining)

    def _show_pools(self, environment: Environment) -> None:
        for row in environment.status.pools:
            labels = (environment.name, row.instance_type, row.capacity_type)
            self._pool_desired.labels(*labels).set(row.desired)
            self._pool_ready.labels(*labels).set(row.ready)
            if row.ready_seconds is not None:
                self._start_up.labels(*labels).set(row.ready_seconds)
            self._count(labels, 0, 0)  # the first increase can be seen
