"""A rerun of failed indexes runs those that failed, recorded before the first of them starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api.index_set import IndexSet
from batch_operator.cluster.client import BATCH_JOBS, PODS
from batch_operator.simulator.checkers.checker import End, attempt_pod, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.simulator.api_server import Write

_FINAL = frozenset({"SUCCEEDED", "FAILED"})


class RerunSetIsFixed:
    """What is recorded once never changes, whatever becomes of the job that it was read from."""

    name = "rerun_set_is_fixed"

    def __init__(self) -> None:
        self._by_uid: dict[str, Mapping[str, Any]] = {}
        self._by_name: dict[tuple[str, str], Mapping[str, Any]] = {}

    def see(self, write: Write) -> Iterable[str]:
        value = write.object
        if write.resource is BATCH_JOBS:
            yield from self._see_job(value)
            metadata = value["metadata"]
            self._by_uid[metadata["uid"]] = value
            self._by_name[metadata["namespace"], metadata["name"]] = value
        elif write.resource is PODS and write.is_creation:
            pod = attempt_pod(value)
            job = self._by_uid.get(pod.job_uid) if pod else None
            if pod is None or job is None or _other(job) is None:
                return
            if pod.index not in IndexSet.parse(_recorded(job)):
                yield f"{title(job)} index {pod.index} has started, but is not recorded"

    def _see_job(self, job: Mapping[str, Any]) -> Iterable[str]:
        other = _other(job)
        now = _recorded(job)
        if other is None:
            return
        before = _recorded(self._by_uid.get(job["metadata"]["uid"], {}))
        if before is not None and now != before:
            yield f"{title(job)} was to run {before} again, and now {now}"
        if before is not None or now is None:
            return
        found = self._by_name.get((job["metadata"]["namespace"], other), {})
        status = found.get("status", {})
        failed = ((status.get("array") or {}).get("indexes") or {}).get("failed", "")
        if status.get("state") not in _FINAL or failed != now:
            yield f"{title(job)} is to run {now} again, but of {other} failed: {failed}"

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()


def _other(job: Mapping[str, Any]) -> str | None:
    name: str | None = (job["spec"].get("arrayProperties") or {}).get("rerunFailedOf")
    return name


def _recorded(job: Mapping[str, Any]) -> str | None:
    members: str | None = (job.get("status", {}).get("array") or {}).get("members")
    return members
