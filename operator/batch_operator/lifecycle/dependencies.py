"""Which children of a job its dependencies let go on, which never can, and why the rest waits.

AWS: a job is PENDING until every job it depends on has SUCCEEDED, and fails at once with
`Dependent Job failed` when one of them FAILED. An array may also wait child by child: `N_TO_N` for
the child with the same index of another array, `SEQUENTIAL` for its own child before. Beyond AWS:
one child of an array, and `AFTER_ANY` and `AFTER_FAILED`.

Dependencies are asked until they let a child through, and not again: what was let through stays so
when the job that it waited for is deleted later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_operator.api.dependency import DependencyType
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState
from batch_operator.api.sentences import NAMED_MAX, listed, shortened
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.states import FINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from batch_operator.api.dependency import Dependency
    from batch_operator.api.job import BatchJobSpec
    from batch_operator.lifecycle.array_parameters import RecordedLines

DEPENDENT_JOB_FAILED = "Dependent Job failed"
NEVER_SATISFIED = "Dependency never satisfied"

INDEXES_LENGTH_MAX = 60
"""So much of a set of indexes is shown in a sentence."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A job that another one depends on, as it is stored. `is_array` says that it has children.

    Which these are may not be known yet: then it is a `rerunFailedOf` that waits.
    """

    state: JobState
    members: IndexSet
    succeeded: IndexSet
    failed: IndexSet
    is_array: bool
    knows_members: bool = True
    lines: RecordedLines | None = None
    told_size: int = 1
    """AWS_BATCH_JOB_ARRAY_SIZE of its children."""
    is_rerun: bool = False
    """Its children are those that failed in another array."""

    @property
    def never(self) -> IndexSet:
        """Children that have failed, or that a job that is over will never run."""
        return self.members - self.succeeded if self.state in FINAL else self.failed


@dataclass(frozen=True, slots=True)
class Doom:
    """Why children that never ran count as failed: a statusReason, a token, and a sentence."""

    status_reason: str
    token: str
    message: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What dependencies say of a job's children: `open` may run, `doomed` never can."""

    open: IndexSet
    doomed: IndexSet = IndexSet()
    doom: Doom | None = None
    hold: Hold | None = None
    """Why children that are neither open nor doomed wait."""
    members: IndexSet | None = None
    """The job's children, when they have just become known and are not recorded yet."""
    lines: RecordedLines | None = None
    """What the array had that these children failed in."""
    told_size: int | None = None
    """The same of its AWS_BATCH_JOB_ARRAY_SIZE."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one dependency says. `waits` describes what it waits for, e.g. `a to succeed`."""

    open: IndexSet
    doomed: IndexSet = IndexSet()
    doom: Doom | None = None
    waits: str = ""
    hold: Hold | None = None


def gate(
    spec: BatchJobSpec,
    own: Upstream,
    passed: IndexSet,
    upstreams: Mapping[str, Upstream],
) -> Gate:
    """Ask every dependency of a job.

    Args:
        spec: the job's.
        own: the job itself, as its stored status counts it.
        passed: children that were let through before.
        upstreams: by name, the jobs of the same namespace that this one depends on and that exist;
            a missing one may still be applied, so the job waits for it, and says so.
    """
    answers = [_ask(dependency, own, upstreams) for dependency in spec.depends_on]
    open_ = own.members
    doomed = IndexSet()
    for answer in answers:
        open_ &= answer.open
        doomed |= answer.doomed
    doomed -= passed
    open_ = (open_ - doomed) | passed
    doom = next((one.doom for one in answers if one.doomed - passed), None)
    return Gate(open_, doomed, doom, _hold(spec, own, answers, upstreams))


def _ask(dependency: Dependency, own: Upstream, upstreams: Mapping[str, Upstream]) -> _Answer:
    if dependency.job is None:
        return _ask_predecessors(own)
    upstream = upstreams.get(dependency.job)
    if upstream is None:
        return _Answer(IndexSet())
    if not upstream.knows_members:
        dependency = _on_the_whole(dependency)
    if problem := _mismatch(dependency, own, upstream):
        return _Answer(IndexSet(), hold=problem)
    if dependency.type is DependencyType.N_TO_N:
        return _ask_same_index(dependency, own, upstream)
    return _ask_outcome(dependency, own, upstream)


def _on_the_whole(dependency: Dependency) -> Dependency:
    """All that can be asked of an array that does not know its children yet, or never will."""
    kind = None if dependency.type is DependencyType.N_TO_N else dependency.type
    return dependency.model_copy(update={"index": None, "type": kind})


def _ask_predecessors(own: Upstream) -> _Answer:
    """SEQUENTIAL: the lowest child that is not over may run; a failure dooms those after it.

    A child may fail before its turn, by another dependency: those before it go on one by one.
    """
    if not own.is_array:
        return _Answer(
            IndexSet(),
            hold=_invalid("type SEQUENTIAL orders an array's children, but this job is no array"),
        )
    failed = next(iter(own.failed), None)
    waits = "the child before to succeed"
    before = own.members if failed is None else own.members & IndexSet.range(failed + 1)
    left = (before - own.succeeded - own.failed).first(1)
    open_ = (own.succeeded | own.failed | IndexSet.of(left)) & before
    if failed is None:
        return _Answer(open_, waits=waits)
    doom = Doom(DEPENDENT_JOB_FAILED, "DependencyFailed", f"child {failed} failed")
    return _Answer(open_, own.members - before, doom, waits)


