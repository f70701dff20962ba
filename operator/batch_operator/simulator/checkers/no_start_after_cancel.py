"""A job that was cancelled, terminated, suspended or deleted starts nothing more.

Neither is a Pod made for it, nor does one that was made get a node: of a multi-node job that goes
for the main node, with which the others begin and end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.cluster.client import BATCH_JOBS, PODS
from batch_operator.lifecycle.children import REQUEUES_MAX
from batch_operator.simulator.checkers.checker import AttemptPod, End, attempt_pod
from batch_operator.simulator.checkers.requeues import Requeues

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from batch_operator.simulator.api_server import Write


_NOT_ASKED = {"indexes": ""}


class NoStartAfterCancel:
    """`notice_s` is how long the operator may take to learn of the request."""

    name = "no_start_after_cancel"

    def __init__(self, notice_s: float) -> None:
        self._notice_s = notice_s
        self._asked: dict[str, tuple[float, str]] = {}
        self._on_nodes: set[str] = set()
        self._requeues = Requeues()

    def see(self, write: Write) -> Iterable[str]:
        self._requeues.see(write)
        if write.resource is BATCH_JOBS:
            uid = write.object["metadata"]["uid"]
            request = "delete" if write.is_removal else _request(write.object)
            if request is None:
                self._asked.pop(uid, None)
            else:
                self._asked.setdefault(uid, (write.at_s, request))
        elif write.resource is PODS and (pod := attempt_pod(write.object)) is not None:
            is_placed = pod.is_bound and pod.is_main and pod.uid not in self._on_nodes
            if is_placed:
                self._on_nodes.add(pod.uid)
            since_s, request = self._asked.get(pod.job_uid, (write.at_s, ""))
            if write.at_s <= since_s + self._notice_s:
                return
            if write.is_creation:
                yield f"Pod {pod.name} was created {write.at_s - since_s:.1f} s after {request}"
            elif is_placed and not self._stays(pod, request):
                yield f"Pod {pod.name} got a node {write.at_s - since_s:.1f} s after {request}"

    def _stays(self, pod: AttemptPod, request: str) -> bool:
        """Whether it may go on waiting, its job suspended or not: it was requeued so often."""
        return request == "suspend" and self._requeues.of(pod.child) >= REQUEUES_MAX

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()


def _request(job: Mapping[str, Any]) -> str | None:
    if "deletionTimestamp" in job["metadata"]:
        return "delete"
    spec = job["spec"]
    if spec.get("suspend"):
        return "suspend"
    # Of children that are ended by themselves no Pod tells here.
    whole = (one for one in ("cancel", "terminate") if "indexes" not in spec.get(one, _NOT_ASKED))
    return next(whole, None)
