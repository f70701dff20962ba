"""How a job ends once all of its children have: state, AWS's words for why, and its last words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_operator.api.job import JobState
from batch_operator.lifecycle.limits import EXCEEDED, is_of_limit
from batch_operator.lifecycle.outcomes import EXITED
from batch_operator.lifecycle.stops import TIMED_OUT

if TYPE_CHECKING:
    from batch_operator.api.job import BatchJobSpec, BatchJobStatus
    from batch_operator.api.stored import Stored
    from batch_operator.lifecycle.children import Children
    from batch_operator.lifecycle.dependencies import Doom
    from batch_operator.lifecycle.stops import Stop

    Job = Stored[BatchJobSpec, BatchJobStatus]

ARRAY_CHILD_FAILED = "Array Child Job failed"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends: state, AWS's string for why; a token and a sentence for its conditions."""

    state: JobState
    status_reason: str
    token: str
    message: str


def ending_of(job: Job, children: Children, stop: Stop | None, doom: Doom | None) -> Ending:
    """The outcome that the children's outcomes give (AWS: SUCCEEDED iff all children did)."""
    counted = children.counted
    if not counted.members:
        return _ending_of_none(job, doom)
    is_array = job.spec.array_properties is not None
    if not counted.failed:
        message = f"all {len(counted.members)} children succeeded"
        if not is_array:
            message = "the job succeeded"
        return Ending(JobState.SUCCEEDED, EXITED, "Succeeded", message)
    kinds = list(counted.failures)
    if stop and any(reason == stop.status_reason for _, _, reason in kinds):
        return Ending(JobState.FAILED, stop.status_reason, stop.token, stop.message)
    if doom and kinds == [(None, None, doom.status_reason)] and not counted.succeeded:
        return Ending(JobState.FAILED, doom.status_reason, doom.token, doom.message)
    if is_array:
        message = f"{len(counted.failed)} of {len(counted.members)} children failed"
        return Ending(JobState.FAILED, ARRAY_CHILD_FAILED, "ArrayChildJobFailed", message)
    exit_code, reason, status_reason = kinds[0] if kinds else (None, None, None)
    detail = [status_reason or "the last attempt failed"]
    if exit_code is not None:
        detail.append(f"exit code {exit_code}")
    if reason:
        detail.append(reason)
    token = "TimedOut" if status_reason == TIMED_OUT else "AttemptFailed"
    if is_of_limit(status_reason):
        token = EXCEEDED
    return Ending(JobState.FAILED, detail[0], token, "; ".join(detail))


def _ending_of_none(job: Job, doom: Doom | None) -> Ending:
    """The outcome of a rerun of failed indexes of which there are none, or that never got them."""
    if doom is not None:
        return Ending(JobState.FAILED, doom.status_reason, doom.token, doom.message)
    array = job.spec.array_properties
    message = f"nothing failed in {array.rerun_failed_of if array else None}: nothing to run again"
    return Ending(JobState.SUCCEEDED, message, "NothingToRerun", message)
