"""Whether a job's dependencies let it go on.

AWS: a job is PENDING until every job it depends on has SUCCEEDED; when one of them FAILED it fails
at once with `Dependent Job failed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_operator.api.job import JobState
from batch_operator.lifecycle.holds import Hold, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.job import BatchJobSpec

DEPENDENT_JOB_FAILED = "Dependent Job failed"
_NAMED_MAX = 3  # a sentence names so many of them; the rest are counted


@dataclass(frozen=True, slots=True)
class DependencyFailed:
    """One of the jobs that this one waits for has failed."""

    job: str


def dependency_hold(
    spec: BatchJobSpec, states: Mapping[str, JobState]
) -> Hold | DependencyFailed | None:
    """None when every dependency has succeeded.

    `states` holds, by name, the jobs of the same namespace that this one depends on and that
    exist; a missing one may still be applied, so the job waits for it, and says so.
    """
    names = [one.job for one in spec.depends_on if one.job is not None]
    for name in names:
        if states.get(name) is JobState.FAILED:
            return DependencyFailed(name)
    missing = [name for name in names if name not in states]
    if missing:
        return Hold(
            Reason.DEPENDENCY_NOT_FOUND,
            f"waits for {_listed(missing)}, which does not exist in this namespace: apply it, "
            f"or submit this job again without the dependency",
            blocked_by=tuple(missing[:_NAMED_MAX]),
            stalled=True,
        )
    open_ones = [name for name in names if states[name] is not JobState.SUCCEEDED]
    if open_ones:
        return Hold(
            Reason.WAITING_FOR_DEPENDENCIES,
            f"waits for {_listed(open_ones)} to succeed",
            blocked_by=tuple(open_ones[:_NAMED_MAX]),
        )
    return None


def _listed(names: list[str]) -> str:
    listed = ", ".join(names[:_NAMED_MAX])
    more = len(names) - _NAMED_MAX
    return f"{listed} and {more} more" if more > 0 else listed
