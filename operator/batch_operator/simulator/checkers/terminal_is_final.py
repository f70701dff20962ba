"""SUCCEEDED and FAILED are never left, and what has ended never runs again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api.index_set import IndexSet
from batch_operator.cluster.client import BATCH_JOBS, PODS
from batch_operator.simulator.checkers.checker import End, attempt_pod, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.simulator.api_server import Write

_FINAL = frozenset({"SUCCEEDED", "FAILED"})
_FIXED = ("state", "statusReason", "startedAt", "stoppedAt", "array", "attempts")


class TerminalIsFinal:
    """Holds for jobs and, through the array's index sets, for every child."""

    name = "terminal_is_final"

    def __init__(self) -> None:
        self._jobs: dict[str, Mapping[str, Any]] = {}

    def see(self, write: Write) -> Iterable[str]:
        if write.resource is BATCH_JOBS:
            yield from self._see_job(write)
        elif write.resource is PODS and write.is_creation:
            pod = attempt_pod(write.object)
            job = self._jobs.get(pod.job_uid) if pod else None
            if pod is None or job is None:
                return
            status = job.get("status", {})
            if status.get("state") in _FINAL:
                yield f"Pod {pod.name} was created for {title(job)}, which is {status['state']}"
            elif pod.index in _ended(status, "succeeded") | _ended(status, "failed"):
                yield f"Pod {pod.name} was created for index {pod.index}, which had ended"

    def _see_job(self, write: Write) -> Iterable[str]:
        uid = write.object["metadata"]["uid"]
        if write.after is None:
            self._jobs.pop(uid, None)
            return
        self._jobs[uid] = write.after
        if write.before is None:
            return
        before, after = write.before.get("status", {}), write.after.get("status", {})
        if before.get("state") in _FINAL:
            for field in _FIXED:
                if before.get(field) != after.get(field):
                    yield f"{title(write.object)} was {before['state']} and its {field} changed"
        for outcome in ("succeeded", "failed"):
            lost = _ended(before, outcome) - _ended(after, outcome)
            if lost:
                yield f"{title(write.object)}: indexes {lost} were {outcome} and no longer are"

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()


def _ended(status: Mapping[str, Any], outcome: str) -> IndexSet:
    indexes = (status.get("array") or {}).get("indexes") or {}
    return IndexSet.parse(indexes.get(outcome))
