"""One job, looked at once: what it is, what it may start, what its Pods need, when to look again.

The scheduling cycle calls `evaluate` for every job that something changed about, places what may
start, and then asks `lifecycle.status` for the status to write.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.common import RetryStrategy
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState
from batch_operator.lifecycle.attempt import EXITED, FAILED_TO_START, Phase
from batch_operator.lifecycle.children import Children, Counted, children_of
from batch_operator.lifecycle.dependencies import DEPENDENT_JOB_FAILED, DependencyFailed
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.plan import INVALID_STATUS_REASON, Invalid, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.job import BatchJobSpec, BatchJobStatus
    from batch_operator.api.stored import Stored
    from batch_operator.lifecycle.attempt import PodAttempt

    Job = Stored[BatchJobSpec, BatchJobStatus]

FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED})
STATUS_REASON_LENGTH_MAX = 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's settings that rules depend on."""

    start_failure_grace_s: float = 60.0
    """How long a container on a node may fail to start (an image that cannot be pulled) before
    the attempt is given up."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends: state, AWS's string for why; a token and a sentence for its conditions."""

    state: JobState
    status_reason: str
    token: str
    message: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one look at a job found. `hold` is why it may not start more, when it is not capacity.

    `startable` are the indexes that may start now if there is room, `retries` the part of them
    that goes to the front of the queue.
    """

    job: Job
    plan: Plan | None
    children: Children
    ending: Ending | None
    hold: Hold | None
    startable: IndexSet = IndexSet()
    start_limit: int = 0
    usage: Mapping[str, int] = field(default_factory=dict)
    """Milli-CPU that live attempts hold, by compute environment."""
    expired: bool = False
    """The job has been over for longer than its ttlSecondsAfterFinished: delete it."""
    look_again_at: datetime | None = None


def dependencies_met(status: BatchJobStatus) -> bool:
    """Whether the stored status already says that the job is past its dependencies.

    Dependencies are asked once: a job that was let through stays through when the job that it
    waited for is deleted later.
    """
    if status.array is not None:
        summary = status.array.status_summary
        return not (summary.get(JobState.SUBMITTED) or summary.get(JobState.PENDING))
    return status.state not in {JobState.SUBMITTED, JobState.PENDING}


def members_of(spec: BatchJobSpec) -> IndexSet:
    """The indexes that a job consists of; `{0}` for a job that is no array."""
    array = spec.array_properties
    if array is None:
        return IndexSet.range(1)
    return IndexSet.range(array.size) if array.size else IndexSet.parse(array.indexes or "")


def counted_in(job: Job) -> Counted:
    """What the stored status has counted; see `lifecycle.children` for why that matters."""
    members = members_of(job.spec)
    status = job.status
    if job.spec.array_properties is None:
        used = sum(1 for row in status.attempts if row.stopped_at is not None)
        return Counted(
            members=members,
            succeeded=members if status.state is JobState.SUCCEEDED else IndexSet(),
            failed=members if status.state is JobState.FAILED else IndexSet(),
            attempts={used: members} if used and status.state not in FINAL else {},
        )
    if status.array is None:
        return Counted(members=members)
    return Counted(
        members=members,
        succeeded=IndexSet.parse(status.array.indexes.succeeded or ""),
        failed=IndexSet.parse(status.array.indexes.failed or ""),
        attempts={row.attempts: IndexSet.parse(row.indexes) for row in status.array.attempts},
        failures={
            (row.exit_code, row.reason, row.status_reason): IndexSet.parse(row.indexes)
            for row in status.array.failures
        },
    )


def evaluate_final(job: Job, attempts: Sequence[PodAttempt], now: datetime) -> Evaluation:
    """Look at a job that is over: only its Pods and its time to live are left to see to."""
    children = children_of(counted_in(job), attempts, RetryStrategy(), given_up={})
    expires_at = _expires_at(job)
    return Evaluation(
        job=job,
        plan=None,
        children=children,
        ending=None,
        hold=None,
        usage=_usage(children.live),
        expired=expires_at is not None and now >= expires_at,
        look_again_at=expires_at,
    )


def evaluate(
    job: Job,
    attempts: Sequence[PodAttempt],
    plan: Plan | Hold | Invalid,
    dependencies: Hold | DependencyFailed | None,
    queue_hold: Hold | None,
    policy: Policy,
    now: datetime,
) -> Evaluation:
    """Look at one job that is not over.

    Args:
        job: as stored, with the last written status.
        attempts: what its Pods show, and creates that are on their way.
        plan: what its attempts run, or why that is not known (yet).
        dependencies: what `dependency_hold` says; not asked again once the job was let through.
        queue_hold: why its queue takes nothing now, if so.
        policy: operator settings.
        now: the time of this look.
    """
    retry = plan.retry if isinstance(plan, Plan) else RetryStrategy()
    given_up, deadline = _given_up(attempts, policy, now)
    children = children_of(counted_in(job), attempts, retry, given_up)
    usage = _usage(children.live)
    ending = _ending(job.spec, children, plan, dependencies)
    if ending and not children.all_final:
        children = _all_failed(children)
    hold = (plan if isinstance(plan, Hold) else None) or _open(dependencies) or queue_hold
    limit = 0 if hold or ending or job.deleting else _start_limit(job.spec, children)
    return Evaluation(
        job=job,
        plan=plan if isinstance(plan, Plan) else None,
        children=children,
        ending=ending,
        hold=hold,
        startable=children.waiting if limit else IndexSet(),
        start_limit=limit,
        usage=usage,
        look_again_at=deadline,
    )


def _open(dependencies: Hold | DependencyFailed | None) -> Hold | None:
    return dependencies if isinstance(dependencies, Hold) else None


def _ending(
    spec: BatchJobSpec,
    children: Children,
    plan: Plan | Hold | Invalid,
    dependencies: Hold | DependencyFailed | None,
) -> Ending | None:
    """Whether the job is over. A job with Pods alive is not, whatever its plan says."""
    if children.all_final:
        return _counted_ending(spec, children)
    if children.live or children.newly_ended:
        return None
    if isinstance(dependencies, DependencyFailed):
        message = f"job {dependencies.job}, which this one depends on, failed"
        return Ending(JobState.FAILED, DEPENDENT_JOB_FAILED, "DependencyFailed", message)
    if isinstance(plan, Invalid):
        reason = f"{INVALID_STATUS_REASON}: {plan.message}"[:STATUS_REASON_LENGTH_MAX]
        return Ending(JobState.FAILED, reason, "InvalidJob", plan.message)
    return None


def _counted_ending(spec: BatchJobSpec, children: Children) -> Ending:
    """The outcome that the children's outcomes give (AWS: SUCCEEDED iff all children did)."""
    counted = children.counted
    total, failed = len(counted.members), len(counted.failed)
    if spec.array_properties is not None:
        if not failed:
            message = f"all {total} children succeeded"
            return Ending(JobState.SUCCEEDED, EXITED, "Succeeded", message)
        message = f"{failed} of {total} children failed"
        return Ending(JobState.FAILED, "Array Child Job failed", "ArrayChildJobFailed", message)
    if not failed:
        return Ending(JobState.SUCCEEDED, EXITED, "Succeeded", "the job succeeded")
    exit_code, reason, status_reason = next(iter(counted.failures), (None, None, None))
    detail = [status_reason or "the last attempt failed"]
    if exit_code is not None:
        detail.append(f"exit code {exit_code}")
    if reason:
        detail.append(reason)
    return Ending(JobState.FAILED, detail[0], "AttemptFailed", "; ".join(detail))


