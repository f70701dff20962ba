"""The status to write for a job: AWS's state words, counts and intervals, reasons and conditions.

Writing nothing new is the common case and has to be exact: for an unchanged world these functions
return a status equal to the stored one, to the second and the letter, or the operator would write
for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.array_rows import ArrayIndexes, IndexAttempts, IndexEvents, IndexFailure
from batch_operator.api.common import Condition, ConditionStatus
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import (
    ArrayStatus,
    Attempt,
    BatchJobStatus,
    JobState,
    Pending,
    WaitingChildren,
)
from batch_operator.lifecycle.array_parameters import source_of
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.gang import missing_pods
from batch_operator.lifecycle.holds import QUEUE_REASONS, Hold, Reason, capacity_reason
from batch_operator.lifecycle.limits import EXCEEDED, limit_behind
from batch_operator.lifecycle.node_rows import node_rows
from batch_operator.lifecycle.states import FINAL, may_follow
from batch_operator.lifecycle.stored_counts import passed_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from batch_operator.api.array import ArrayProperties
    from batch_operator.api.common import ShareUsage
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.children import FailureKey
    from batch_operator.lifecycle.evaluate import Evaluation, Job

FAILURE_ROWS_MAX = 20
MESSAGE_LENGTH_MAX = 1024
_OTHER_FAILURES: FailureKey = (None, "further kinds of failure", None)


def status_of(
    look: Evaluation, hold: Hold | None, now: datetime, share_usage: ShareUsage | None = None
) -> BatchJobStatus:
    """The status that this look at the job calls for; one that is final is kept as it is.

    Args:
        look: what `evaluate` found.
        hold: why what could start does not, from the scheduler; the look's own hold wins.
        now: becomes the time of what changed, in whole seconds as the API server keeps them.
        share_usage: what the job has used of its share.

    The estimate of its start is the stored one: it is renewed only in a status that is written.
    """
    stored = look.job.status
    if stored.state in FINAL:
        return stored.model_copy(update={"observed_generation": look.job.generation})
    now = now.replace(microsecond=0)
    hold = look.hold or hold
    array = look.job.spec.array_properties
    state = look.ending.state if look.ending else _state(look, is_array=array is not None)
    assert may_follow(stored.state, state), f"{stored.state} -> {state}"
    # A very short attempt is first seen when it has ended.
    latest = look.children.live or look.children.newly_ended
    newest = latest[-1] if latest else None
    return BatchJobStatus(
        observed_generation=look.job.generation,
        state=state,
        job_definition=look.plan.definition if look.plan else stored.job_definition,
        compute_environment=newest.environment if newest else stored.compute_environment,
        started_at=_started_at(look),
        stopped_at=_stopped_at(look, now) if look.ending else None,
        status_reason=look.ending.status_reason
        if look.ending
        else _waiting_reason(look, state, hold),
        attempts=_rows(look) if array is None else [],
        pending=None if look.ending else _pending(look, state, hold, now),
        array=_array(look, array, hold, now) if array and look.knows_members else None,
        nodes=node_rows(look, state),
        share_usage=share_usage,
        conditions=_conditions(look, state, hold, now),
    )


def status_after_fault(job: Job, now: datetime) -> BatchJobStatus:
    """What to say of a job that this program stumbles over."""
    message = "the operator met an error of its own with this job; its log has the details"
    stored, now = job.status, now.replace(microsecond=0)
    known = stored.pending
    since = known.since if known and known.reason == Reason.OPERATOR_ERROR else now
    condition = Condition(
        type="Stalled",
        status=ConditionStatus.TRUE,
        reason=Reason.OPERATOR_ERROR,
        message=message,
        observed_generation=job.generation,
        last_transition_time=since,
    )
    pending = Pending(
        reason=Reason.OPERATOR_ERROR, message=message, queue=job.spec.job_queue, since=since
    )
    said = {
        "observed_generation": job.generation,
        "pending": pending,
        "conditions": [condition],
    }
    return stored.model_copy(update=said)


def _state(look: Evaluation, *, is_array: bool) -> JobState:
    """AWS: an array's parent is PENDING from its first runnable child until all have ended."""
    children = look.children
    if is_array:
        waits = look.gated or not look.knows_members
        begun = bool(children.active or children.newly_ended or waits)
        return JobState.PENDING if begun else _parent_state(_idle_state(look))
    if children.running:
        return JobState.RUNNING
    if children.starting:
        return JobState.STARTING
    if children.unbound:
        return JobState.RUNNABLE
    return JobState.PENDING if look.gated else _idle_state(look)


def _parent_state(idle: JobState) -> JobState:
    return JobState.SUBMITTED if idle is JobState.SUBMITTED else JobState.PENDING


