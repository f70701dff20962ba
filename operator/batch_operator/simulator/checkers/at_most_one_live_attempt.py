"""At most one attempt of a job, or of an array child, is alive at any time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from batch_operator.cluster.client import PODS
from batch_operator.simulator.checkers.checker import AttemptPod, End, attempt_pod

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.simulator.api_server import Write


class AtMostOneLiveAttempt:
    """The nodes of one multi-node attempt are alive together, each of them once."""

    name = "at_most_one_live_attempt"

    def __init__(self) -> None:
        self._live: dict[tuple[str, int], dict[str, AttemptPod]] = defaultdict(dict)

    def see(self, write: Write) -> Iterable[str]:
        if write.resource is not PODS or (pod := attempt_pod(write.object)) is None:
            return
        live = self._live[pod.child]
        if write.is_removal or not pod.is_live:
            live.pop(pod.uid, None)
            return
        others = [one for one in live.values() if one.uid != pod.uid]
        live[pod.uid] = pod
        if not write.is_creation:
            return
        for other in others:
            if other.number != pod.number or other.node == pod.node:
                yield f"Pod {pod.name} was created while {other.name} of the same child lives"

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()
