"""One scheduling cycle: from a snapshot to the writes that follow.

The slow and obviously correct algorithm: look at every job; walk the queues from the highest
priority to the lowest and each queue from its front, starting what fits into the first of its
compute environments with room, and stop a queue at the first job that does not fit (AWS Batch's
head-of-line blocking); compose every job's status; write what differs.

The one optimisation: only jobs that something changed about are looked at again, the rest are
remembered in the `Memo`. Placement reads queues from the front up to the first job that does not
fit, so a cycle costs what changed and what starts, whatever the number of jobs that wait. The
result is the same because a look is a function of nothing but what marks its job as changed.

Phases: 1 look at changed jobs · 2 place · 3 statuses of jobs · 4 of queues and environments,
revisions of definitions · 5 when to look again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_operator.lifecycle.dependencies import DependencyFailed, dependency_hold
from batch_operator.lifecycle.evaluate import (
    FINAL,
    Evaluation,
    dependencies_met,
    evaluate,
    evaluate_final,
    refused_hold,
)
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.plan import Invalid, Plan, make_plan
from batch_operator.lifecycle.status import status_of
from batch_operator.scheduling import administration
from batch_operator.scheduling.backlog import RETRY
from batch_operator.scheduling.mutations import (
    DeleteJob,
    DeletePod,
    Mutation,
    ReleasePod,
    StartAttempt,
    Urgency,
    WriteStatus,
)
from batch_operator.scheduling.placement import (
    capacity_hold,
    capacity_milli,
    never_fits_hold,
    node_selector,
    queue_hold,
    usable_environments,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from batch_operator.api.job import BatchJobStatus, JobState
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.scheduling.backlog import Backlog
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Job, Snapshot


@dataclass(frozen=True, slots=True)
class Fault:
    """A job that could not be looked at: an error in this program, kept away from other jobs."""

    uid: str
    name: str
    error: Exception


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What a cycle decided. `mutations` are in the order in which they should be sent."""

    mutations: tuple[Mutation, ...]
    wake_at: datetime | None
    looked_at: int
    faults: tuple[Fault, ...] = ()


def run_cycle(snapshot: Snapshot, memo: Memo) -> CycleResult:
    """Decide once. `memo` is updated; an empty one gives the same decisions, at a higher cost."""
    faults: list[Fault] = []
    mutations: list[Mutation] = []
    looked: list[str] = []
    for uid in _to_look_at(snapshot, memo):
        try:
            mutations += _look(snapshot, memo, uid)
            looked.append(uid)
        except Exception as error:  # noqa: BLE001  # one broken job must not stop the others
            job = snapshot.jobs.get(uid)
            faults.append(Fault(uid, f"{job.namespace}/{job.name}" if job else uid, error))
    starts, moved_heads = _place(snapshot, memo)
    mutations += starts
    started = {start.job.uid for start in starts}
    composed = dict.fromkeys((*looked, *moved_heads))
    for uid in composed:
        # A job that starts something is looked at in the next cycle, with its creates in it.
        if uid not in started and (look := memo.looks.get(uid)) is not None:
            mutations.append(_job_status(snapshot, memo, look))
    mutations += administration.mutations(snapshot, memo)
    memo.is_empty = False
    return CycleResult(tuple(mutations), memo.next_deadline(), len(looked), tuple(faults))


# Phase 1


def _to_look_at(snapshot: Snapshot, memo: Memo) -> list[str]:
    """Uids of the jobs that something changed about, in order of submission."""
    if memo.is_empty:
        found = {*snapshot.jobs, *snapshot.attempts}
    else:
        changes = snapshot.changes
        found = {*changes.jobs, *memo.due(snapshot.now)}
        for uid in changes.jobs:
            job = snapshot.jobs.get(uid)
            key = job.key if job else memo.key_of(uid)
            if key is not None:
                found |= memo.dependents.get(key, set())
        for definition in changes.definitions:
            found |= memo.by_definition.get(definition, set())
        queues = set(changes.queues)
        if changes.environments:
            queues |= {
                name
                for name, queue in snapshot.queues.items()
                if any(
                    one.compute_environment in changes.environments
                    for one in queue.spec.compute_environment_order
                )
            }
        for name in queues:
            found |= memo.by_queue.get(name, set())
    return sorted(found, key=lambda uid: _order(snapshot.jobs.get(uid), uid))


