"""One job, looked at once: what it is, what it may start, what its Pods need, when to look again.

The scheduling cycle calls `evaluate` for every job that something changed about, places what may
start, and then asks `lifecycle.status` for the status to write.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from batch_operator.api.common import RetryStrategy
from batch_operator.api.index_set import IndexSet
from batch_operator.lifecycle.array_parameters import RecordedLines, recorded_lines
from batch_operator.lifecycle.children import Children, children_of, doomed
from batch_operator.lifecycle.clocks import later
from batch_operator.lifecycle.dependencies import Doom, Gate, Upstream
from batch_operator.lifecycle.endings import ending_of
from batch_operator.lifecycle.gang import (
    deciding,
    failure_to_start,
    gangs_of,
    is_over,
    lingers,
    missing_groups,
    openings,
    to_stop,
    usage_of,
    with_gangs,
)
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.interruptions import with_interrupted
from batch_operator.lifecycle.limits import (
    NO_LIMITS,
    TimeLimits,
    limits_of,
    notice_of,
    stays_due,
    waits_of,
)
from batch_operator.lifecycle.members import awaited_array, told_size
from batch_operator.lifecycle.plan import INVALID_STATUS_REASON, Invalid, Plan
from batch_operator.lifecycle.stops import (
    Policy,
    Stop,
    review,
    stop_by_limit,
    stop_of,
    stops_of_children,
)
from batch_operator.lifecycle.stored_counts import counted_in
from batch_operator.lifecycle.surroundings import NOWHERE
from batch_operator.lifecycle.suspension import with_suspended

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.common import Timeout
    from batch_operator.api.job import BatchJobSpec, BatchJobStatus
    from batch_operator.api.stored import Stored
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.endings import Ending
    from batch_operator.lifecycle.gang import Gang, Opening
    from batch_operator.lifecycle.limits import Due, Notice
    from batch_operator.lifecycle.multi_node import NodeGroup
    from batch_operator.lifecycle.stops import Review
    from batch_operator.lifecycle.surroundings import Surroundings

    Job = Stored[BatchJobSpec, BatchJobStatus]

STATUS_REASON_LENGTH_MAX = 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server's answer to a Pod of a job: when it may be tried again, and what it said.

    `final` marks a Pod that no retry can make acceptable (HTTP 422: the template is invalid).
    `window` bounds the starts of the job: one after a refusal, twice as many after each Pod that is
    accepted. `times` counts refusals in a row.
    """

    message: str
    retry_at: datetime
    final: bool
    window: int = 1
    times: int = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one look at a job found. `hold` is why it may not start more, when it is not capacity.

    `startable` are the indexes that may start now if there is room (`start_limit` of them at
    most), and `gated` those that wait for their dependencies.
    """

    job: Job
    plan: Plan | None
    children: Children
    ending: Ending | None
    hold: Hold | None
    startable: IndexSet = IndexSet()
    gated: IndexSet = IndexSet()
    start_limit: int = 0
    gate_hold: Hold | None = None
    """Why `gated` children wait."""
    knows_members: bool = True
    """Whether it is known which children the job has."""
    lines: RecordedLines | None = None
    """What the array had whose failed indexes the job runs again, if that has just become known."""
    told_size: int | None = None
    """AWS_BATCH_JOB_ARRAY_SIZE of its children, if that has just become known."""
    to_stop: tuple[PodAttempt, ...] = ()
    """Attempts that have to be ended now."""
    to_move: tuple[tuple[PodAttempt, str], ...] = ()
    """Attempts that have to be ended now so that their children go on elsewhere, and the marks."""
    limits: TimeLimits = NO_LIMITS
    node_hold: Hold | None = None
    """Why no node has the attempt that waits for one, where its nodes are planned."""
    notice: Notice | None = None
    """What the queue's time limits ask to be told of it."""
    gangs: tuple[Gang, ...] = ()
    """Of a multi-node job: what is left of its attempts, oldest first."""
    to_open: tuple[Opening, ...] = ()
    """Pods of a multi-node job whose turn it is to start."""
    to_complete: tuple[int, ...] = ()
    """Groups of the last gang that are still to be asked for."""
    usage: Mapping[str, int] = field(default_factory=dict)
    """Milli-CPU that live attempts hold, by compute environment."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Units that live attempts hold, by consumable resource."""
    expired: bool = False
    """The job has been over for longer than its ttlSecondsAfterFinished: delete it."""
    look_again_at: datetime | None = None


