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
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from batch_operator.lifecycle.dependencies import Gate, circular_hold, cycle_from, gate, names_of
from batch_operator.lifecycle.evaluate import (
    Evaluation,
    dependencies_met,
    evaluate,
    evaluate_final,
    members_of,
    passed_in,
    upstream_of,
)
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.plan import Invalid, Plan, make_plan
from batch_operator.lifecycle.states import FINAL
from batch_operator.lifecycle.status import status_after_fault, status_of
from batch_operator.scheduling import administration
from batch_operator.scheduling.administration import Fault
from batch_operator.scheduling.backlog import RETRY
from batch_operator.scheduling.mutations import (
    DeleteJob,
    DeletePod,
    Mutation,
    OpenGate,
    ReleasePod,
    StopPod,
    Urgency,
    WriteStatus,
)
from batch_operator.scheduling.placement import (
    capacity_hold,
    never_fits_hold,
    queue_hold,
    usable_environments,
)
from batch_operator.scheduling.starts import rest_of_gang, starts_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from batch_operator.api.job import BatchJobStatus, JobState
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.scheduling.backlog import Backlog
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Job, Key, Snapshot
    from batch_operator.scheduling.starts import Start

LOOKS_MAX = 2000
"""Looks, and statuses composed, in one cycle. What is left waits for the next, a moment later: the
first survey of a large cluster and an edit of a busy queue must not stop everything else."""
DEPENDENT_TTL_S = 30.0


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What a cycle decided. `mutations` are in the order in which they should be sent.

    `has_more`: work was left for another cycle, which should follow soon.
    """

    mutations: tuple[Mutation, ...]
    wake_at: datetime | None
    looked_at: int
    faults: tuple[Fault, ...] = ()
    has_more: bool = False


def run_cycle(snapshot: Snapshot, memo: Memo) -> CycleResult:
    """Decide once. `memo` is updated; an empty one gives the same decisions, at a higher cost."""
    faults: list[Fault] = []
    mutations: list[Mutation] = []
    looked = _mark(snapshot, memo)
    for uid in looked:
        try:
            mutations += _look(snapshot, memo, uid)
        except Exception as error:  # noqa: BLE001  # one broken job must not stop the others
            mutations += _after_fault(snapshot, memo, uid)
            faults.append(_fault(snapshot, uid, error))
    if memo.to_look and not memo.is_surveyed:
        return CycleResult(tuple(mutations), None, len(looked), tuple(faults), has_more=True)
    memo.is_surveyed = True
    starts, moved_heads = _place(snapshot, memo, faults)
    mutations += starts
    memo.to_compose.update(dict.fromkeys(moved_heads))
    mutations += _compose(snapshot, memo, {start.job.uid for start in starts}, faults)
    mutations += administration.mutations(snapshot, memo, faults)
    has_more = bool(memo.to_look or memo.to_compose)
    wake_at = memo.next_deadline()
    return CycleResult(tuple(mutations), wake_at, len(looked), tuple(faults), has_more)


def _fault(snapshot: Snapshot, uid: str, error: Exception) -> Fault:
    job = snapshot.jobs.get(uid)
    return Fault(f"job {job.namespace}/{job.name}" if job else f"job {uid}", error)


# Phase 1


def _mark(snapshot: Snapshot, memo: Memo) -> list[str]:
    """Uids of the jobs to look at now, in order of submission; what exceeds the bound is kept."""
    found = _changed(snapshot, memo)
    memo.to_look.update(
        dict.fromkeys(sorted(found, key=lambda uid: _order(snapshot.jobs.get(uid), uid)))
    )
    memo.is_empty = False
    now = list(islice(memo.to_look, LOOKS_MAX))
    for uid in now:
        del memo.to_look[uid]
    return now


def _changed(snapshot: Snapshot, memo: Memo) -> set[str]:
    """Jobs about which something changed that a look depends on."""
    if memo.is_empty:
        return {*snapshot.jobs, *snapshot.attempts}
    changes = snapshot.changes
    found = {*changes.jobs, *memo.due(snapshot.now)}
    for uid in changes.jobs:
        job = snapshot.jobs.get(uid)
        if job is not None and job.key in memo.dependents:
            found |= _told(memo, job.key, _outcome(job))
    for key in changes.removed_jobs:
        if key in memo.dependents and key not in snapshot.job_uids:
            found |= _told(memo, key, None)
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
    return found


def _told(memo: Memo, key: Key, outcome: tuple[object, ...] | None) -> set[str]:
    """Those who depend on a job, if what they depend on has changed."""
    if key in memo.outcomes and memo.outcomes[key] == outcome:
        return set()
    if memo.outcomes.get(key) is None or outcome is None:
        memo.proven.pop(key[0], None)  # a name appeared or went: circles may have, too
    memo.outcomes[key] = outcome
    return memo.dependents[key]


def _outcome(job: Job) -> tuple[object, ...]:
    """All that a job which depends on this one can see of it."""
    array = job.status.array
    indexes = (array.indexes.succeeded, array.indexes.failed) if array else ()
    return (job.uid, job.status.state, *indexes)


def _order(job: Job | None, uid: str) -> tuple[float, str]:
    return (job.created_at.timestamp() if job else 0.0, uid)


def _look(snapshot: Snapshot, memo: Memo, uid: str) -> list[Mutation]:
    job = snapshot.jobs.get(uid)
    attempts = list(snapshot.attempts.get(uid, {}).values())
    if job is None:
        return _look_at_orphans(memo, uid, attempts)
    # A Pod elsewhere that claims this job for its owner is somebody's mischief.
    attempts = [one for one in attempts if one.namespace == job.namespace]
    mutations: list[Mutation] = []
    if job.status.state in FINAL:
        look = evaluate_final(job, attempts, snapshot.now)
        memo.forget(uid, look.usage)
        mutations += _last_things(snapshot, memo, look)
    else:
        look = _evaluation(snapshot, memo, job, attempts)
        memo.remember(look)
        memo.to_compose[uid] = None
    mutations += [ReleasePod(one) for one in look.children.releasable]
    mutations += [DeletePod(one) for one in look.children.overdue]
    mutations += [StopPod(one) for one in look.to_stop]
    mutations += [OpenGate(one.pod, one.annotations) for one in look.to_open]
    if look.to_complete:
        mutations += rest_of_gang(snapshot, look)
    if job.deleting:
        mutations += _let_go(attempts)
    return mutations


def _last_things(snapshot: Snapshot, memo: Memo, look: Evaluation) -> list[Mutation]:
    """What is left for a job that is over: to note a change of its spec, and its time to live."""
    job, again_at = look.job, look.look_again_at
    mutations: list[Mutation] = []
    if job.status.observed_generation != job.generation and not job.deleting:
        mutations.append(_write(look, status_of(look, None, snapshot.now), Urgency.NORMAL))
    if look.expired:
        again_at = None
        if memo.dependents.get(job.key):
            # Those who wait for it and for others would take it for one that never was.
            again_at = snapshot.now + timedelta(seconds=DEPENDENT_TTL_S)
        else:
            mutations.append(DeleteJob(job.namespace, job.name, job.uid))
    memo.watch_deadline(job.uid, again_at)
    return mutations


def _look_at_orphans(memo: Memo, uid: str, attempts: list[PodAttempt]) -> list[Mutation]:
    """Pods whose job is gone: garbage collection deletes them, we only let them go."""
    usage: Counter[str] = Counter()
    for one in attempts:
        if not (one.phase.ended or one.is_job):
            usage[one.environment] += one.milli_cpu
    memo.forget(uid, usage)
    return _let_go(attempts)


def _let_go(attempts: Iterable[PodAttempt]) -> list[Mutation]:
    """Pods that are being deleted with their job, once they hold nothing any more."""
    return [
        ReleasePod(one)
        for one in attempts
        if one.tracked and one.deleting and one.phase.ended and not one.is_job
    ]


def _after_fault(snapshot: Snapshot, memo: Memo, uid: str) -> list[Mutation]:
    """A job that cannot be looked at starts nothing, and says so."""
    memo.set_aside(uid)
    job = snapshot.jobs.get(uid)
    if job is None or job.status.state in FINAL:
        return []
    status = status_after_fault(job, snapshot.now)
    return [_write_job(job, status, Urgency.NORMAL)]


def _evaluation(snapshot: Snapshot, memo: Memo, job: Job, attempts: list[PodAttempt]) -> Evaluation:
    queue = snapshot.queues.get(job.spec.job_queue)
    held = queue_hold(job.spec.job_queue, queue, job.namespace, snapshot.environments)
    plan = _plan(snapshot, memo, job, attempts)
    if isinstance(plan, Plan) and held is None and queue is not None:
        held = never_fits_hold(queue, snapshot.environments, plan.milli_cpu)
    return evaluate(
        job,
        attempts,
        plan,
        _gate(snapshot, memo, job),
        policy=snapshot.policy,
        now=snapshot.now,
        queue_hold=held,
        refusal=snapshot.refusals.get(job.uid),
    )


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


def _gate(snapshot: Snapshot, memo: Memo, job: Job) -> Gate:
    """What the job's dependencies let through."""
    if not job.spec.depends_on:
        return Gate(members_of(job.spec))
    passed = passed_in(job)
    own = upstream_of(job)
    if passed == own.members:
        return Gate(passed)
    circle = cycle_from(
        job.name,
        lambda name: _waits_for(snapshot, job.namespace, name),
        memo.proven[job.namespace],
    )
    if circle:
        return Gate(passed, hold=circular_hold(circle))
    names = sorted(names_of(job.spec))
    uids = {name: snapshot.job_uids.get((job.namespace, name)) for name in names}
    found = {name: snapshot.jobs[uid] for name, uid in uids.items() if uid is not None}
    for name in names:
        memo.outcomes.setdefault(
            (job.namespace, name), _outcome(found[name]) if name in found else None
        )
    return gate(job.spec, own, passed, {name: upstream_of(one) for name, one in found.items()})


