"""Time limits of a queue, `jobStateTimeLimitActions`: what has been in a state for too long.

Who waits without a Pod is timed by the status, which says since when it has had its reason (AWS:
the clock starts anew when the reason changes). An attempt is timed by its Pod: RUNNABLE since the
Pod was made, STARTING since a node has it, RUNNING since its containers run. Both are stored, so
nothing has to be remembered. An attempt that a limit ended is judged by the same times, as one that
its timeout ended is: change a rule in between, and it counts by the new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState
from batch_operator.api.job_queue import ANY_REASON, TimeLimitAction
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.clocks import later
from batch_operator.lifecycle.holds import (
    AWS_CODES,
    CAPACITY,
    QUEUE_REASONS,
    TURN_REASONS,
    Reason,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from batch_operator.api.job import BatchJobStatus
    from batch_operator.api.job_queue import JobStateTimeLimitAction
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.children import Counted, FailureKey
    from batch_operator.lifecycle.surroundings import Surroundings

CANCELED = "Canceled by JobStateTimeLimit action due to reason: "
TERMINATED = "Terminated by JobStateTimeLimit action due to reason: "
EXCEEDED = "TimeLimitExceeded"
_ENDINGS = {TimeLimitAction.CANCEL: CANCELED, TimeLimitAction.TERMINATE: TERMINATED}
_RUNNING = "Running"
_HELD_BACK = frozenset({Reason.SUSPENDED, Reason.JOB_QUEUE_DISABLED})
"""Whoever owns the job, or the queue, wants it to wait: a rule is for this that names it."""


_ONLY_IN: Mapping[str, JobState] = {
    **dict.fromkeys((*AWS_CODES, *QUEUE_REASONS, *TURN_REASONS), JobState.RUNNABLE),
    Reason.WAITING_FOR_DEPENDENCIES: JobState.PENDING,
    Reason.CONTAINERS_STARTING: JobState.STARTING,
}
"""Reasons that jobs have in one state only; the others they have before they are STARTING."""
_NEVER = frozenset({Reason.ARRAY_IN_PROGRESS})
"""It is told of an array, of whose children each has a reason of its own."""
_REASONS = frozenset({*AWS_CODES, *Reason}) - _NEVER


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The rules of a job's queue. `pinned`: children that have been requeued too often to move.

    `max_waits` are the seconds that a Pod waits for a node, by compute environment; `settled` are
    the children that no longer move on for that. In `served` environments nodes are on their way;
    `closed` ones take no more work, and those that are `ending` will be no more.
    """

    rules: tuple[JobStateTimeLimitAction, ...] = ()
    pinned: IndexSet = IndexSet()
    max_waits: Mapping[str, int] = field(default_factory=dict)
    settled: IndexSet = IndexSet()
    served: Collection[str] = ()
    closed: Collection[str] = ()
    ending: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Stay:
    """That something is in a state, and since when.

    `words` are the names of its reason: AWS's code, where there is one, before our own token.
    """

    state: JobState
    since: datetime
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """The moment at which a stay is too long for a rule."""

    at: datetime
    rule: JobStateTimeLimitAction
    stay: Stay

    @property
    def code(self) -> str:
        """The reason as users are told it: the rule's, or the stay's where the rule takes any."""
        return self.stay.words[0] if self.rule.reason == ANY_REASON else self.rule.reason

    @property
    def sentence(self) -> str:
        return f"{self.stay.state} for longer than {self.rule.max_time_seconds} s ({self.code})"

    @property
    def ending(self) -> str:
        """The statusReason of what the rule ends; of CANCEL and TERMINATE only."""
        return f"{_ENDINGS[self.rule.action]}{self.code}"


@dataclass(frozen=True, slots=True)
class Notice:
    """What somebody has asked to be told (NOTIFY): a token and a sentence."""

    token: str
    message: str


NO_LIMITS = TimeLimits()


