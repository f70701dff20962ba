"""Attempts that the operator ended for reasons of its own, or a node rejected: they cost no try."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.index_set import IndexSet
from batch_operator.cluster.client import BATCH_JOBS, JOBS, PODS
from batch_operator.lifecycle.children import REQUEUES_MAX
from batch_operator.lifecycle.outcomes import MOVED, PREEMPTED, REJECTED, SUSPENDED
from batch_operator.simulator.checkers.checker import attempt_pod
from batch_operator.simulator.kubelet import REJECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from batch_operator.simulator.api_server import Write


class Requeues:
    """Counts them, by child, as their Pods tell of them, or the Job that was to make these."""

    def __init__(self) -> None:
        self._those: dict[tuple[str, int], set[str]] = defaultdict(set)

    def see(self, write: Write) -> None:
        value, metadata = write.object, write.object["metadata"]
        is_marked = meta.ANNOTATION_REQUEUED in metadata.get("annotations", {})
        if write.resource is BATCH_JOBS and write.is_creation:
            for index, times in _stored(value.get("status", {})):
                known = self._those[metadata["uid"], index]
                known.update(f"before {number}" for number in range(times))
        elif write.resource is PODS and (pod := attempt_pod(value)) is not None:
            if is_marked or value.get("status", {}).get("reason") in REJECTIONS:
                self._those[pod.child].add(pod.name)
        elif write.resource is JOBS and is_marked:
            self._those[metadata["labels"][meta.LABEL_JOB_UID], 0].add(metadata["name"])

    def of(self, child: tuple[str, int]) -> int:
        """How many attempts of a child have cost it no try."""
        return min(len(self._those[child]), REQUEUES_MAX)


def _stored(status: Mapping[str, Any]) -> Iterable[tuple[int, int]]:
    """Index and number of such attempts, of a job that comes with a past."""
    rows = status.get("attempts", ())
    if requeued := sum(
        row.get("statusReason", "").startswith((PREEMPTED, MOVED, SUSPENDED))
        or row.get("reason", "").startswith(REJECTED)
        for row in rows
    ):
        yield 0, requeued
    times: Counter[int] = Counter()
    array = status.get("array") or {}
    for row in (*array.get("preempted", ()), *array.get("moved", ())):
        times.update(dict.fromkeys(IndexSet.parse(row["indexes"]), row["times"]))
    yield from times.items()
