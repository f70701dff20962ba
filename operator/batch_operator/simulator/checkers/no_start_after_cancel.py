"""A job that was cancelled, terminated, suspended or deleted starts nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.cluster.client import BATCH_JOBS, PODS
from batch_operator.simulator.checkers.checker import End, attempt_pod

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from batch_operator.simulator.api_server import Write


class NoStartAfterCancel:
    """`notice_s` is how long the operator may take to learn of the request."""

    name = "no_start_after_cancel"

    def __init__(self, notice_s: float) -> None:
        self._notice_s = notice_s
        self._asked: dict[str, tuple[float, str]] = {}

    def see(self, write: Write) -> Iterable[str]:
        if write.resource is BATCH_JOBS:
            uid = write.object["metadata"]["uid"]
            request = "delete" if write.is_removal else _request(write.object)
            if request is None:
                self._asked.pop(uid, None)
            else:
                self._asked.setdefault(uid, (write.at_s, request))
        elif write.resource is PODS and write.is_creation:
            pod = attempt_pod(write.object)
            since_s, request = self._asked.get(pod.job_uid, (None, "")) if pod else (None, "")
            if pod and since_s is not None and write.at_s > since_s + self._notice_s:
                yield f"Pod {pod.name} was created {write.at_s - since_s:.1f} s after {request}"

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()


def _request(job: Mapping[str, Any]) -> str | None:
    if "deletionTimestamp" in job["metadata"]:
        return "delete"
    spec = job["spec"]
    return next((one for one in ("cancel", "terminate", "suspend") if spec.get(one)), None)
