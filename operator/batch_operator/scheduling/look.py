"""One job, looked at in a cycle: what the world says of it, and what follows for its Pods."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.lifecycle.array_parameters import read_of, source_of
from batch_operator.lifecycle.clocks import plausible
from batch_operator.lifecycle.dependencies import Gate, circular_hold, cycle_from, gate, names_of
from batch_operator.lifecycle.evaluate import Evaluation, evaluate, evaluate_final, upstream_of
from batch_operator.lifecycle.holds import Reason
from batch_operator.lifecycle.members import awaited_array, members_of
from batch_operator.lifecycle.plan import Invalid, Plan, is_current, make_plan
from batch_operator.lifecycle.rerun import rerun_gate
from batch_operator.lifecycle.start_troubles import READ_EVERY, explained, read_at
from batch_operator.lifecycle.states import FINAL
from batch_operator.lifecycle.status import status_after_fault, status_of
from batch_operator.lifecycle.stored_counts import dependencies_met, passed_in
from batch_operator.lifecycle.surroundings import Surroundings
from batch_operator.scheduling import ledger, run_times
from batch_operator.scheduling.awaited import gets_nodes
from batch_operator.scheduling.budgets import budget_hold, is_spot_only
from batch_operator.scheduling.charges import charge
from batch_operator.scheduling.composition import write_job
from batch_operator.scheduling.consumables import consumable_hold
from batch_operator.scheduling.environments import (
    large_enough,
    max_waits,
    takes_work,
    time_limits,
)
from batch_operator.scheduling.growth import within_nodes
from batch_operator.scheduling.mutations import (
    DeleteJob,
    DeletePod,
    Mutation,
    OpenGate,
    ReadConfigMap,
    ReadEvents,
    ReleasePod,
    StopPod,
    Urgency,
)
from batch_operator.scheduling.obstacles import never_fits_hold, share_hold
from batch_operator.scheduling.starts import lots_of, needs_of_next, rest_of_gang
from batch_operator.scheduling.terms import terms_of
from batch_operator.scheduling.unplaced import kept_out_hold, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.holds import Hold
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Job, Queue, Snapshot
    from batch_operator.scheduling.unplaced import Bar

DEPENDENT_TTL_S = 30.0


def look_at(snapshot: Snapshot, memo: Memo, uid: str) -> list[Mutation]:
    job = snapshot.jobs.get(uid)
    attempts = list(snapshot.attempts.get(uid, {}).values())
    if job is None:
        return _look_at_orphans(memo, uid, attempts, snapshot.now)
    troubles = snapshot.troubles.get(job.namespace)
    # A Pod elsewhere that claims this job for its owner is somebody's mischief.
    attempts = [plausible(one, snapshot.now) for one in attempts if one.namespace == job.namespace]
    if troubles is not None:
        attempts = [explained(one, troubles) for one in attempts]
    mutations: list[Mutation] = []
    if job.status.state in FINAL:
        look = evaluate_final(job, attempts, snapshot.now)
        memo.forget(uid, look.usage)
        charge(snapshot, memo, look, is_open=False)
        ledger.enter(memo, look)
        mutations += _last_things(snapshot, memo, look)
    else:
        look = _evaluation(snapshot, memo, job, attempts)
        run_times.learn(memo, look)
        queue = snapshot.queues.get(job.spec.job_queue)
        is_fair = queue is not None and queue.spec.scheduling_policy is not None
        share = job.spec.share_identifier
        spot_only = queue is not None and is_spot_only(queue, share, memo)
        bars = _kept_out_of(memo, job, look.plan, snapshot.now)
        memo.remember(look, lots_of(look, is_fair=is_fair, spot_only=spot_only, kept_out_of=bars))
        mutations += _watch_waiting(snapshot, memo, look)
        charge(snapshot, memo, look, is_open=True)
        ledger.enter(memo, look)
        memo.to_compose[uid] = None
    mutations += [ReleasePod(one) for one in look.children.releasable]
    mutations += [DeletePod(one) for one in look.children.overdue]
    mutations += [StopPod(one) for one in look.to_stop]
    mutations += [StopPod(one, mark) for one, mark in look.to_move]
    mutations += [OpenGate(one.pod, one.annotations) for one in look.to_open]
    if look.to_complete:
        mutations += rest_of_gang(snapshot, look)
    if look.hold and look.hold.reason is Reason.PARAMETERS_NOT_READY:
        mutations += _reads(look, look.hold)
    if job.deleting:
        mutations += _let_go(attempts)
    return mutations


def _kept_out_of(memo: Memo, job: Job, plan: Plan | None, now: datetime) -> Mapping[str, Bar]:
    """The environments of which no node took the like of a job, and where it is not tried now."""
    return memo.unplaced.kept_out_of(kind_of(job, plan), now) if plan is not None else {}


def _watch_waiting(snapshot: Snapshot, memo: Memo, look: Evaluation) -> list[Mutation]:
    """Note Pods that no node takes, and ask after those whose nodes do not start them."""
    now, namespace = snapshot.now, look.job.namespace
    unplaced_at, is_mended = memo.unplaced.note(
        look, snapshot.environments, memo.nodes.capacities, now
    )
    if is_mended:
        memo.kind_turned(look.job)
    ask_at = read_at(look.children.live, snapshot.troubles.get(namespace), snapshot.policy)
    is_to_ask = ask_at is not None and ask_at <= now
    times = [look.look_again_at, unplaced_at, now + READ_EVERY if is_to_ask else ask_at]
    memo.watch_deadline(look.job.uid, min(filter(None, times), default=None))
    return [ReadEvents(namespace, look.job.uid)] if is_to_ask else []


def _reads(look: Evaluation, hold: Hold) -> list[Mutation]:
    """The ConfigMap that the job's children wait for, unless it is to be left alone for a while."""
    source = source_of(look.job)
    if source is None or hold.look_again_at is not None:
        return []
    return [ReadConfigMap(source, look.job.uid)]