def _idle_state(look: Evaluation) -> JobState:
    """The state of a job, or of those children of an array, that no dependency and no Pod has."""
    if look.hold is None or look.hold.reason in QUEUE_REASONS:
        return JobState.RUNNABLE
    # What the job should run is not known (any more): states are not walked backwards.
    stored = look.job.status
    if stored.array is not None:
        if (look.children.waiting - look.gated) & passed_in(look.job):
            return JobState.RUNNABLE
        summary = stored.array.status_summary
        early = (state for state in (JobState.PENDING, JobState.SUBMITTED) if summary.get(state))
        return next(early, JobState.RUNNABLE)
    if stored.state in {JobState.SUBMITTED, JobState.PENDING}:
        return stored.state
    return JobState.RUNNABLE


def _waiting_reason(look: Evaluation, state: JobState, hold: Hold | None) -> str | None:
    """AWS's words for why a job is RUNNABLE; an array's parent never is."""
    why = _own_hold(look, state, hold) if state is JobState.RUNNABLE else None
    return why.status_reason if why else None


def _rows(look: Evaluation) -> list[Attempt]:
    """A job's attempts: those counted before, those that ended since, and the one alive."""
    rows = {row.attempt: row for row in look.job.status.attempts}
    for attempt in (*look.children.newly_ended, *look.children.live):
        known = rows.get(attempt.number)
        is_told = known is not None and known.stopped_at is not None
        if attempt.phase is not Phase.ASSUMED and not is_told:
            rows[attempt.number] = _row(attempt)
    return [rows[number] for number in sorted(rows)]


def _row(attempt: PodAttempt) -> Attempt:
    return Attempt(
        attempt=attempt.number,
        pod_name=attempt.pod_name,
        pod_uid=attempt.pod_uid,
        node_name=attempt.node_name,
        compute_environment=attempt.environment,
        started_at=attempt.started_at,
        stopped_at=attempt.stopped_at,
        exit_code=attempt.exit_code,
        reason=attempt.reason,
        status_reason=attempt.status_reason,
    )


def _started_at(look: Evaluation) -> datetime | None:
    """When the first attempt of the job, or of any of its children, began to run."""
    stored = look.job.status.started_at
    seen = (one.started_at for one in (*look.children.newly_ended, *look.children.live))
    return min((time for time in (stored, *seen) if time is not None), default=None)


def _stopped_at(look: Evaluation, now: datetime) -> datetime:
    ends = [one.stopped_at for one in look.children.newly_ended if one.stopped_at is not None]
    return max(ends, default=now)


def _pending(look: Evaluation, state: JobState, hold: Hold | None, now: datetime) -> Pending | None:
    if state is JobState.RUNNING:
        return None
    array = look.job.spec.array_properties
    why = _array_hold(look, array, hold) if array else _own_hold(look, state, hold)
    if why is None:
        return None
    before = look.job.status.pending
    same = before if before and before.reason == why.reason else None
    if same and why.reason is Reason.BEHIND_OTHERS:
        # The position is that of `since`: following every step of a queue would cost a write per
        # waiting job and start.
        return same
    return Pending(
        reason=why.reason,
        message=why.message[:MESSAGE_LENGTH_MAX],
        position=why.position,
        queue=look.job.spec.job_queue,
        blocked_by=list(why.blocked_by),
        since=same.since if same else now,
        next_look_at=look.look_again_at.replace(microsecond=0) if look.look_again_at else None,
        estimated_start=before.estimated_start if before else None,
    )


def _own_hold(look: Evaluation, state: JobState, hold: Hold | None) -> Hold | None:
    """Why a single job is where it is: its Pod's obstacle if it has a Pod, else the queue's."""
    attempt = look.children.live[-1] if look.children.live else None
    if attempt is None or (hold and _ends(hold, attempt, look)):
        return hold
    if attempt.node_group is not None and (attempt.is_job or attempt.gated):
        return _gang_hold(look)
    if attempt.phase <= Phase.UNBOUND:
        return _unplaced_hold(look, attempt)
    if state is JobState.STARTING:
        if attempt.start_error:
            return Hold(Reason.CONTAINERS_STARTING, attempt.start_error.message)
        message = (
            f"node {attempt.node_name} mounts volumes, pulls images and starts containers; if that "
            f"lasts, `kubectl describe pod {attempt.pod_name}` says what it waits for"
        )
        return Hold(Reason.CONTAINERS_STARTING, message)
    return None


def _ends(hold: Hold, attempt: PodAttempt, look: Evaluation) -> bool:
    """Whether what holds a job back also ends the attempt that it has."""
    if hold.reason is Reason.SUSPENDED:
        return attempt.requeued is not None or any(one is attempt for one, _ in look.to_move)
    return hold.reason is Reason.STOPPING