def limits_of(around: Surroundings, counted: Counted) -> TimeLimits:
    """The limits on the time that a job's children may spend in a state."""
    if not (around.rules or around.max_waits or around.closed or around.ending):
        return NO_LIMITS
    settled = IndexSet()
    for moves, those in counted.moved.items():
        if moves >= around.moves_max:
            settled |= those
    return TimeLimits(
        rules=tuple(around.rules),
        pinned=counted.pinned,
        max_waits=around.max_waits,
        settled=settled,
        served=around.served,
        closed=around.closed,
        ending=around.ending,
    )


def moves_on_at(limits: TimeLimits, attempt: PodAttempt) -> datetime | None:
    """When an attempt that no node has taken moves on to the next environment."""
    max_wait_s = limits.max_waits.get(attempt.environment)
    is_settled = attempt.index in limits.settled or attempt.index in limits.pinned
    if max_wait_s is None or attempt.created_at is None or is_settled:
        return None
    if not _waits_for_node(attempt):
        return None
    return attempt.created_at + timedelta(seconds=max_wait_s)


def leaves(limits: TimeLimits, attempt: PodAttempt) -> bool:
    """Whether an attempt that no node has goes back to its queue: nothing more is placed there.

    One that has been requeued too often stays, unless its environment ends.
    """
    if not _waits_for_node(attempt):
        return False
    is_pinned = attempt.index in limits.pinned
    name = attempt.environment
    return name in limits.ending or (name in limits.closed and not is_pinned)


def _waits_for_node(attempt: PodAttempt) -> bool:
    return attempt.phase is Phase.UNBOUND and not attempt.gated


def unknown_reason(rules: Iterable[JobStateTimeLimitAction]) -> str | None:
    """A sentence about a rule that can never apply: nothing waits for its reason."""
    asked = [one for one in rules if one.reason != ANY_REASON]
    never = next((one.reason for one in asked if one.reason not in _REASONS), None)
    if never is not None:
        return (
            f"spec.jobStateTimeLimitActions: no job ever has the reason {never}: write * for any, "
            f"a token such as WaitingForDependencies, as status.pending.reason shows it, or a code "
            f"of AWS Batch such as {CAPACITY}"
        )
    elsewhere = next((one for one in asked if not _is_of(one.reason, one.state)), None)
    if elsewhere is None:
        return None
    only_in = _ONLY_IN.get(elsewhere.reason)
    where = f"only {only_in} ones" if only_in else "only those that have not started"
    return (
        f"spec.jobStateTimeLimitActions: no {elsewhere.state} job ever has the reason "
        f"{elsewhere.reason}, {where} have: limit that state, or write * for any reason"
    )


def _is_of(reason: str, state: JobState) -> bool:
    """Whether a job can have a reason in a state."""
    only_in = _ONLY_IN.get(reason)
    if only_in is not None:
        return state is only_in
    return state in {JobState.SUBMITTED, JobState.PENDING, JobState.RUNNABLE}


def due(limits: TimeLimits, stays: Iterable[Stay]) -> list[Due]:
    """When which rule applies to these stays, if they go on; the earliest first."""
    found = [
        Due(later(stay.since, timedelta(seconds=rule.max_time_seconds)), rule, stay)
        for rule in limits.rules
        for stay in stays
        if rule.state is stay.state and _is_meant(rule, stay)
    ]
    return sorted(found, key=lambda one: one.at)


def _is_meant(rule: JobStateTimeLimitAction, stay: Stay) -> bool:
    """Whether it is for the reason of the stay: `*` is not for what somebody holds back."""
    is_any = rule.reason == ANY_REASON and _HELD_BACK.isdisjoint(stay.words)
    return is_any or rule.reason in stay.words


def ends(one: Due) -> bool:
    return one.rule.action in _ENDINGS


def notice_of(limits: TimeLimits, found: Iterable[Due], now: datetime) -> Notice | None:
    """What to tell of the stays that are too long: the first rule's, so that it stays the same."""
    told = [one for one in found if one.rule.action is TimeLimitAction.NOTIFY and one.at <= now]
    if not told:
        return None
    first = min(told, key=lambda one: (limits.rules.index(one.rule), one.stay.words))
    return Notice(first.stay.words[-1], first.sentence)


