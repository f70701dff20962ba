"""Which state each child of a job is in, and which outcomes have been counted.

A job that is no array is treated as an array of one whose only index is 0, so that there is one
set of rules. Outcomes are counted once and only once, by this protocol:

1. A Pod that has ended keeps our finalizer, so it stays to be read whatever happens to it.
2. Its outcome goes into the job's status (`succeeded`, `failed`, or one more used attempt).
3. Only when the API server holds that status is the finalizer taken off the Pod.

What was counted is therefore always in the stored status or still to be seen on a Pod; a restart
between any two steps finds one or the other. A Pod whose attempt number is not above the stored
count for its index has been counted before and is only released.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import attrgetter, or_
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from batch_operator.api.common import RetryStrategy
from batch_operator.api.index_set import IndexSet
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.retry import is_retried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from batch_operator.lifecycle.attempt import PodAttempt

REQUEUES_MAX = 10
"""So often a child is requeued at most: it bounds its rows, and what others can do to it."""
_NONE: Mapping[Any, IndexSet] = MappingProxyType({})
"""Of most jobs that wait: one for all of them."""
_NOBODY = IndexSet()
FailureKey = tuple[int | None, str | None, str | None]
"""Exit code, container reason and status reason: what children that failed alike share."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a job's stored status says has been counted."""

    members: IndexSet
    succeeded: IndexSet = IndexSet()
    failed: IndexSet = IndexSet()
    attempts: Mapping[int, IndexSet] = field(default_factory=lambda: _NONE)
    """Indexes by number of attempts used up so far; those not yet final only."""
    out_of_memory: Mapping[int, IndexSet] = field(default_factory=lambda: _NONE)
    """Indexes by how often they ran out of memory; those not yet final, where a rule asks."""
    hosts_lost: Mapping[int, IndexSet] = field(default_factory=lambda: _NONE)
    """Indexes by how often they lost their node; those not yet final, where a rule asks."""
    preempted: Mapping[int, IndexSet] = field(default_factory=lambda: _NONE)
    """Indexes by how often they made room for others, found none on their node, or were suspended
    before they had one; those not yet final."""
    moved: Mapping[int, IndexSet] = field(default_factory=lambda: _NONE)
    """Indexes by how often they were moved to another environment; those not yet final."""
    failures: Mapping[FailureKey, IndexSet] = field(default_factory=lambda: _NONE)

    def used(self, index: int) -> int:
        """Attempts of `index` that have been counted as failed."""
        return _times(self.attempts, index)

    def times_out_of_memory(self, index: int) -> int:
        return _times(self.out_of_memory, index)

    def times_host_lost(self, index: int) -> int:
        return _times(self.hosts_lost, index)

    def times_requeued(self, index: int) -> int:
        """Attempts that ended for no reason of the job's own: they cost no try."""
        return _times(self.preempted, index) + _times(self.moved, index)

    @property
    def pinned(self) -> IndexSet:
        """Children that have been requeued so often that they are not any more."""
        found = IndexSet()
        for moves, moved in {0: self.members, **self.moved}.items():
            for times, preempted in {0: self.members, **self.preempted}.items():
                if moves + times >= REQUEUES_MAX:
                    found |= moved & preempted
        return found


def _times(events: Mapping[int, IndexSet], index: int) -> int:
    for times, those in events.items():
        if index in those:
            return times
    return 0


@dataclass(frozen=True, slots=True)
class Children:
    """Every child of a job in exactly one of the sets, and what follows for its Pods."""

    counted: Counted
    """As the status should read now: the stored counts and what has ended since."""
    waiting: IndexSet
    retrying: IndexSet
    """The part of `waiting` that has used up an attempt: AWS puts these in front of the queue."""
    unbound: IndexSet
    starting: IndexSet
    running: IndexSet
    newly_ended: tuple[PodAttempt, ...] = ()
    live: tuple[PodAttempt, ...] = ()
    """Attempts that have not ended, in (index, number) order."""
    releasable: tuple[PodAttempt, ...] = ()
    """Ended, counted in the stored status, and still carrying our finalizer."""
    overdue: tuple[PodAttempt, ...] = ()
    """Counted as failed although their Pods live on: these have to be deleted."""

    @property
    def active(self) -> IndexSet:
        return self.unbound | self.starting | self.running

    @property
    def all_final(self) -> bool:
        done = self.counted.succeeded | self.counted.failed
        return not (self.counted.members - done)