def _order(job: Job | None, uid: str) -> tuple[float, str]:
    return (job.created_at.timestamp() if job else 0.0, uid)


def _look(snapshot: Snapshot, memo: Memo, uid: str) -> list[Mutation]:
    job = snapshot.jobs.get(uid)
    attempts = list(snapshot.attempts.get(uid, {}).values())
    if job is None:
        return _look_at_orphans(memo, uid, attempts)
    if job.status.state in FINAL:
        look = evaluate_final(job, attempts, snapshot.now)
        memo.forget(uid, look.usage)
        memo.watch_deadline(uid, None if look.expired else look.look_again_at)
    else:
        look = _evaluation(snapshot, memo, job, attempts)
        memo.remember(look)
    mutations: list[Mutation] = [ReleasePod(one) for one in look.children.releasable]
    mutations += [DeletePod(one) for one in look.children.overdue]
    if job.deleting:
        mutations += [ReleasePod(one) for one in attempts if one.deleting and one.tracked]
    if look.expired:
        mutations.append(DeleteJob(job.namespace, job.name, job.uid))
    return mutations


def _look_at_orphans(memo: Memo, uid: str, attempts: Iterable[PodAttempt]) -> list[Mutation]:
    """Pods whose job is gone: garbage collection deletes them, we only let them go."""
    usage: Counter[str] = Counter()
    for one in attempts:
        if not one.phase.ended:
            usage[one.environment] += one.milli_cpu
    memo.forget(uid, usage)
    return [ReleasePod(one) for one in attempts if one.tracked and one.deleting]


def _evaluation(snapshot: Snapshot, memo: Memo, job: Job, attempts: list[PodAttempt]) -> Evaluation:
    queue = snapshot.queues.get(job.spec.job_queue)
    held = queue_hold(job.spec.job_queue, queue, job.namespace, snapshot.environments)
    plan = _plan(snapshot, memo, job, attempts)
    if isinstance(plan, Plan) and held is None and queue is not None:
        held = never_fits_hold(queue, snapshot.environments, plan.milli_cpu)
    refusal = snapshot.refusals.get(job.uid)
    if refusal is not None:
        if refusal.final:
            plan = Invalid(f"the API server refused its Pod: {refusal.message}")
        elif snapshot.now < refusal.retry_at:
            held = held or refused_hold(refusal.message, retry_at=refusal.retry_at)
    dependencies = _dependencies(snapshot, job)
    return evaluate(job, attempts, plan, dependencies, held, snapshot.policy, snapshot.now)


def _plan(
    snapshot: Snapshot, memo: Memo, job: Job, attempts: list[PodAttempt]
) -> Plan | Hold | Invalid:
    given = job.status.job_definition
    revision = int(given.partition(":")[2]) if given else None
    if revision is None and attempts:
        revision = attempts[0].revision
    known = memo.plans.get(job.uid)
    if known and known.generation == job.generation and revision in {None, known.revision}:
        return known
    name = job.spec.job_definition.partition(":")[0]
    return make_plan(job, snapshot.definitions.get((job.namespace, name)), revision)


def _dependencies(snapshot: Snapshot, job: Job) -> Hold | DependencyFailed | None:
    if not job.spec.depends_on or dependencies_met(job.status):
        return None
    states: dict[str, JobState] = {}
    for dependency in job.spec.depends_on:
        uid = snapshot.job_uids.get((job.namespace, dependency.job or ""))
        if uid is not None and dependency.job is not None:
            states[dependency.job] = snapshot.jobs[uid].status.state
    return dependency_hold(job.spec, states)


# Phase 2


def _place(snapshot: Snapshot, memo: Memo) -> tuple[list[StartAttempt], list[str]]:
    """Starts for what fits, and the uids of jobs that began or ceased to block their queue."""
    starts: list[StartAttempt] = []
    moved: list[str] = []
    used = Counter(memo.used_milli)
    queues = sorted(snapshot.queues.values(), key=lambda one: (-one.spec.priority, one.name))
    for queue in queues:
        backlog = memo.backlogs.get(queue.name)
        budget = snapshot.start_budget - len(starts)
        if budget <= 0:
            break
        blocked = None
        if backlog:
            usable = usable_environments(queue, snapshot.environments)
            new, blocked = _place_queue(memo, backlog, usable, used, budget)
            starts += new
        before = memo.blocked.pop(queue.name, None)
        if blocked is not None:
            memo.blocked[queue.name] = blocked
        if (before and before[0]) != (blocked and blocked[0]):
            moved += [one[0] for one in (before, blocked) if one is not None]
    return starts, moved


