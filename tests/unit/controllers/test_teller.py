"""What the operator's metrics count of the statuses that it has written."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from batch_operator.api.compute_environment import ComputeEnvironmentStatus
from batch_operator.api.job import BatchJobStatus
from batch_operator.api.job_queue import JobQueueStatus
from batch_operator.controllers.operator import Teller
from batch_operator.observability.metrics import Metrics
from batch_operator.scheduling.mutations import WriteStatus
from support.builders import START, environment, job, queue

NOTICE = {
    "type": "TimeLimitExceeded",
    "status": "True",
    "reason": "Running",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def written(metrics: Metrics, before: dict[str, Any], after: dict[str, Any]) -> None:
    one = job()
    known, stored = (
        replace(one, status=BatchJobStatus.model_validate(status)) for status in (before, after)
    )
    write = WriteStatus("BatchJob", "default", "job", one.uid, 1, stored.status)
    Teller(metrics, lambda: {"main"}).status_written(write, known, stored)


def test_a_change_of_state_is_counted_by_queue_and_state() -> None:
    metrics = Metrics()
    written(metrics, {}, {"state": "RUNNABLE"})
    written(metrics, {"state": "RUNNABLE"}, {"state": "RUNNABLE"})
    labels = {"queue": "main", "state": "RUNNABLE"}

    assert metrics.registry.get_sample_value("batch_operator_job_transitions_total", labels) == 1


def test_queues_that_do_not_exist_are_counted_as_one() -> None:
    metrics, notice = Metrics(), {"conditions": [NOTICE]}
    for number in range(20):
        one = job(jobQueue=f"invented-{number}")
        running = BatchJobStatus.model_validate({"state": "RUNNING", "startedAt": START, **notice})
        after = replace(one, status=running)
        write = WriteStatus("BatchJob", "default", "job", one.uid, 1, after.status)
        Teller(metrics, lambda: {"main"}).status_written(write, one, after)
    queues = {
        sample.labels["queue"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if family.name.startswith("batch_operator_job_") and "queue" in sample.labels
    }
    labels = {"queue": "", "state": "RUNNING"}

    assert queues == {""}
    assert metrics.registry.get_sample_value("batch_operator_job_transitions_total", labels) == 20


def test_a_notice_of_a_time_limit_is_counted_once() -> None:
    metrics = Metrics()
    running: dict[str, Any] = {"state": "RUNNING"}
    written(metrics, running, {**running, "conditions": [NOTICE]})
    written(metrics, {**running, "conditions": [NOTICE]}, {**running, "conditions": [NOTICE]})
    name = "batch_operator_job_time_limit_notices_total"

    assert metrics.registry.get_sample_value(name, {"queue": "main"}) == 1


def test_costs_of_a_queue_are_counted_as_they_grow() -> None:
    metrics, one = Metrics(), queue()
    rows = ({}, {"total": "1.50", "wasted": "0.25"}, {"total": "2.00", "wasted": "0.25"})
    states = [
        replace(one, status=JobQueueStatus.model_validate({"cost": row} if row else {}))
        for row in rows
    ]
    write = WriteStatus("JobQueue", "", "main", one.uid, 1, states[-1].status)
    for before, after in itertools.pairwise(states):
        Teller(metrics, lambda: {"main"}).status_written(write, before, after)

    assert _cost(metrics, "queue", "used", queue="main") == 2
    assert _cost(metrics, "queue", "wasted", queue="main") == 0.25


def test_costs_of_an_environment_are_counted_by_kind_and_of_nodes_by_capacity_type() -> None:
    metrics, one = Metrics(), environment()
    at = "2026-01-01T00:00:00Z"
    pool = {"instanceType": "t", "capacityType": "spot", "nodes": 1, "cost": "3.00"}
    said = {
        "nodes": "3.00",
        "used": "2.00",
        "idle": "1.00",
        "wasted": "0.50",
        "spotSavings": "4.00",
    }
    cost = {"since": at, "settledAt": at, **said, "pools": [pool]}
    after = replace(one, status=ComputeEnvironmentStatus.model_validate({"cost": cost}))
    write = WriteStatus("ComputeEnvironment", "", "local", one.uid, 1, after.status)
    Teller(metrics, lambda: {"main"}).status_written(write, one, after)
    kinds = {
        kind: _cost(metrics, "environment", kind, environment="local")
        for kind in ("used", "idle", "wasted", "spot_savings")
    }
    labels = {"environment": "local", "capacity_type": "spot"}

    assert kinds == {"used": 2, "idle": 1, "wasted": 0.5, "spot_savings": 4}
    assert metrics.registry.get_sample_value("batch_operator_node_cost_total", labels) == 3


def _cost(metrics: Metrics, what: str, kind: str, **labels: str) -> float | None:
    name = f"batch_operator_{what}_cost_total"
    return metrics.registry.get_sample_value(name, {"kind": kind, **labels})