def children_of(
    stored: Counted,
    attempts: Iterable[PodAttempt],
    retry: RetryStrategy | None,
    verdicts: Mapping[str, PodAttempt],
) -> Children:
    """Sort a job's children by state.

    Args:
        stored: what the job's stored status has counted.
        attempts: what its Pods show, one entry per Pod that the operator tracks.
        retry: decides whether a failed attempt is followed by another; while it is not known,
            failures are not counted and their children stay where they are.
        verdicts: attempts, by Pod uid, that count otherwise than their Pods show (see
            `lifecycle.stops`): each as it is to be counted, with its outcome filled in.
    """
    sets: dict[Phase, list[int]] = defaultdict(list)
    ended: list[PodAttempt] = []
    live: list[PodAttempt] = []
    releasable: list[PodAttempt] = []
    overdue: list[PodAttempt] = []
    ordered = sorted(attempts, key=attrgetter("index", "number"))
    if not ordered:
        return _without_pods(stored)
    # What is stored of the few children that have Pods, as sets and numbers that are quick to ask.
    with_pods = IndexSet.of({one.index for one in ordered})
    strangers = set(with_pods - stored.members)
    final = set(with_pods & (stored.succeeded | stored.failed))
    used = _by_index({times: those & with_pods for times, those in stored.attempts.items()})
    latest = {one.index: one.number for one in ordered}
    for seen in ordered:
        if seen.index in strangers:
            continue  # labels can be changed by whoever may patch Pods: it is no child of this job
        attempt = verdicts.get(seen.pod_uid, seen)
        is_counted = seen.index in final or seen.number <= used.get(seen.index, 0)
        is_judged = retry is not None or attempt.phase is not Phase.FAILED
        has_ended = seen.phase.ended
        is_over = has_ended if attempt is seen else attempt.phase.ended
        if is_over and is_judged and not is_counted:
            ended.append(attempt)
        if not has_ended:
            # Whatever it counts as: until its Pod is gone no further attempt may start.
            live.append(seen)
            sets[seen.phase].append(seen.index)
            if is_counted and not seen.deleting:
                overdue.append(seen)
        elif not (is_counted or is_judged):
            sets[Phase.RUNNING].append(seen.index)
        elif is_counted and seen.tracked:
            releasable.append(seen)
    counted = _count(stored, ended, retry or RetryStrategy(), latest)
    done = counted.succeeded | counted.failed
    running = IndexSet.of(sets[Phase.RUNNING]) - done
    starting = IndexSet.of(sets[Phase.STARTING]) - done - running
    unbound = IndexSet.of((*sets[Phase.UNBOUND], *sets[Phase.ASSUMED])) - done - running - starting
    waiting = counted.members - done - running - starting - unbound
    return Children(
        counted=counted,
        waiting=waiting,
        retrying=waiting & _tried(counted),
        unbound=unbound,
        starting=starting,
        running=running,
        newly_ended=tuple(ended),
        live=tuple(live),
        releasable=tuple(releasable),
        overdue=tuple(overdue),
    )


def _without_pods(stored: Counted) -> Children:
    """The children of a job of which nothing has begun, or is left, as of most that wait."""
    waiting = stored.members - (stored.succeeded | stored.failed)
    return Children(stored, waiting, waiting & _tried(stored), _NOBODY, _NOBODY, _NOBODY)


def _tried(counted: Counted) -> IndexSet:
    """Those of the children that are not over that have used up an attempt."""
    return reduce(or_, counted.attempts.values(), _NOBODY)


