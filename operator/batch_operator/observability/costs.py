"""Counters of costs, from statuses that were written: by how much each has grown.

A counter begins at nothing with every start of the operator, as all counters do; the whole is in
the statuses.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from batch_operator.api.cost import MICROS, micros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import Counter as Metric

    from batch_operator.api.cost import EnvironmentCost, QueueCost
    from batch_operator.observability.metrics import Metrics


def count_queue(
    metrics: Metrics, name: str, before: QueueCost | None, after: QueueCost | None
) -> None:
    """What the jobs of a queue have cost since its status was written before."""
    _count(_of_queue(before), _of_queue(after), lambda kind: metrics.queue_cost.labels(name, kind))


def count_environment(
    metrics: Metrics, name: str, before: EnvironmentCost | None, after: EnvironmentCost | None
) -> None:
    """The same of an environment; and its nodes by capacity type."""
    kinds = metrics.environment_cost
    _count(_of_environment(before), _of_environment(after), lambda kind: kinds.labels(name, kind))
    nodes = metrics.node_cost
    _count(_of_nodes(before), _of_nodes(after), lambda kind: nodes.labels(name, kind))


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
