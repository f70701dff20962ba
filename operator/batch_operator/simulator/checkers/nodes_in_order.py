"""A multi-node attempt starts whole, and its main node first."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from batch_operator.cluster.client import BATCH_JOBS, PODS
from batch_operator.simulator.checkers.checker import (
    AttemptPod,
    End,
    Revisions,
    attempt_pod,
    title,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.simulator.api_server import Write

_RAN = frozenset({"Running", "Succeeded"})


class NodesInOrder:
    """No Pod may be scheduled before all exist, and none but the main node's before that runs."""

    name = "nodes_in_order"

    def __init__(self) -> None:
        self._jobs: dict[str, Mapping[str, Any]] = {}
        self._revisions = Revisions()
        self._made: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._main_ran: set[tuple[str, int]] = set()
        self._free: set[str] = set()

    def see(self, write: Write) -> Iterable[str]:
        self._revisions.see(write)
        if write.resource is BATCH_JOBS:
            self._jobs[write.object["metadata"]["uid"]] = write.object
        if write.resource is not PODS or write.is_removal:
            return
        pod = attempt_pod(write.object)
        if pod is None or not pod.node or pod.job_uid not in self._jobs:
            return
        gang = pod.job_uid, pod.number
        self._made[gang].add(pod.node)
        if pod.is_main and write.object["status"].get("phase") in _RAN:
            self._main_ran.add(gang)
        if pod.is_gated or pod.uid in self._free:
            return
        self._free.add(pod.uid)
        yield from self._let_go(pod, write.object)

    def _let_go(self, pod: AttemptPod, value: Mapping[str, Any]) -> Iterable[str]:
        job, gang = self._jobs[pod.job_uid], (pod.job_uid, pod.number)
        made, wanted = len(self._made[gang]), self._size(job, value)
        if made < wanted:
            yield f"{title(job)}: {pod.name} was let go when {made} of {wanted} Pods were there"
        if not pod.is_main and gang not in self._main_ran:
            yield f"{title(job)}: {pod.name} was let go before the main node ran"

    def _size(self, job: Mapping[str, Any], pod: Mapping[str, Any]) -> int:
        own: int | None = job["spec"].get("nodeOverrides", {}).get("numNodes")
        definition = self._revisions.of(job, pod)
        number: int = own or definition.get("nodeProperties", {}).get("numNodes", 0)
        return number

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()