def upstream_of(job: Job) -> Upstream:
    """A job as those see it that depend on it."""
    array = job.spec.array_properties
    counted = counted_in(job)
    return Upstream(
        job.status.state,
        counted.members,
        counted.succeeded,
        counted.failed,
        array is not None,
        knows_members=awaited_array(job) is None,
        lines=recorded_lines(job),
        told_size=told_size(job),
        is_rerun=array is not None and array.rerun_failed_of is not None,
    )


def evaluate_final(job: Job, attempts: Sequence[PodAttempt], now: datetime) -> Evaluation:
    """Look at a job that is over: only its Pods and its time to live are left to see to."""
    gangs = gangs_of(attempts)
    children = children_of(counted_in(job), deciding(attempts, gangs), RetryStrategy(), {})
    expires_at = _expires_at(job)
    return Evaluation(
        job=job,
        plan=None,
        children=with_gangs(children, gangs),
        ending=None,
        hold=None,
        to_stop=_all_to_stop((), gangs),
        gangs=gangs,
        usage=_usage(children.live, gangs, ()),
        expired=expires_at is not None and now >= expires_at,
        look_again_at=expires_at,
    )


def evaluate(
    job: Job,
    attempts: Sequence[PodAttempt],
    plan: Plan | Hold | Invalid,
    gate: Gate,
    *,
    policy: Policy,
    now: datetime,
    queue_hold: Hold | None = None,
    refusal: Refusal | None = None,
    around: Surroundings = NOWHERE,
) -> Evaluation:
    """Look at one job that is not over.

    Args:
        job: as stored, with the last written status.
        attempts: what its Pods show, and creates that are on their way.
        plan: what its attempts run, or why that is not known (yet).
        gate: what its dependencies let through.
        policy: operator settings.
        now: the time of this look.
        queue_hold: why its queue takes nothing now, if so.
        refusal: what the API server said to its last Pod, if it refused it.
        around: its queue's time limits, and what becomes of environments and nodes.
    """
    stored = counted_in(job, gate.members)
    limits = limits_of(around, stored)
    stop = stop_of(job.spec, stored)
    retry, timeout = _rules(job, plan)
    gangs = gangs_of(attempts)
    groups = plan.groups if isinstance(plan, Plan) else ()
    deciders = deciding(attempts, gangs)
    reviewed = review(deciders, stop, timeout, policy, now, limits, stops_of_children(job.spec))
    reviewed = with_interrupted(reviewed, attempts, around.going)
    reviewed = _with_unstarted(reviewed, [] if stop else gangs, groups, refusal, around.gone, now)
    reviewed = with_suspended(reviewed, deciders if job.spec.suspend else (), stored.pinned)
    children = children_of(stored, deciders, retry, reviewed.verdicts)
    knows_members = gate.members is not None or awaited_array(job) is None
    waits = _waits(limits, job, children, gate, knows_members=knows_members)
    # The failure that is one too many stops the rest in the look that counts it.
    stop = stop_of(job.spec, children.counted) or stop_by_limit(waits, now)
    children, doom, stop = _doomed(job.spec, children, plan, gate, stop, refusal)
    gated = children.waiting - gate.open
    held = refusal if refusal and now < refusal.retry_at else None
    own_hold = _children_hold(plan, gate, children, knows_members=knows_members)
    counted = stored.used(0)
    over = [one for one in gangs if is_over(one, counted, reviewed.verdicts, reviewed.to_stop)]
    hold = _hold(job, plan, own_hold, queue_hold, held, stop) or _gang_hold(over)
    limit = 0 if hold or job.deleting else _start_limit(job.spec, children, gated, refusal)
    may_begin = stop is None and not job.spec.suspend and not job.deleting
    last = gangs[-1] if gangs and gangs[-1] not in over else None
    missing = missing_groups(last, groups) if last else ()
    return Evaluation(
        job=job,
        plan=plan if isinstance(plan, Plan) else None,
        children=with_gangs(children, [one for one in gangs if one.number <= counted]),
        ending=_ending(job, children, stop, doom, knows_members=knows_members),
        hold=hold,
        startable=children.waiting - gated if limit else IndexSet(),
        gated=gated,
        gate_hold=gate.hold if gated else None,
        knows_members=knows_members,
        lines=gate.lines,
        told_size=gate.told_size,
        start_limit=limit,
        to_stop=_all_to_stop(reviewed.to_stop, over),
        to_move=reviewed.to_move,
        limits=limits,
        notice=_notice(limits, waits, children, now),
        gangs=gangs,
        to_open=tuple(openings(last, groups, may_begin=may_begin)) if last else (),
        to_complete=missing if may_begin and not held else (),
        usage=_usage(children.live, gangs, [groups[number] for number in missing]),
        held=_held(plan, children.live, gangs) if isinstance(plan, Plan) else {},
        look_again_at=_look_again_at(hold, reviewed, waits, now),
    )