def _waits_for(snapshot: Snapshot, namespace: str, name: str) -> Iterable[str]:
    uid = snapshot.job_uids.get((namespace, name))
    if uid is None:
        return ()
    job = snapshot.jobs[uid]
    return () if dependencies_met(job.status) else names_of(job.spec)


# Phase 2


def _place(snapshot: Snapshot, memo: Memo, faults: list[Fault]) -> tuple[list[Start], list[str]]:
    """Starts for what fits, and the uids of jobs that began or ceased to block their queue."""
    starts: list[Start] = []
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
            try:
                new, blocked = _place_queue(memo, backlog, usable, used, budget)
            except Exception as error:  # noqa: BLE001  # one broken queue must not stop the others
                faults.append(Fault(f"queue {queue.name}", error))
                continue
            starts += new
        before = memo.blocked.pop(queue.name, None)
        if blocked is not None:
            memo.blocked[queue.name] = blocked
        if (before and before[0]) != (blocked and blocked[0]):
            moved += [one[0] for one in (before, blocked) if one is not None]
    return starts, moved


def _place_queue(
    memo: Memo, backlog: Backlog, usable: list[Environment], used: Counter[str], budget: int
) -> tuple[list[Start], tuple[str, Hold] | None]:
    """Start from the front of one queue until something does not fit; then, which job and why."""
    starts: list[Start] = []
    blocked = None
    placed: Counter[str] = Counter()
    for rank, _, uid in backlog:
        if len(starts) >= budget:
            break
        look = memo.looks[uid]
        wanted = _wanted(look, rank, placed[uid])[: budget - len(starts)]
        new = starts_of(look, wanted, usable, used)
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