def _place_queue(
    memo: Memo, backlog: Backlog, usable: list[Environment], used: Counter[str], budget: int
) -> tuple[list[StartAttempt], tuple[str, Hold] | None]:
    """Start from the front of one queue until something does not fit; then, which job and why."""
    starts: list[StartAttempt] = []
    blocked = None
    placed: Counter[str] = Counter()
    for rank, _, uid in backlog:
        if len(starts) >= budget:
            break
        look = memo.looks[uid]
        wanted = _wanted(look, rank, placed[uid])[: budget - len(starts)]
        new = _starts(look, wanted, usable, used)
        placed[uid] += len(new)
        starts += new
        if len(new) < len(wanted):
            assert look.plan is not None  # what has no plan is in no backlog
            blocked = (uid, capacity_hold(usable, used, look.plan.milli_cpu))
            break
    # Those that got all they wanted no longer stand before the others; the next cycle, which sees
    # their creates, puts back what is still to come of them.
    for uid, count in placed.items():
        if count and count >= memo.looks[uid].start_limit:
            backlog.set(uid, ())
    return starts, blocked


def _wanted(look: Evaluation, rank: int, already_placed: int) -> list[int]:
    """Indexes that this entry of the queue stands for: retries, or the others; lowest first."""
    retries = look.startable & look.children.retrying
    those = retries if rank == RETRY else look.startable - retries
    return those.first(look.start_limit - already_placed)


def _starts(
    look: Evaluation, wanted: list[int], usable: list[Environment], used: Counter[str]
) -> list[StartAttempt]:
    """Start as many of the wanted indexes as fit, environment by environment, in their order."""
    plan = look.plan
    assert plan is not None  # what has no plan is in no backlog
    starts: list[StartAttempt] = []
    size = len(look.children.counted.members) if look.job.spec.array_properties else None
    left = list(reversed(wanted))
    for environment in usable:
        free = capacity_milli(environment) - used[environment.name]
        selector = node_selector(environment)
        for _ in range(min(len(left), max(0, free) // plan.milli_cpu)):
            index = left.pop()
            used[environment.name] += plan.milli_cpu
            starts.append(
                StartAttempt(
                    job=look.job,
                    plan=plan,
                    index=index,
                    number=look.children.counted.used(index) + 1,
                    array_size=size,
                    environment=environment.name,
                    node_selector=selector,
                )
            )
    return starts


# Phase 3


def _job_status(snapshot: Snapshot, memo: Memo, look: Evaluation) -> WriteStatus:
    job = look.job
    backlog = memo.backlogs[job.spec.job_queue]
    blocked = memo.blocked.get(job.spec.job_queue)
    if blocked is not None and blocked[0] == job.uid:
        hold: Hold | None = blocked[1]
    else:
        hold = _behind(backlog.position(job.uid), job.spec.job_queue)
    status = status_of(look, hold, snapshot.now)
    memo.count_states(job.uid, (job.spec.job_queue, _counts(status)))
    return WriteStatus(
        kind="BatchJob",
        namespace=job.namespace,
        name=job.name,
        uid=job.uid,
        status=None if status == job.status else status,
        urgency=_urgency(look, status),
    )


def _behind(position: int | None, queue: str) -> Hold | None:
    if position is None:
        return None
    return Hold(
        Reason.BEHIND_OTHERS,
        f"number {position} in JobQueue {queue}: those before it start first",
        position=position,
    )


def _counts(status: BatchJobStatus) -> dict[JobState, int]:
    if status.array is not None:
        return {state: count for state, count in status.array.status_summary.items() if count}
    return {status.state: 1}


def _urgency(look: Evaluation, status: BatchJobStatus) -> Urgency:
    if look.ending is not None:
        return Urgency.FINAL
    if look.children.newly_ended:
        return Urgency.COUNTED
    before = look.job.status
    if status.state is before.state and status.array is None and status.attempts == before.attempts:
        return Urgency.LAZY
    return Urgency.NORMAL
