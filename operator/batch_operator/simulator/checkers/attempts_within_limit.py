"""No child is tried more often than its retry strategy allows, and no attempt is counted twice."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from batch_operator.api.index_set import IndexSet
from batch_operator.cluster.client import BATCH_JOBS, PODS
from batch_operator.simulator.checkers.checker import (
    AttemptPod,
    End,
    Revisions,
    attempt_pod,
    title,
)
from batch_operator.simulator.checkers.requeues import Requeues

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.simulator.api_server import Write


class AttemptsWithinLimit:
    """The limit is the job's own, or that of the definition's revision which its Pod names."""

    name = "attempts_within_limit"

    def __init__(self) -> None:
        self._jobs: dict[str, Mapping[str, Any]] = {}
        self._revisions = Revisions()
        self._numbers: dict[tuple[str, int], set[int]] = defaultdict(set)
        self._requeues = Requeues()

    def see(self, write: Write) -> Iterable[str]:
        value = write.object
        self._revisions.see(write)
        self._requeues.see(write)
        if write.resource is BATCH_JOBS:
            uid = value["metadata"]["uid"]
            self._jobs[uid] = value
            if write.is_creation:
                status = value.get("status", {})
                for index, used in _used(status):
                    self._numbers[uid, index].update(range(1, used + 1))
            yield from _rows(value)
        elif write.resource is PODS:
            pod = attempt_pod(value)
            if pod is None or pod.job_uid not in self._jobs:
                return
            if write.is_creation:
                yield from self._started(pod, value)

    def _started(self, pod: AttemptPod, value: Mapping[str, Any]) -> Iterable[str]:
        job = self._jobs[pod.job_uid]
        numbers = self._numbers[pod.child]
        if pod.number > max(numbers, default=0) + 1:
            yield f"Pod {pod.name} is attempt {pod.number}, but the last one was {len(numbers)}"
        numbers.add(pod.number)
        limit = self._limit(job, value) + self._requeues.of(pod.child)
        if pod.number > limit:
            yield f"{title(job)} index {pod.index}: attempt {pod.number} of {limit}"

    def _limit(self, job: Mapping[str, Any], pod: Mapping[str, Any]) -> int:
        definition = self._revisions.of(job, pod)
        strategy = job["spec"].get("retryStrategy") or definition.get("retryStrategy") or {}
        limit: int = strategy.get("attempts", 1)
        return limit

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()


def _used(status: Mapping[str, Any]) -> Iterable[tuple[int, int]]:
    """Index and number of attempts used up, of a job that comes with a past."""
    if ended := sum("stoppedAt" in row for row in status.get("attempts", ())):
        yield 0, ended
    for row in (status.get("array") or {}).get("attempts", ()):
        for index in IndexSet.parse(row["indexes"]):
            yield index, row["attempts"]


def _rows(job: Mapping[str, Any]) -> Iterable[str]:
    rows = job.get("status", {}).get("attempts", [])
    for field in ("attempt", "podUid"):
        values = [row[field] for row in rows]
        if len(set(values)) != len(values):
            yield f"{title(job)}: status.attempts names one {field} twice"