# Phase 3


def _compose(
    snapshot: Snapshot, memo: Memo, started: set[str], faults: list[Fault]
) -> list[Mutation]:
    """The statuses of jobs that were looked at, or began or ceased to block their queue."""
    mutations: list[Mutation] = []
    for uid in list(islice(memo.to_compose, LOOKS_MAX)):
        del memo.to_compose[uid]
        look = memo.looks.get(uid)
        # A job that starts something is looked at in the next cycle, with its creates in it; but
        # one that starts something in every cycle must not keep its outcomes to itself.
        if look is None or (uid in started and not look.children.newly_ended):
            continue
        try:
            mutations.append(_job_status(snapshot, memo, look))
        except Exception as error:  # noqa: BLE001  # one broken job must not stop the others
            mutations += _after_fault(snapshot, memo, uid)
            faults.append(_fault(snapshot, uid, error))
    return mutations


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
    return _write(look, status, _urgency(look, status))


def _write(look: Evaluation, status: BatchJobStatus, urgency: Urgency) -> WriteStatus:
    return _write_job(look.job, status, urgency)


def _write_job(job: Job, status: BatchJobStatus, urgency: Urgency) -> WriteStatus:
    return WriteStatus(
        kind="BatchJob",
        namespace=job.namespace,
        name=job.name,
        uid=job.uid,
        decided_on=job.resource_version,
        status=None if status == job.status else status,
        urgency=urgency,
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