def _with_unstarted(
    reviewed: Review,
    gangs: Sequence[Gang],
    groups: Collection[NodeGroup],
    refusal: Refusal | None,
    gone: Collection[str],
    now: datetime,
) -> Review:
    if not gangs:
        return reviewed
    problem = _final_refusal(refusal)
    refused = _invalid(problem) if problem else None
    failed = (failure_to_start(gang, groups, refused, gone, now) for gang in gangs)
    verdicts = {one.pod_uid: one for one in failed if one is not None}
    if not verdicts:
        return reviewed
    return replace(reviewed, verdicts={**verdicts, **reviewed.verdicts})


def _waits(
    limits: TimeLimits, job: Job, children: Children, gate: Gate, *, knows_members: bool
) -> list[Due]:
    """When the queue's time limits apply to children that have no Pod."""
    is_gated = bool(children.waiting - gate.open) or not knows_members
    is_ready = bool(children.waiting & gate.open)
    return waits_of(limits, job.status, is_gated=is_gated, is_ready=is_ready)


def _notice(
    limits: TimeLimits, waits: Sequence[Due], children: Children, now: datetime
) -> Notice | None:
    return notice_of(limits, [*waits, *stays_due(limits, children.live)], now)


def _look_again_at(
    hold: Hold | None, reviewed: Review, waits: Sequence[Due], now: datetime
) -> datetime | None:
    times = [hold.look_again_at if hold else None, reviewed.look_again_at]
    times += [one.at for one in waits if one.at > now]
    return min((one for one in times if one is not None), default=None)


def _ending(
    job: Job, children: Children, stop: Stop | None, doom: Doom | None, *, knows_members: bool
) -> Ending | None:
    if not children.all_final or not (knows_members or doom):
        return None
    return ending_of(job, children, stop, doom)


def _final_refusal(refusal: Refusal | None) -> str | None:
    """Why the API server will never take a Pod of the job, if so."""
    if refusal is None or not refusal.final:
        return None
    return f"the API server refused its Pod: {refusal.message}"


def _invalid(problem: str) -> str:
    return f"{INVALID_STATUS_REASON}: {problem}"[:STATUS_REASON_LENGTH_MAX]


def _all_to_stop(attempts: Sequence[PodAttempt], over: Sequence[Gang]) -> tuple[PodAttempt, ...]:
    """What has to be ended now, each once: attempts, and what is left of gangs that are over.

    What stands for a main node that is gone is among both, and counts as the node that it is.
    """
    those = (*attempts, *(one for gang in over for one in to_stop(gang)))
    return tuple({one.pod_uid: one for one in those}.values())


def _gang_hold(over: Sequence[Gang]) -> Hold | None:
    """A gang is followed by another only when nothing of it runs any more."""
    left = [gang for gang in over if lingers(gang)]
    if not left:
        return None
    return Hold(Reason.STOPPING, f"the nodes of attempt {left[0].number} are being stopped")


def _rules(job: Job, plan: Plan | Hold | Invalid) -> tuple[RetryStrategy | None, Timeout | None]:
    """Retry strategy (None while it is not known) and timeout: the job's own, else the plan's."""
    if isinstance(plan, Plan):
        return plan.retry, plan.timeout
    known = RetryStrategy() if isinstance(plan, Invalid) else None
    return job.spec.retry_strategy or known, job.spec.timeout


