"""What attempts hold in a compute environment never exceeds its maxvCpus."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from batch_operator.cluster.client import COMPUTE_ENVIRONMENTS, PODS
from batch_operator.simulator.checkers.checker import End, attempt_pod
from batch_operator.simulator.pod_scheduler import pod_request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.simulator.api_server import Write


class CapacityNeverExceeded:
    """Stronger than promised: Pods count from when they may be bound, not from STARTING on.

    What runs when maxvCpus is lowered goes on, so only new Pods are held against the limit. Those
    of a multi-node attempt have their room from when its first one was made. `notice_s` is how long
    the operator may take to learn of a smaller maxvCpus.
    """

    name = "capacity_never_exceeded"

    def __init__(self, notice_s: float) -> None:
        self._notice_s = notice_s
        self._held: dict[str, tuple[str, int]] = {}
        self._used: Counter[str] = Counter()
        self._limits: dict[str, list[tuple[float, int]]] = {}
        self._begun_s: dict[tuple[str, int], float] = {}
        """By job and number of a multi-node attempt."""

    def see(self, write: Write) -> Iterable[str]:
        if write.resource is COMPUTE_ENVIRONMENTS:
            name = write.object["metadata"]["name"]
            limit = write.object["spec"]["maxvCpus"] * 1000
            self._limits.setdefault(name, []).append((write.at_s, limit))
            return
        if write.resource is not PODS or (pod := attempt_pod(write.object)) is None:
            return
        begun_s = write.at_s
        if pod.node:
            begun_s = self._begun_s.setdefault((pod.job_uid, pod.number), begun_s)
        if write.is_removal or not pod.is_live:
            environment, milli_cpu = self._held.pop(pod.uid, ("", 0))
            self._used[environment] -= milli_cpu
        elif pod.uid not in self._held and not pod.is_gated:
            milli_cpu = pod_request(write.object["spec"]).milli_cpu
            self._held[pod.uid] = pod.environment, milli_cpu
            self._used[pod.environment] += milli_cpu
            limit = self._limit(pod.environment, begun_s)
            if self._used[pod.environment] > limit:
                yield (
                    f"with Pod {pod.name} attempts hold {self._used[pod.environment] / 1000:g} "
                    f"vCPUs in {pod.environment}, of {limit / 1000:g}"
                )

    def _limit(self, environment: str, at_s: float) -> int:
        """The largest limit that was valid lately."""
        known = self._limits.get(environment, [])
        valid = [limit for since_s, limit in known if since_s >= at_s - self._notice_s]
        before = [limit for since_s, limit in known if since_s < at_s - self._notice_s]
        return max([*valid, *before[-1:]], default=0)

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()
