"""In the end a job is over, runs, or says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.cluster.client import BATCH_JOBS
from batch_operator.simulator.checkers.checker import End, title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.simulator.api_server import Write

_NEEDS_NO_REASON = frozenset({"RUNNING", "SUCCEEDED", "FAILED"})
_PASSES = frozenset(
    {
        "ConsumableResourceBusy",
        "ContainersStarting",
        "JobDefinitionNotReady",
        "OperatorError",
        "ParametersBeingRecorded",
        "PodRefused",
        "Stopping",
        "WaitingForNode",
    }
)
"""Reasons that pass by themselves: in a world at rest they mean that something was forgotten."""


class PlacedOrHeld:
    """Asked only when things have settled: before that, a job may just not have been looked at."""

    name = "placed_or_held"

    def see(self, write: Write) -> Iterable[str]:
        del write
        return ()

    def finish(self, end: End) -> Iterable[str]:
        if not end.is_settled:
            return
        for job in end.server.objects(BATCH_JOBS):
            status = job.get("status", {})
            if status.get("state") in _NEEDS_NO_REASON:
                continue
            pending = status.get("pending") or {}
            if not pending.get("message"):
                yield f"{title(job)} is {status.get('state')} and does not say why"
            if pending.get("reason") in _PASSES:
                yield f"{title(job)} waits for nothing: {pending['reason']}: {pending['message']}"
            if status.get("observedGeneration") != job["metadata"]["generation"]:
                yield f"{title(job)}: its last change has not been looked at"