def _doomed(
    spec: BatchJobSpec,
    children: Children,
    plan: Plan | Hold | Invalid,
    gate: Gate,
    stop: Stop | None,
    refusal: Refusal | None,
) -> tuple[Children, Doom | None, Stop | None]:
    """Count what waits and can never run as failed; and why, for the job's last words.

    So many may fail by this that the job is stopped, and with it the rest.
    """
    for indexes, one in stops_of_children(spec):
        children = doomed(children, indexes, (None, None, one.status_reason))
    causes: list[tuple[Doom, IndexSet]] = []
    if stop:
        causes.append((Doom(stop.status_reason, stop.token, stop.message), children.waiting))
    if gate.doom:
        causes.append((gate.doom, gate.doomed))
    problem = plan.message if isinstance(plan, Invalid) else _final_refusal(refusal)
    if problem is not None:
        causes.append((Doom(_invalid(problem), "InvalidJob", problem), children.waiting))
    for doom, indexes in causes:
        children = doomed(children, indexes, (None, None, doom.status_reason))
    if found := stop_of(spec, children.counted):
        stop = found
        children = doomed(children, children.waiting, (None, None, stop.status_reason))
    return children, causes[0][0] if causes else None, stop


def _children_hold(
    plan: Plan | Hold | Invalid, gate: Gate, children: Children, *, knows_members: bool
) -> Hold | None:
    """Why none of the children that wait may start: their dependencies, or values to come."""
    gated = children.waiting - gate.open
    if (gated or not knows_members) and gated == children.waiting:
        return gate.hold
    return plan.hold if isinstance(plan, Plan) and children.waiting - gated else None


def _hold(
    job: Job,
    plan: Plan | Hold | Invalid,
    children_hold: Hold | None,
    queue_hold: Hold | None,
    refusal: Refusal | None,
    stop: Stop | None,
) -> Hold | None:
    """Why the job starts nothing, in the order in which a user would want to know."""
    reasons = (
        Hold(Reason.STOPPING, f"{stop.message}; its Pods are being stopped") if stop else None,
        plan if isinstance(plan, Hold) else None,
        children_hold,
        _SUSPENDED if job.spec.suspend else None,
        queue_hold,
        _refused_hold(refusal) if refusal else None,
    )
    return next((one for one in reasons if one is not None), None)


_SUSPENDED = Hold(Reason.SUSPENDED, "spec.suspend is true: it starts nothing until it is false")


def _refused_hold(refusal: Refusal) -> Hold:
    """The API server would not take a Pod of this job: a quota, a policy, a limit range."""
    return Hold(
        Reason.POD_REFUSED,
        f"the API server refused the Pod: {refusal.message}; tried again at "
        f"{refusal.retry_at:%H:%M:%S}Z",
        look_again_at=refusal.retry_at,
    )


_NO_USAGE: Mapping[str, int] = MappingProxyType({})


def _usage(
    live: Sequence[PodAttempt], gangs: Sequence[Gang], missing: Sequence[NodeGroup]
) -> Mapping[str, int]:
    """What attempts hold, with what is still to be asked for of the last gang."""
    if not (live or gangs):
        return _NO_USAGE
    usage: Counter[str] = Counter()
    for attempt in live:
        if attempt.node_group is None:
            usage[attempt.environment] += attempt.milli_cpu
    for gang in gangs:
        usage += usage_of(gang)
    if missing and (main := gangs[-1].main):
        usage[main.environment] += sum(one.milli_cpu for one in missing)
    return usage


def _held(plan: Plan, live: Sequence[PodAttempt], gangs: Sequence[Gang]) -> Mapping[str, int]:
    """Units that attempts hold; AWS gives those of a job that is over back at once."""
    count = sum(one.node_group is None for one in live) + sum(map(lingers, gangs))
    return {name: quantity * count for name, quantity in plan.units} if count else {}


def _start_limit(
    spec: BatchJobSpec, children: Children, gated: IndexSet, refusal: Refusal | None
) -> int:
    """How many more children may start now, room permitting (`arrayProperties.maxParallel`)."""
    limit = len(children.waiting - gated)
    array = spec.array_properties
    if array is not None and array.max_parallel is not None:
        limit = min(limit, array.max_parallel - len(children.live))
    if refusal is not None:
        limit = min(limit, refusal.window)
    return max(0, limit)


def _expires_at(job: Job) -> datetime | None:
    ttl_s = job.spec.ttl_seconds_after_finished
    if ttl_s is None or job.deleting:
        return None
    return later(job.status.stopped_at or job.created_at, timedelta(seconds=ttl_s))