def _all_failed(children: Children) -> Children:
    counted = children.counted
    return replace(
        children,
        counted=replace(counted, failed=counted.members - counted.succeeded, attempts={}),
        waiting=IndexSet(),
        retrying=IndexSet(),
    )


def _usage(live: Sequence[PodAttempt]) -> Mapping[str, int]:
    usage: dict[str, int] = defaultdict(int)
    for attempt in live:
        usage[attempt.environment] += attempt.milli_cpu
    return usage


def _start_limit(spec: BatchJobSpec, children: Children) -> int:
    """How many more children may start now, room permitting (`arrayProperties.maxParallel`)."""
    waiting = len(children.waiting)
    array = spec.array_properties
    if array is None or array.max_parallel is None:
        return waiting
    return max(0, min(waiting, array.max_parallel - len(children.live)))


def _given_up(
    attempts: Sequence[PodAttempt], policy: Policy, now: datetime
) -> tuple[dict[str, PodAttempt], datetime | None]:
    """Attempts whose containers cannot start and have had their grace; and the next such time."""
    given_up: dict[str, PodAttempt] = {}
    deadlines: list[datetime] = []
    for attempt in attempts:
        error = attempt.start_error
        if error is None or attempt.deleting:
            continue
        grace_s = 0.0 if error.hopeless else policy.start_failure_grace_s
        since = attempt.bound_at or now
        if now >= since + timedelta(seconds=grace_s):
            given_up[attempt.pod_uid] = replace(
                attempt,
                phase=Phase.FAILED,
                stopped_at=now.replace(microsecond=0),
                reason=error.reason,
                status_reason=FAILED_TO_START,
            )
        else:
            deadlines.append(since + timedelta(seconds=grace_s))
    return given_up, min(deadlines, default=None)


def _expires_at(job: Job) -> datetime | None:
    ttl_s = job.spec.ttl_seconds_after_finished
    if ttl_s is None or job.deleting:
        return None
    return (job.status.stopped_at or job.created_at) + timedelta(seconds=ttl_s)


def refused_hold(message: str, *, retry_at: datetime) -> Hold:
    """The API server would not take a Pod of this job: a quota, a policy, a limit range."""
    return Hold(
        Reason.POD_REFUSED,
        f"the API server refused the Pod: {message}; tried again at {retry_at:%H:%M:%S}Z",
    )
