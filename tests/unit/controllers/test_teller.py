"""What the operator's metrics count of the statuses that it has written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from batch_operator.api.job import BatchJobStatus
from batch_operator.controllers.operator import Teller
from batch_operator.observability.metrics import Metrics
from batch_operator.scheduling.mutations import WriteStatus
from support.builders import job

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
    Teller(metrics).status_written(write, known, stored)


def test_a_change_of_state_is_counted_by_queue_and_state() -> None:
    metrics = Metrics()
    written(metrics, {}, {"state": "RUNNABLE"})
    written(metrics, {"state": "RUNNABLE"}, {"state": "RUNNABLE"})
    labels = {"queue": "main", "state": "RUNNABLE"}

    assert metrics.registry.get_sample_value("batch_operator_job_transitions_total", labels) == 1


def test_a_notice_of_a_time_limit_is_counted_once() -> None:
    metrics = Metrics()
    running: dict[str, Any] = {"state": "RUNNING"}
    written(metrics, running, {**running, "conditions": [NOTICE]})
    written(metrics, {**running, "conditions": [NOTICE]}, {**running, "conditions": [NOTICE]})
    name = "batch_operator_job_time_limit_notices_total"

    assert metrics.registry.get_sample_value(name, {"queue": "main"}) == 1