def _unplaced_hold(look: Evaluation, attempt: PodAttempt) -> Hold:
    """Why no node has a Pod: by the plan of its nodes, else by the scheduler's word."""
    if look.node_hold is not None:
        return look.node_hold
    if attempt.unschedulable:
        message = f"Pod {attempt.pod_name} fits on no node: {attempt.unschedulable}"
        return Hold(
            Reason.UNSCHEDULABLE, message, status_reason=capacity_reason(attempt.environment)
        )
    return Hold(Reason.WAITING_FOR_NODE, "its Pod waits for a node")


def _gang_hold(look: Evaluation) -> Hold:
    """A multi-node job's main node is not let go before all Pods are there."""
    gang, groups = look.gangs[-1], look.plan.groups if look.plan else ()
    message = "its main node is about to be let go to a node"
    if missing := missing_pods(gang, groups):
        total = sum(len(one.nodes) for one in groups)
        jobs = " ".join(one.pod_name for one in gang.jobs.values())
        message = (
            f"{missing} of its {total} Pods are still to be made; if that lasts, "
            f"`kubectl describe job {jobs}` says what the cluster refuses"
        )
    return Hold(Reason.WAITING_FOR_NODE, message)


def _array_hold(look: Evaluation, array: ArrayProperties, hold: Hold | None) -> Hold | None:
    """How far an array is, and what holds those of its children that wait.

    AWS keeps an array's parent PENDING while its children run, so there is always something to say.
    """
    children = look.children
    done = len(children.counted.succeeded) + len(children.counted.failed)
    if not children.active and not done:
        return hold
    parts = [f"{done} of {len(children.counted.members)} children have ended"]
    parts += [
        f"{len(those)} {word}"
        for those, word in (
            (children.running, "running"),
            (children.starting, "starting"),
            (children.unbound | (children.waiting - look.gated), "runnable"),
            (look.gated, "pending"),
        )
        if those
    ]
    message = ", ".join(parts)
    ready = children.waiting - look.gated
    if ready and array.max_parallel and not hold and not look.start_limit:
        message += f" (maxParallel {array.max_parallel})"
    elif hold and hold.reason is Reason.BEHIND_OTHERS:
        message += "; others in its queue start first"  # its place changes with every start
    elif hold and (children.waiting or hold.reason is Reason.STOPPING):
        message += f"; {hold.message}"
    if look.gate_hold and look.gate_hold is not hold:
        message += f"; {look.gate_hold.message}"
    stuck = next((one for one in children.live if one.start_error or one.unschedulable), None)
    if look.node_hold is not None and not (stuck and stuck.start_error):
        message += f"; {look.node_hold.message}"
    elif stuck is not None:
        detail = stuck.start_error.message if stuck.start_error else stuck.unschedulable
        message += f"; index {stuck.index}: {detail}"
    blocked_by = hold.blocked_by if hold and hold.reason is not Reason.BEHIND_OTHERS else ()
    return Hold(Reason.ARRAY_IN_PROGRESS, message, blocked_by=blocked_by)


def _array(
    look: Evaluation, array: ArrayProperties, hold: Hold | None, now: datetime
) -> ArrayStatus:
    children, counted, stored = look.children, look.children.counted, look.job.status.array
    sets = {
        JobState.SUBMITTED: IndexSet(),
        JobState.PENDING: IndexSet(),
        JobState.RUNNABLE: children.unbound,
        JobState.STARTING: children.starting,
        JobState.RUNNING: children.running,
        JobState.SUCCEEDED: counted.succeeded,
        JobState.FAILED: counted.failed,
    }
    sets[JobState.PENDING] |= look.gated
    sets[_idle_state(look)] |= children.waiting - look.gated
    digest, of = _parameters_digest(look)
    return ArrayStatus(
        size=len(counted.members),
        members=str(counted.members) if array.rerun_failed_of else None,
        told_size=look.told_size or (stored.told_size if stored else None),
        status_summary={state: len(those) for state, those in sets.items()},
        # It has no field for those that are SUBMITTED: they are the rest.
        indexes=ArrayIndexes(
            **{state.lower(): str(those) for state, those in sets.items() if those}
        ),
        attempts=[
            IndexAttempts(attempts=number, indexes=str(those))
            for number, those in counted.attempts.items()
        ],
        out_of_memory=_event_rows(counted.out_of_memory),
        hosts_lost=_event_rows(counted.hosts_lost),
        waiting=_waiting_rows(look, hold, now) if look.limits.rules else [],
        preempted=_event_rows(counted.preempted),
        moved=_event_rows(counted.moved),
        failures=_failure_rows(counted.failures),
        parameters_digest=digest,
        parameters_digest_indexes=of,
    )


