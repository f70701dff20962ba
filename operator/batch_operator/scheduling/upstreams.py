"""What jobs see of those that they depend on, and whom a change is told to.

Of a job that is depended on most only want to know how it ends, some how one of its children does,
some how each. An array is written once a second while it runs: who cannot see a difference is not
looked at, and its intervals are read once for all who can.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from batch_operator.api.dependency import DependencyType
from batch_operator.lifecycle.dependencies import names_of
from batch_operator.lifecycle.evaluate import upstream_of
from batch_operator.lifecycle.members import awaited_array
from batch_operator.lifecycle.states import FINAL
from batch_operator.lifecycle.stored_counts import dependencies_met

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_operator.api.job import BatchJobSpec
    from batch_operator.lifecycle.dependencies import Upstream
    from batch_operator.scheduling.snapshot import Job, Key


class Extent(Enum):
    """How much a dependency asks of a job, if not the outcome of one child."""

    END = auto()
    EACH_CHILD = auto()


Part = Extent | int
"""What a dependency asks: with an index, how that child ends."""


class Upstreams:
    """The jobs that others depend on, by namespace and name, and who these others are."""

    def __init__(self) -> None:
        self._dependents: dict[Key, dict[Part, set[str]]] = {}
        self._told: dict[Key, Job | None] = {}
        """The state of a job that those who depend on it have last been looked at for."""
        self._read: dict[Key, tuple[Job, Upstream]] = {}

    def meet(self, job: Job) -> None:
        """Note what a job depends on, which never changes."""
        for name, part in _parts_of(job.spec):
            parts = self._dependents.setdefault((job.namespace, name), {})
            parts.setdefault(part, set()).add(job.uid)

    def forget(self, job: Job) -> None:
        """Drop a job that depends on nothing any more, and what nobody else depends on."""
        for name, part in _parts_of(job.spec):
            key = (job.namespace, name)
            parts = self._dependents.get(key, {})
            parts.get(part, set()).discard(job.uid)
            if not parts.get(part):
                parts.pop(part, None)
            if not parts:
                for known in (self._dependents, self._told, self._read):
                    known.pop(key, None)

    def is_awaited(self, key: Key) -> bool:
        """Whether any job depends on that one."""
        return key in self._dependents

    def is_other(self, key: Key, job: Job | None) -> bool:
        """Whether a name stands for another job than it was last told to, or for none."""
        before = self._told.get(key)
        return before is None or job is None or before.uid != job.uid

    def note(self, key: Key, job: Job | None) -> None:
        """One who depends on a job is looked at now: have it told of what changes from here on."""
        self._told.setdefault(key, job)

    def tell(self, key: Key, job: Job | None) -> set[str]:
        """Those who depend on a job, and see a difference to what they were last told of it."""
        parts = self._dependents[key]
        if key in self._told:
            before = self._told[key]
            seen = {part: self._view(part, before) for part in parts}
            parts = {part: parts[part] for part in parts if self._view(part, job) != seen[part]}
        self._told[key] = job
        return set().union(*parts.values())

    def read(self, job: Job) -> Upstream:
        """The job as it is seen by those that depend on it."""
        known = self._read.get(job.key)
        if known is None or known[0] is not job:
            known = self._read[job.key] = (job, upstream_of(job))
        return known[1]

    def _view(self, part: Part, job: Job | None) -> tuple[object, ...] | None:
        """All that can be seen of a job by one who asks for that part of it."""
        if job is None:
            return None
        status = job.status
        end = status.state if status.state in FINAL else None
        waits = bool(names_of(job.spec)) and not dependencies_met(status)
        common = (job.uid, end, awaited_array(job), waits)
        if part is Extent.END:
            return common
        if part is Extent.EACH_CHILD:
            indexes = status.array.indexes if status.array else None
            return (*common, indexes and (indexes.succeeded, indexes.failed))
        upstream = self.read(job)
        return (*common, part in upstream.succeeded, part in upstream.failed)


def _parts_of(spec: BatchJobSpec) -> Iterator[tuple[str, Part]]:
    """What a job asks of which others; failed indexes to run again are asked for at the end."""
    for one in spec.depends_on:
        if one.job is None:
            continue
        if one.type is DependencyType.N_TO_N:
            yield one.job, Extent.EACH_CHILD
        else:
            yield one.job, Extent.END if one.index is None else one.index
    array = spec.array_properties
    if array is not None and array.rerun_failed_of is not None:
        yield array.rerun_failed_of, Extent.END