def doomed(children: Children, indexes: IndexSet, key: FailureKey) -> Children:
    """The children with those of `indexes` that wait counted as failed, without an attempt."""
    lost = indexes & children.waiting
    if not lost:
        return children
    counted = children.counted
    failures = {**counted.failures, key: counted.failures.get(key, IndexSet()) | lost}
    events: dict[str, Any] = {name: _without(getattr(counted, name), lost) for name in _EVENTS}
    return replace(
        children,
        counted=replace(
            counted,
            failed=counted.failed | lost,
            attempts=_without(counted.attempts, lost),
            failures=failures,
            **events,
        ),
        waiting=children.waiting - lost,
        retrying=children.retrying - lost,
    )


def _without(events: Mapping[int, IndexSet], lost: IndexSet) -> dict[int, IndexSet]:
    return {times: left for times, those in events.items() if (left := those - lost)}


_EVENTS: Mapping[str, Callable[[RetryStrategy, PodAttempt], bool]] = {
    "out_of_memory": lambda retry, one: bool(retry.on_out_of_memory) and one.ran_out_of_memory,
    "hosts_lost": lambda retry, one: bool(retry.on_host_lost) and one.lost_its_host,
    "preempted": lambda _, one: one.was_preempted or one.was_rejected or one.was_suspended,
    "moved": lambda _, one: one.was_moved,
}
"""Fields of `Counted` that say how often something happened to a child, and when it did."""
_REQUEUES = ("preempted", "moved")
"""Those of them that cost no try, together `REQUEUES_MAX` times at most."""


def _count(
    stored: Counted, ended: list[PodAttempt], retry: RetryStrategy, latest: Mapping[int, int]
) -> Counted:
    """The stored counts with the outcomes of `ended` added.

    A failure that another attempt has followed was retried, and stays so whatever has been asked
    for since: `latest` has the number of each child's last attempt.
    """
    if not ended:
        return stored
    succeeded: list[int] = []
    failed: list[int] = []
    used = _by_index(stored.attempts)
    events = {name: _by_index(getattr(stored, name)) for name in _EVENTS}
    failures: dict[FailureKey, list[int]] = defaultdict(list)
    for attempt in ended:
        index = attempt.index
        requeues = sum(events[name].get(index, 0) for name in _REQUEUES)
        if attempt.phase is Phase.SUCCEEDED:
            succeeded.append(index)
        elif attempt.number < latest[index] or _goes_on(
            retry, attempt, used.get(index, 0), requeues
        ):
            used[index] = used.get(index, 0) + 1
            for name, happened in _EVENTS.items():
                costs_a_try = name in _REQUEUES and requeues >= REQUEUES_MAX
                if happened(retry, attempt) and not costs_a_try:
                    events[name][index] = events[name].get(index, 0) + 1
            continue
        else:
            failed.append(index)
            failures[attempt.exit_code, attempt.reason, attempt.status_reason].append(index)
        for open_only in (used, *events.values()):
            open_only.pop(index, None)
    found: dict[str, Any] = {name: _by_times(times) for name, times in events.items()}
    merged = dict(stored.failures)
    for key, indexes in failures.items():
        merged[key] = merged.get(key, IndexSet()) | IndexSet.of(indexes)
    return replace(
        stored,
        succeeded=stored.succeeded | IndexSet.of(succeeded),
        failed=stored.failed | IndexSet.of(failed),
        attempts=_by_times(used),
        failures=merged,
        **found,
    )


def _goes_on(retry: RetryStrategy, attempt: PodAttempt, used: int, requeues: int) -> bool:
    """Whether another attempt follows; those that ended for no reason of the job's cost no try."""
    is_requeued = any(_EVENTS[name](retry, attempt) for name in _REQUEUES)
    if is_requeued and attempt.retryable and requeues < REQUEUES_MAX:
        return True
    return is_retried(retry, attempt, attempts_used=used + 1 - min(requeues, REQUEUES_MAX))


def _by_index(events: Mapping[int, IndexSet]) -> dict[int, int]:
    return {index: times for times, those in events.items() for index in those}


def _by_times(events: Mapping[int, int]) -> dict[int, IndexSet]:
    found: dict[int, list[int]] = defaultdict(list)
    for index, times in events.items():
        found[times].append(index)
    return {times: IndexSet.of(found[times]) for times in sorted(found)}