def waits_of(
    limits: TimeLimits, status: BatchJobStatus, *, is_gated: bool, is_ready: bool
) -> list[Due]:
    """When the rules apply to who waits without a Pod, as the stored status tells of them.

    Args:
        limits: the rules.
        status: as stored. What has become ready in this look it does not tell of yet.
        is_gated: whether children wait for dependencies.
        is_ready: whether children do whose dependencies are met.
    """
    if not limits.rules:
        return []
    if status.array is not None:
        told = [
            Stay(row.state, row.since, _words(row.status_reason, row.reason))
            for row in status.array.waiting
        ]
    elif status.pending is not None:
        words = _words(status.status_reason, status.pending.reason)
        told = [Stay(status.state, status.pending.since, words)]
    else:
        told = []
    told = [one for one in told if (is_gated if one.state is JobState.PENDING else is_ready)]
    return due(limits, told)


def _words(status_reason: str | None, token: str) -> tuple[str, ...]:
    code = (status_reason or "").partition(" - ")[0]
    return (code, token) if code else (token,)


def stays_due(limits: TimeLimits, attempts: Iterable[PodAttempt]) -> list[Due]:
    """When which rule applies to attempts that live, if they go on; the earliest first."""
    if not limits.rules:  # as in most queues, and asked for every attempt in every look
        return []
    live = (one for one in attempts if not one.phase.ended)
    return due(limits, [stay for one in live if (stay := _stay(one, limits.served))])


def _stay(attempt: PodAttempt, served: Collection[str]) -> Stay | None:
    if attempt.phase is Phase.RUNNING:
        return _since(JobState.RUNNING, attempt.started_at, _RUNNING)
    if attempt.phase is Phase.STARTING:
        return _since(JobState.STARTING, attempt.bound_at, Reason.CONTAINERS_STARTING.value)
    return _unbound(attempt, served)


def _unbound(attempt: PodAttempt, served: Collection[str]) -> Stay | None:
    if attempt.unschedulable and attempt.environment not in served:
        words = CAPACITY, Reason.UNSCHEDULABLE.value
        return _since(JobState.RUNNABLE, attempt.created_at, *words)
    return _since(JobState.RUNNABLE, attempt.created_at, Reason.WAITING_FOR_NODE.value)


def _since(state: JobState, since: datetime | None, *words: str) -> Stay | None:
    return Stay(state, since, words) if since is not None else None


def ended_by(limits: TimeLimits, attempt: PodAttempt) -> Due | None:
    """The rule that ended an attempt that was ended, if it was one."""
    spans: list[tuple[Stay | None, datetime | None]] = []
    if attempt.node_name is None:
        spans.append((_unbound(attempt, limits.served), attempt.stopped_at))
    else:
        running = _since(JobState.RUNNING, attempt.started_at, _RUNNING)
        spans.append((running, attempt.stopped_at))
        if attempt.requeued is None:  # what has its mark was ended for that, and not again
            starting = _since(JobState.STARTING, attempt.bound_at, Reason.CONTAINERS_STARTING.value)
            spans.append((starting, attempt.started_at))
    for stay, until in spans:
        for one in due(limits, [stay] if stay else []):
            # Of a Pod that was ended before its containers ran nobody says when that was.
            if ends(one) and (until is None or one.at <= until):
                return one
    return None


def is_over_time(status: BatchJobStatus) -> bool:
    """Whether the status says that somebody has asked to be told of the job's stay."""
    return any(one.type == EXCEEDED for one in status.conditions)


def limit_behind(failure: FailureKey) -> str | None:
    """The statusReason of children that failed because a limit ended their job, not only them.

    They had no attempt to end, so nothing but that is told of them.
    """
    exit_code, reason, status_reason = failure
    is_bare = exit_code is None and reason is None
    return status_reason if is_bare and is_of_limit(status_reason) else None


def is_of_limit(status_reason: str | None) -> bool:
    return (status_reason or "").startswith((CANCELED, TERMINATED))