def _last_things(snapshot: Snapshot, memo: Memo, look: Evaluation) -> list[Mutation]:
    """What is left for a job that is over: to note a change of its spec, and its time to live."""
    job, again_at = look.job, look.look_again_at
    mutations: list[Mutation] = []
    if job.status.observed_generation != job.generation and not job.deleting:
        mutations.append(write_job(job, status_of(look, None, snapshot.now), Urgency.NORMAL))
    if look.expired:
        again_at = None
        if memo.upstreams.is_awaited(job.key):
            # Those who wait for it and for others would take it for one that never was.
            again_at = snapshot.now + timedelta(seconds=DEPENDENT_TTL_S)
        else:
            mutations.append(DeleteJob(job.namespace, job.name, job.uid))
    memo.watch_deadline(job.uid, again_at)
    return mutations


def _look_at_orphans(
    memo: Memo, uid: str, attempts: list[PodAttempt], now: datetime
) -> list[Mutation]:
    """Pods whose job is gone: garbage collection deletes them, we only let them go."""
    usage: Counter[str] = Counter()
    for one in attempts:
        if not (one.phase.ended or one.is_job):
            usage[one.environment] += one.milli_cpu
    memo.forget(uid, usage)
    memo.uncharge_deleted(uid, now)
    ledger.forget_deleted(memo, uid, now)
    return _let_go(attempts)


def after_fault(snapshot: Snapshot, memo: Memo, uid: str) -> list[Mutation]:
    """A job that cannot be looked at starts nothing, and says so."""
    memo.set_aside(uid)
    job = snapshot.jobs.get(uid)
    if job is None or job.status.state in FINAL:
        return []
    status = status_after_fault(job, snapshot.now)
    return [write_job(job, status, Urgency.NORMAL)]