def _parameters_digest(look: Evaluation) -> tuple[str | None, str | None]:
    """What the children were first ready to start with, or failed with before; it stays.

    And which indexes it is of, when they are another array's.
    """
    stored = look.job.status.array
    if stored is not None and stored.parameters_digest is not None:
        return stored.parameters_digest, stored.parameters_digest_indexes
    if look.lines is not None and look.lines.source == source_of(look.job):
        return look.lines.digest, str(look.lines.indexes)
    if look.hold is None or look.hold.reason is not Reason.PARAMETERS_BEING_RECORDED:
        return None, None
    per_index = look.plan.per_index if look.plan else None
    assert per_index is not None  # it is what holds them
    return per_index.digest, None


def _waiting_rows(look: Evaluation, hold: Hold | None, now: datetime) -> list[WaitingChildren]:
    """Why children without a Pod wait, and since when: what time limits count from.

    AWS: the clock is that of the job at the head of its queue, here the child whose turn is next.
    """
    ready = look.children.waiting - look.gated
    first = next(iter(look.children.retrying & ready or ready), None)
    found: list[tuple[JobState, Hold, int | None]] = []
    if look.gate_hold:
        found.append((JobState.PENDING, look.gate_hold, None))
    if first is not None and hold:
        found.append((_idle_state(look), hold, first))
    stored = look.job.status.array
    since = (
        {(row.state, row.reason, row.index): row.since for row in stored.waiting} if stored else {}
    )
    return [
        WaitingChildren(
            state=state,
            reason=why.reason,
            status_reason=why.status_reason,
            index=index,
            since=since.get((state, why.reason, index), now),
        )
        for state, why, index in found
    ]


def _event_rows(events: Mapping[int, IndexSet]) -> list[IndexEvents]:
    return [IndexEvents(times=times, indexes=str(those)) for times, those in events.items()]


def _failure_rows(failures: Mapping[FailureKey, IndexSet]) -> list[IndexFailure]:
    """One row per kind of failure, most frequent first; what exceeds the bound is summed up.

    Before them comes the one by which a time limit that ended the job is known.
    """
    kinds = [one for one in failures.items() if one[0] != _OTHER_FAILURES]
    ordered = sorted(
        kinds, key=lambda one: (limit_behind(one[0]) is None, -len(one[1]), str(one[0]))
    )
    rest = failures.get(_OTHER_FAILURES, IndexSet())
    if rest or len(ordered) > FAILURE_ROWS_MAX:
        for _, those in ordered[FAILURE_ROWS_MAX - 1 :]:
            rest |= those
        ordered = [*ordered[: FAILURE_ROWS_MAX - 1], (_OTHER_FAILURES, rest)]
    return [
        IndexFailure(
            exit_code=exit_code, reason=reason, status_reason=status_reason, indexes=str(those)
        )
        for (exit_code, reason, status_reason), those in ordered
    ]


def _conditions(
    look: Evaluation, state: JobState, hold: Hold | None, now: datetime
) -> list[Condition]:
    """`Complete` and `Failed` as batch/v1 Jobs have them; `Reconciling` and `Stalled` for kstatus.

    kstatus reads an object without True conditions as current, so an open job is Reconciling; and
    it knows failure only as Stalled, so a FAILED job is that too.
    """
    ending = look.ending
    if ending is None:
        wanted = [_open_condition(look, state, hold)]
        if look.notice:
            wanted.append((EXCEEDED, look.notice.token, look.notice.message))
    elif ending.state is JobState.SUCCEEDED:
        wanted = [("Complete", ending.token, ending.message)]
    else:
        wanted = [("Failed", ending.token, ending.message), ("Stalled", ending.token, "")]
    before = {condition.type: condition for condition in look.job.status.conditions}
    generation = look.job.generation
    return [
        _condition((kind, reason, message[:MESSAGE_LENGTH_MAX], generation), before.get(kind), now)
        for kind, reason, message in wanted
    ]


def _condition(
    wanted: tuple[str, str, str, int], before: Condition | None, now: datetime
) -> Condition:
    """The condition as it stands if it says all this already; else anew, true since it has been."""
    kind, reason, message, generation = wanted
    if before is not None:
        known = (before.type, before.reason, before.message, before.observed_generation)
        if known == wanted:
            return before
    return Condition(
        type=kind,
        status=ConditionStatus.TRUE,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before is not None else now,
    )


def _open_condition(look: Evaluation, state: JobState, hold: Hold | None) -> tuple[str, str, str]:
    if hold is not None and hold.stalled and not look.children.active:
        return "Stalled", hold.reason, hold.message
    return "Reconciling", state.title(), ""
