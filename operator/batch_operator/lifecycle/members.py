"""Which children a job has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.index_set import IndexSet

if TYPE_CHECKING:
    from batch_operator.api.job import BatchJobSpec, BatchJobStatus
    from batch_operator.api.stored import Stored

    Job = Stored[BatchJobSpec, BatchJobStatus]


def members_of(job: Job) -> IndexSet:
    """The indexes that a job consists of.

    `{0}` for a job that is no array, or names none right; none for a `rerunFailedOf` whose children
    are not known yet.
    """
    array = job.spec.array_properties
    if array is None:
        return IndexSet.range(1)
    if array.rerun_failed_of is not None:
        stored = job.status.array
        return IndexSet.parse(stored.members if stored else None)
    if array.indexes is None:
        return IndexSet.range(array.size or 1)
    try:
        return IndexSet.parse(array.indexes)
    except ValueError:
        return IndexSet.range(1)  # `plan` says what is wrong with it


def told_size(job: Job) -> int:
    """The children's AWS_BATCH_JOB_ARRAY_SIZE, which is above the index of each of them.

    Programs divide their work by it. So a rerun has that of the array whose work it does.
    """
    array, stored = job.spec.array_properties, job.status.array
    recorded = stored.told_size if stored is not None else None
    given = array.size if array is not None else None
    return recorded or given or members_of(job).end


def awaited_array(job: Job) -> str | None:
    """The array whose failed indexes will be this one's, as long as they are not recorded.

    They are recorded once: what becomes of the other array later changes nothing.
    """
    array = job.spec.array_properties
    is_recorded = job.status.array is not None and job.status.array.members is not None
    return None if array is None or is_recorded else array.rerun_failed_of