def _evaluation(snapshot: Snapshot, memo: Memo, job: Job, attempts: list[PodAttempt]) -> Evaluation:
    queue = snapshot.queues.get(job.spec.job_queue)
    terms = terms_of(snapshot, memo, job)
    held = terms.hold
    plan = _plan(snapshot, memo, job, attempts)
    if isinstance(plan, Plan):
        plan = within_nodes(plan, terms.environments, memo.nodes.suits)
    milli_cpu = plan.milli_cpu if isinstance(plan, Plan) else 0
    needs = needs_of_next(job, plan) if isinstance(plan, Plan) else ()
    large = large_enough(terms.environments, milli_cpu)
    places = [one for one in large if memo.nodes.suits(one, needs)]
    if held is None and queue is not None:
        held = share_hold(queue, job.spec) or budget_hold(
            queue, job.spec.share_identifier, memo, snapshot.environments
        )
        if isinstance(plan, Plan):
            held = (
                held
                or never_fits_hold(queue, terms.environments, milli_cpu, needs, memo.nodes.suits)
                or consumable_hold(plan.units, snapshot.consumables)
                or kept_out_hold(_kept_out_of(memo, job, plan, snapshot.now), places)
            )
    return evaluate(
        job,
        attempts,
        plan,
        _gate(snapshot, memo, job),
        policy=snapshot.policy,
        now=snapshot.now,
        queue_hold=held,
        refusal=snapshot.refusals.get(job.uid),
        around=_around(snapshot, memo, queue, places, attempts),
    )


def _around(
    snapshot: Snapshot,
    memo: Memo,
    queue: Queue | None,
    places: Sequence[Environment],
    attempts: list[PodAttempt],
) -> Surroundings:
    """`places` are the environments that could ever run the job."""
    rules = time_limits(queue, places) if queue else ()
    names = {one.environment for one in attempts}
    closed = {
        name: one
        for name in names
        if (one := snapshot.environments.get(name)) is not None and not takes_work(one)
    }
    return Surroundings(
        rules=rules,
        max_waits=max_waits(queue, places) if queue else {},
        served={
            name for name in (names if rules else ()) if gets_nodes(snapshot, memo, name, attempts)
        },
        moves_max=len(places) - 1,
        closed=closed.keys() if places else (),
        ending={name for name, one in closed.items() if one.deleting},
        gone={name for name in names if name not in snapshot.environments},
        going={name for one in attempts if (name := _going_node(snapshot, one))},
    )


def _going_node(snapshot: Snapshot, attempt: PodAttempt) -> str | None:
    """The node that an attempt has, if it is about to be taken away."""
    node = snapshot.nodes.get(attempt.environment, {}).get(attempt.node_name or "")
    return node.name if node is not None and node.is_going else None


def _plan(
    snapshot: Snapshot, memo: Memo, job: Job, attempts: list[PodAttempt]
) -> Plan | Hold | Invalid:
    given = job.status.job_definition
    revision = int(given.partition(":")[2]) if given else None
    if revision is None and attempts:
        revision = attempts[0].revision
    known = memo.plans.get(job.uid)
    read = read_of(job, snapshot.parameter_sources, snapshot.now)
    if known and is_current(known, job, revision, read):
        return known
    name = job.spec.job_definition.partition(":")[0]
    return make_plan(job, snapshot.definitions.get((job.namespace, name)), revision, read)


def _gate(snapshot: Snapshot, memo: Memo, job: Job) -> Gate:
    """What the job's dependencies let through."""
    rerun = awaited_array(job)
    if not (job.spec.depends_on or rerun):
        return Gate(members_of(job))
    passed = passed_in(job)
    own = upstream_of(job)
    if passed == own.members and not rerun:
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
        memo.upstreams.note((job.namespace, name), found.get(name))
    upstreams = {name: memo.upstreams.read(one) for name, one in found.items()}
    if rerun:
        return rerun_gate(rerun, upstreams.get(rerun))
    return gate(job.spec, own, passed, upstreams)


def _waits_for(snapshot: Snapshot, namespace: str, name: str) -> Iterable[str]:
    uid = snapshot.job_uids.get((namespace, name))
    if uid is None:
        return ()
    job = snapshot.jobs[uid]
    return () if dependencies_met(job.status) else names_of(job.spec)


def _let_go(attempts: Iterable[PodAttempt]) -> list[Mutation]:
    """Pods that are being deleted with their job, once they hold nothing any more."""
    return [
        ReleasePod(one)
        for one in attempts
        if one.tracked and one.deleting and one.phase.ended and not one.is_job
    ]
