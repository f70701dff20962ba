"""What a job's stored status says of its children: `lifecycle.children` says why that matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState
from batch_operator.lifecycle.children import Counted
from batch_operator.lifecycle.members import members_of
from batch_operator.lifecycle.outcomes import (
    HOST_LOST,
    MOVED,
    OUT_OF_MEMORY,
    PREEMPTED,
    REJECTED,
    SUSPENDED,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_operator.api.array_rows import IndexEvents
    from batch_operator.api.job import BatchJobStatus
    from batch_operator.lifecycle.evaluate import Job


def dependencies_met(status: BatchJobStatus) -> bool:
    """Whether the stored status already says that all of the job is past its dependencies."""
    if status.array is not None:
        summary = status.array.status_summary
        return not (summary.get(JobState.SUBMITTED) or summary.get(JobState.PENDING))
    return status.state not in {JobState.SUBMITTED, JobState.PENDING}


def passed_in(job: Job) -> IndexSet:
    """The children that the stored status says are past their dependencies."""
    array = job.status.array
    if job.spec.array_properties is None:
        return members_of(job) if dependencies_met(job.status) else IndexSet()
    if array is None:
        return IndexSet()
    passed = IndexSet()
    for state in ("runnable", "starting", "running", "succeeded", "failed"):
        passed |= IndexSet.parse(getattr(array.indexes, state))
    return passed


def counted_in(job: Job, members: IndexSet | None = None) -> Counted:
    """What the stored status has counted.

    `members` are the job's children where the status does not say them yet.
    """
    members = members_of(job) if members is None else members
    status = job.status
    if job.spec.array_properties is None:
        return _counted_rows(status, members)
    if status.array is None:
        return Counted(members=members)
    return Counted(
        members=members,
        succeeded=IndexSet.parse(status.array.indexes.succeeded),
        failed=IndexSet.parse(status.array.indexes.failed),
        attempts={row.attempts: IndexSet.parse(row.indexes) for row in status.array.attempts},
        out_of_memory=_events(status.array.out_of_memory),
        hosts_lost=_events(status.array.hosts_lost),
        preempted=_events(status.array.preempted),
        moved=_events(status.array.moved),
        failures={
            (row.exit_code, row.reason, row.status_reason): IndexSet.parse(row.indexes)
            for row in status.array.failures
        },
    )


def _counted_rows(status: BatchJobStatus, members: IndexSet) -> Counted:
    """A job that is no array keeps a row for each attempt."""
    if status.state is JobState.SUCCEEDED:
        return Counted(members=members, succeeded=members)
    if status.state is JobState.FAILED:
        return Counted(members=members, failed=members)
    ended = [row for row in status.attempts if row.stopped_at is not None]
    if not ended:
        return Counted(members=members)
    why = [row.status_reason or "" for row in ended]
    details = [row.reason or "" for row in ended]

    def times(events: Iterable[bool]) -> dict[int, IndexSet]:
        count = sum(events)
        return {count: members} if count else {}

    return Counted(
        members=members,
        attempts={len(ended): members},
        out_of_memory=times(one.startswith(OUT_OF_MEMORY) for one in details),
        hosts_lost=times(one.startswith(HOST_LOST) for one in why),
        preempted=times(
            one.startswith((PREEMPTED, SUSPENDED)) or detail.startswith(REJECTED)
            for one, detail in zip(why, details, strict=True)
        ),
        moved=times(one.startswith(MOVED) for one in why),
    )


def _events(rows: Sequence[IndexEvents]) -> dict[int, IndexSet]:
    return {row.times: IndexSet.parse(row.indexes) for row in rows}