def _ask_same_index(dependency: Dependency, own: Upstream, upstream: Upstream) -> _Answer:
    """N_TO_N. What a rerun does not run again has succeeded before."""
    message = f"the child with the same index of job {dependency.job} failed"
    before = own.members - upstream.members if upstream.is_rerun else IndexSet()
    return _Answer(
        own.members & upstream.succeeded | before,
        own.members & upstream.never,
        Doom(DEPENDENT_JOB_FAILED, "DependencyFailed", message),
        f"the child with the same index of {dependency.job} to succeed",
    )


def _ask_outcome(dependency: Dependency, own: Upstream, upstream: Upstream) -> _Answer:
    """A job as a whole, or one child of it."""
    name = dependency.job if dependency.index is None else f"{dependency.job}:{dependency.index}"
    succeeded, failed = _outcome(dependency, upstream)
    everything, nothing = own.members, IndexSet()
    match dependency.type:
        case DependencyType.AFTER_ANY:
            return _Answer(everything if succeeded or failed else nothing, waits=f"{name} to end")
        case DependencyType.AFTER_FAILED:
            message = f"{name} succeeded, and this job runs only after its failure"
            return _Answer(
                everything if failed else nothing,
                everything if succeeded else nothing,
                Doom(NEVER_SATISFIED, "DependencyNeverSatisfied", message),
                f"{name} to fail",
            )
        case _:
            message = f"job {name}, which this one depends on, failed"
            return _Answer(
                everything if succeeded else nothing,
                everything if failed else nothing,
                Doom(DEPENDENT_JOB_FAILED, "DependencyFailed", message),
                f"{name} to succeed",
            )


def _outcome(dependency: Dependency, upstream: Upstream) -> tuple[bool, bool]:
    """Whether what is waited for has succeeded, and whether it has failed."""
    if dependency.index is None:
        return upstream.state is JobState.SUCCEEDED, upstream.state is JobState.FAILED
    return dependency.index in upstream.succeeded, dependency.index in upstream.never


def _mismatch(dependency: Dependency, own: Upstream, upstream: Upstream) -> Hold | None:
    name = dependency.job
    if dependency.index is not None:
        if not upstream.is_array:
            return _invalid(f"{name} is no array: leave the dependency's index out")
        if dependency.index not in upstream.members:
            return _invalid(f"{name} has no child {dependency.index}: name one of its indexes")
    if dependency.type is DependencyType.N_TO_N:
        if not (own.is_array and upstream.is_array):
            return _invalid(f"type N_TO_N needs two arrays: this job and {name}")
        if not upstream.is_rerun and own.members != upstream.members:
            return _invalid(
                f"type N_TO_N needs the same indexes on both sides: {name} has "
                f"{shortened(str(upstream.members), INDEXES_LENGTH_MAX)}, this job "
                f"{shortened(str(own.members), INDEXES_LENGTH_MAX)}"
            )
    return None


def _invalid(problem: str) -> Hold:
    return Hold(
        Reason.DEPENDENCY_INVALID, f"{problem}; submit the job again, corrected", stalled=True
    )


def _hold(
    spec: BatchJobSpec,
    own: Upstream,
    answers: Sequence[_Answer],
    upstreams: Mapping[str, Upstream],
) -> Hold | None:
    named = [one.job for one in spec.depends_on if one.job is not None]
    missing = [name for name in named if name not in upstreams]
    if missing:
        return Hold(
            Reason.DEPENDENCY_NOT_FOUND,
            f"waits for {listed(missing)}, which does not exist in this namespace: apply it, "
            f"or submit this job again without the dependency",
            blocked_by=tuple(missing[:NAMED_MAX]),
            stalled=True,
        )
    if problem := next((one.hold for one in answers if one.hold), None):
        return problem
    waits = [
        (dependency, answer)
        for dependency, answer in zip(spec.depends_on, answers, strict=True)
        if answer.open | answer.doomed != own.members
    ]
    if not waits:
        return None
    blocking = [dependency.job for dependency, _ in waits if dependency.job is not None]
    return Hold(
        Reason.WAITING_FOR_DEPENDENCIES,
        f"waits for {listed([answer.waits for _, answer in waits])}",
        blocked_by=tuple(dict.fromkeys(blocking))[:NAMED_MAX],
    )


def circular_hold(circle: Sequence[str]) -> Hold:
    return Hold(
        Reason.CIRCULAR_DEPENDENCY,
        f"waits for ever: dependencies form a circle, {_circle(circle)}; delete one of these jobs "
        f"and submit it without that dependency",
        blocked_by=tuple(circle[:NAMED_MAX]),
        stalled=True,
    )


def _circle(names: Sequence[str]) -> str:
    shown = [*names, names[0]] if len(names) <= 10 else [*names[:9], "…", names[0]]
    return " → ".join(shown)


def names_of(spec: BatchJobSpec) -> set[str]:
    """The jobs that a job depends on, that of which it runs the failed indexes again included."""
    array = spec.array_properties
    rerun = {array.rerun_failed_of} if array and array.rerun_failed_of else set()
    return rerun | {one.job for one in spec.depends_on if one.job is not None}


def cycle_from(name: str, edges: Callable[[str], Iterable[str]], proven: set[str]) -> list[str]:
    """A circle of dependencies that can be reached from a job, as names in order; empty if none.

    `edges` gives what a job waits for. Jobs that no circle can be reached from are added to
    `proven`, and not followed again; so asking for every job costs each edge once.
    """
    path, on_path = [name], {name}
    left = [iter(sorted(edges(name)))]
    while path:
        following = next(left[-1], None)
        if following is None:
            left.pop()
            done = path.pop()
            on_path.discard(done)
            proven.add(done)
        elif following in on_path:
            return path[path.index(following) :]
        elif following not in proven:
            path.append(following)
            on_path.add(following)
            left.append(iter(sorted(edges(following))))
    return []
