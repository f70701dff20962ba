"""Metrics of costs: counters of what statuses that were written say, by how much it has grown.

A counter begins at nothing with every start of the operator, as all counters do; the whole is in
the statuses.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import Counter as Metric
from prometheus_client import Gauge

from batch_operator.api.cost import MICROS, micros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

    from batch_operator.api.cost import EnvironmentCost, QueueCost


class CostMetrics:
    """In the currency of the prices."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queue = Metric(
            "batch_operator_queue_cost_total",
            "What attempts that are over have cost, by queue and kind: used, of that wasted, and "
            "spot_savings.",
            ["queue", "kind"],
            registry=registry,
        )
        self._environment = Metric(
            "batch_operator_environment_cost_total",
            "What nodes have cost, by compute environment and kind: used, idle, of used wasted, "
            "and spot_savings.",
            ["environment", "kind"],
            registry=registry,
        )
        self._node = Metric(
            "batch_operator_node_cost_total",
            "What nodes have cost, by compute environment and capacity type.",
            ["environment", "capacity_type"],
            registry=registry,
        )
        self._running = Gauge(
            "batch_operator_running_cost_per_hour",
            "What the attempts that run cost in an hour, by queue.",
            ["queue"],
            registry=registry,
        )

    def set_running(self, costs: Mapping[str, float]) -> None:
        """By queue."""
        for queue, cost in costs.items():
            self._running.labels(queue).set(cost)

    def count_queue(self, name: str, before: QueueCost | None, after: QueueCost | None) -> None:
        """What the jobs of a queue have cost since its status was written before."""
        _count(_of_queue(before), _of_queue(after), lambda kind: self._queue.labels(name, kind))

    def count_environment(
        self, name: str, before: EnvironmentCost | None, after: EnvironmentCost | None
    ) -> None:
        """The same of an environment; and its nodes by capacity type."""
        _count(
            _of_environment(before),
            _of_environment(after),
            lambda kind: self._environment.labels(name, kind),
        )
        _count(_of_nodes(before), _of_nodes(after), lambda kind: self._node.labels(name, kind))


def _count(
    before: Mapping[str, int], after: Mapping[str, int], counter_of: Callable[[str], Metric]
) -> None:
    for kind, cost in after.items():
        grown = cost - before.get(kind, 0)
        if grown > 0:
            counter_of(kind).inc(grown / MICROS)


def _of_queue(cost: QueueCost | None) -> dict[str, int]:
    if cost is None:
        return {}
    return {
        "used": micros(cost.total),
        "wasted": micros(cost.wasted),
        "spot_savings": micros(cost.spot_savings),
    }


def _of_environment(cost: EnvironmentCost | None) -> dict[str, int]:
    if cost is None:
        return {}
    return {
        "used": micros(cost.used),
        "idle": micros(cost.idle or "0.00"),
        "wasted": micros(cost.wasted),
        "spot_savings": micros(cost.spot_savings),
    }


def _of_nodes(cost: EnvironmentCost | None) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in cost.pools if cost is not None else ():
        found[row.capacity_type] += micros(row.cost)
    return dict(found)
