"""AWS Batch's rules once more, in the plainest words: what may start, and what jobs end as.

It shares nothing with the operator but the models of its API. It is told what was asked for and
what became of every attempt, at once and in order; it knows no status, no cycle, no write and no
queue. What the operator makes of the same story, however late it hears it, has to agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from batch_operator.api.common import RetryAction
from batch_operator.api.dependency import DependencyType
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState

if TYPE_CHECKING:
    from batch_operator.api.common import EvaluateOnExit
    from batch_operator.api.dependency import Dependency
    from batch_operator.api.job import BatchJobSpec

SUCCEEDED, FAILED = JobState.SUCCEEDED, JobState.FAILED


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. `is_stopped`: by the operator, which AWS never retries.

    `is_requeued`: because its job was suspended before it had a node, which costs it no try.
    """

    exit_code: int | None
    status_reason: str
    reason: str | None = None
    is_stopped: bool = False
    is_requeued: bool = False


@dataclass
class Reference:
    """A job with its children; one that is no array has the child 0."""

    spec: BatchJobSpec
    members: list[int]
    ended: dict[int, JobState] = field(default_factory=dict)
    """Children that are over."""
    attempts: dict[int, list[int | None]] = field(default_factory=lambda: defaultdict(list))
    """By child: the exit codes of its attempts so far."""
    requeues: Counter[int] = field(default_factory=Counter)
    """By child: how many of them cost no try."""
    under_way: set[int] = field(default_factory=set)
    """Children with an attempt that has not ended."""

    @property
    def is_array(self) -> bool:
        return self.spec.array_properties is not None

    @property
    def state(self) -> JobState | None:
        """How the job ended, once it has: AWS, an array succeeds when all its children do."""
        if len(self.ended) < len(self.members):
            return None
        return FAILED if FAILED in self.ended.values() else SUCCEEDED

    @property
    def is_stopped(self) -> bool:
        array = self.spec.array_properties
        limit = array.max_failed_indexes if array else None
        failed = list(self.ended.values()).count(FAILED)
        is_asked = self.spec.cancel is not None or self.spec.terminate is not None
        return is_asked or (limit is not None and failed > limit)

    def tries(self, index: int) -> int:
        return len(self.attempts[index]) - self.requeues[index]

    @property
    def waiting(self) -> list[int]:
        return [one for one in self.members if one not in self.ended and one not in self.under_way]

    @property
    def has_room(self) -> bool:
        array = self.spec.array_properties
        limit = array.max_parallel if array else None
        return limit is None or len(self.under_way) < limit


class Model:
    """All jobs, by name."""

    def __init__(self) -> None:
        self.jobs: dict[str, Reference] = {}

    def submit(self, name: str, spec: BatchJobSpec) -> None:
        array = spec.array_properties
        some = IndexSet.parse(array.indexes) if array and array.indexes else None
        self.jobs[name] = Reference(spec, list(some or range(array.size or 0 if array else 1)))
        self._fail_what_never_runs()

    def change(self, name: str, spec: BatchJobSpec) -> None:
        """Somebody has asked for cancel, terminate or suspend."""
        self.jobs[name].spec = spec
        self._fail_what_never_runs()

    def start(self, name: str, index: int, number: int) -> None:
        """An attempt is begun, which must be the next of a child that may run now."""
        job = self.jobs[name]
        assert index in job.waiting, f"{name}:{index} is over, or has an attempt already"
        assert not job.is_stopped, f"{name} was stopped"
        assert not job.spec.suspend, f"{name} is suspended"
        assert job.has_room, f"{name} has as many attempts under way as it may"
        assert self._may_run(job, index), f"{name}:{index} has to wait for its dependencies"
        assert number == len(job.attempts[index]) + 1, f"{name}:{index}: {number} is not next"
        job.under_way.add(index)

    def forget(self, name: str, index: int) -> None:
        """The attempt did not come to be, or lingers no more."""
        self.jobs[name].under_way.remove(index)
        self._fail_what_never_runs()

    def end(self, name: str, index: int, outcome: Outcome, *, lingers: bool = False) -> None:
        """An attempt is over: so is its child, unless it is retried, once nothing lingers."""
        job = self.jobs[name]
        if not lingers:
            job.under_way.remove(index)
        job.attempts[index].append(outcome.exit_code)
        if outcome.exit_code == 0 and not outcome.is_stopped:
            job.ended[index] = SUCCEEDED
        elif outcome.is_requeued and not job.is_stopped:
            job.requeues[index] += 1
        elif outcome.is_stopped or not is_retried(job.spec, outcome, job.tries(index)):
            job.ended[index] = FAILED
        self._fail_what_never_runs()

    def startable(self) -> list[tuple[str, int]]:
        """Names and indexes of what may start now."""
        return [
            (name, index)
            for name, job in self.jobs.items()
            if job.has_room and not job.spec.suspend
            for index in job.waiting
            if self._may_run(job, index)
        ]

    def _may_run(self, job: Reference, index: int) -> bool:
        return all(self._is_met(one, job, index) is True for one in job.spec.depends_on)

    def _fail_what_never_runs(self) -> None:
        """Children of stopped jobs, and those whose dependencies can no more be met."""
        lost = [
            (job, index)
            for job in self.jobs.values()
            for index in job.waiting
            if job.is_stopped
            or any(self._is_met(one, job, index) is False for one in job.spec.depends_on)
        ]
        for job, index in lost:
            job.ended[index] = FAILED
        if lost:
            self._fail_what_never_runs()  # others may wait for these

    def _is_met(self, dependency: Dependency, job: Reference, index: int) -> bool | None:
        """Whether a child's dependency is met; False when it never will be, None for not yet."""
        other = self.jobs.get(dependency.job or "")
        if dependency.type is DependencyType.SEQUENTIAL:
            before = [job.ended.get(one) for one in job.members if one < index]
            return False if FAILED in before else (None not in before or None)
        if other is None:
            return None
        if dependency.type is DependencyType.N_TO_N:
            is_alike = job.is_array and other.is_array and job.members == other.members
            ended = other.ended.get(index) if is_alike else None
        elif dependency.index is not None:
            ended = other.ended.get(dependency.index) if other.is_array else None
        else:
            ended = other.state
        if ended is None or dependency.type is DependencyType.AFTER_ANY:
            return None if ended is None else True
        return ended is (FAILED if dependency.type is DependencyType.AFTER_FAILED else SUCCEEDED)


def is_retried(spec: BatchJobSpec, failed: Outcome, tries: int) -> bool:
    """AWS: the first rule that matches decides; none, and it is retried while tries are left."""
    strategy = spec.retry_strategy
    if strategy is None or tries >= strategy.attempts:
        return False
    matching = (one for one in strategy.evaluate_on_exit if _matches(one, failed))
    return next((one.action is RetryAction.RETRY for one in matching), True)


def _matches(rule: EvaluateOnExit, failed: Outcome) -> bool:
    exit_code = "" if failed.exit_code is None else str(failed.exit_code)
    return (
        fnmatchcase(exit_code, rule.on_exit_code or "*")
        and fnmatchcase(failed.reason or "", rule.on_reason or "*")
        and fnmatchcase(failed.status_reason, rule.on_status_reason or "*")
    )
