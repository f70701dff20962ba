"""Prometheus metrics. Labels are bounded: queues, pools, verbs; never a job's name or uid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from batch_operator.observability.costs import CostMetrics
from batch_operator.observability.environments import EnvironmentMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

_WAITS_S = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)


class Metrics:
    """All metrics of one operator process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.costs = CostMetrics(self.registry)
        self.environments = EnvironmentMetrics(self.registry)
        self.cycle_seconds = Histogram(
            "batch_operator_cycle_seconds",
            "Time that one scheduling cycle took to decide.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
            registry=self.registry,
        )
        self.looks = self._counter(
            "jobs_looked_at", "Jobs that cycles looked at because something about them changed."
        )
        self.faults = self._counter(
            "faults", "Objects that could not be seen to because of an error in the operator."
        )
        self.mutations = self._counter(
            "mutations",
            "Writes that cycles decided, by kind; repeated wishes count again.",
            "mutation",
        )
        self.transitions = self._counter(
            "job_transitions",
            "Changes of state written to jobs, by queue (empty: there is none) and new state.",
            "queue",
            "state",
        )
        self.over_time = self._counter(
            "job_time_limit_notices",
            "Jobs in a state for longer than a NOTIFY of their queue's time limits, by queue.",
            "queue",
        )
        self.wait_seconds = Histogram(
            "batch_operator_job_start_wait_seconds",
            "Time from submission to the first start of a job's containers.",
            ["queue"],
            buckets=_WAITS_S,
            registry=self.registry,
        )
        self.requests = self._counter(
            "api_requests",
            "Requests to the API server, by verb, resource and HTTP status (0: no reply).",
            "verb",
            "resource",
            "status",
        )
        self.request_seconds = Histogram(
            "batch_operator_api_request_seconds",
            "Time to the API server's reply, waiting for a free connection included.",
            ["verb"],
            registry=self.registry,
        )
        self.cached = self._gauge(
            "cached_objects", "Objects in the operator's memory, by resource.", "resource"
        )
        self.unowned_nodes = self._gauge(
            "unowned_nodes",
            "Nodes of a compute environment that does not exist: nobody removes them.",
            "environment",
        )
        self.statuses_waiting = self._gauge(
            "statuses_waiting", "Status writes that wait for their time."
        )
        self.watch_silence = self._gauge(
            "watch_silence_seconds",
            "Time since the API server was last heard of, by resource.",
            "resource",
        )
        self.relists = self._gauge("watch_lists", "Complete lists so far, by resource.", "resource")

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"batch_operator_{name}_total", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"batch_operator_{name}", what, labels, registry=self.registry)

    def request_done(self, verb: str, resource: str, status: int, seconds: float) -> None:
        """See `http_client.RequestObserver`."""
        self.requests.labels(verb, resource, str(status)).inc()
        self.request_seconds.labels(verb).observe(seconds)

    def set_cached(self, sizes: Mapping[str, int]) -> None:
        for resource, size in sizes.items():
            self.cached.labels(resource).set(size)

    def set_unowned(self, nodes: Mapping[str, int]) -> None:
        self.unowned_nodes.clear()
        for environment, count in nodes.items():
            self.unowned_nodes.labels(environment).set(count)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
