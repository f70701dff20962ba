"""Why a job's queue starts nothing of it: one sentence each, with what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.job_queue import QueueState
from batch_operator.api.label_selector import selects
from batch_operator.api.sentences import NAMED_MAX, listed
from batch_operator.lifecycle.holds import REQUIREMENT_REASON, Hold, Reason, capacity_reason
from batch_operator.scheduling.consumables import GRANTS_MAX, is_used_up
from batch_operator.scheduling.environments import (
    capacity_milli,
    large_enough,
    missing_policy,
    vcpus,
)
from batch_operator.scheduling.room import usable_milli
from batch_operator.scheduling.suitability import why_unsuited

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.job import BatchJobSpec
    from batch_operator.scheduling.dispatch import Blocked
    from batch_operator.scheduling.snapshot import (
        Consumable,
        Environment,
        Job,
        Queue,
        SharePolicy,
    )
    from batch_operator.scheduling.suitability import Needs, Suitability


def share_hold(queue: Queue, spec: BatchJobSpec) -> Hold | None:
    """AWS: a share identifier is required where there is fair share, and refused elsewhere."""
    is_fair = queue.spec.scheduling_policy is not None
    if is_fair and spec.share_identifier is None:
        return Hold(
            Reason.SHARE_IDENTIFIER_MISSING,
            f"JobQueue {queue.name} shares its capacity between share identifiers: submit the job "
            f"again with spec.shareIdentifier",
            stalled=True,
        )
    if not is_fair and spec.share_identifier is not None:
        return Hold(
            Reason.SHARE_IDENTIFIER_NOT_USED,
            f"JobQueue {queue.name} has no scheduling policy, so spec.shareIdentifier has no "
            f"meaning in it: submit the job again without it, or to another queue",
            stalled=True,
        )
    return None


def queue_hold(
    name: str,
    queue: Queue | None,
    namespace: str,
    labels: Mapping[str, str],
    usable: Sequence[Environment],
    policies: Mapping[str, SharePolicy],
) -> Hold | None:
    """Why a queue takes nothing from a namespace with such labels now; None when it does.

    `usable` are those of its environments that take new work.
    """
    if queue is None or queue.deleting:
        return Hold(
            Reason.JOB_QUEUE_NOT_FOUND,
            f"there is no JobQueue {name}: apply it, or name one of `kubectl get jobqueues`",
            stalled=True,
        )
    problem = missing_policy(queue, policies)
    if problem:
        return Hold(Reason.JOB_QUEUE_NOT_READY, f"JobQueue {name}: {problem}", stalled=True)
    if hold := _namespace_hold(queue, namespace, labels):
        return hold
    if queue.spec.state is QueueState.DISABLED:
        return Hold(
            Reason.JOB_QUEUE_DISABLED, f"JobQueue {name} is DISABLED: it starts nothing new"
        )
    if not usable:
        return Hold(
            Reason.NO_COMPUTE_ENVIRONMENT,
            f"none of the compute environments of JobQueue {name} takes work: see "
            f"`kubectl get computeenvironments`",
            stalled=True,
            status_reason="ACTION_REQUIRED - CE(s) associated with the job queue are invalid.",
        )
    return None


def _namespace_hold(queue: Queue, namespace: str, labels: Mapping[str, str]) -> Hold | None:
    allowed = queue.spec.allowed_namespaces
    if allowed is None or namespace in allowed.names:
        return None
    mend = "add it to the queue's spec.allowedNamespaces.names"
    if allowed.selector is not None:
        if selects(allowed.selector, labels):
            return None
        mend = f"label it as the queue's spec.allowedNamespaces.selector asks for, {mend}"
    return Hold(
        Reason.NAMESPACE_NOT_ALLOWED,
        f"JobQueue {queue.name} takes no jobs from namespace {namespace}: {mend}, or use another "
        f"queue",
        stalled=True,
    )


def never_fits_hold(
    queue: Queue,
    usable: Sequence[Environment],
    milli_cpu: int,
    needs: Needs,
    suits: Suitability,
) -> Hold | None:
    """A request above every environment's maxvCpus, or for nodes that none of them can have.

    DEVIATION: AWS leaves such a job at the head of its queue, blocking all behind it. Here it
    waits beside the queue, so that no job's mistake stops the others.
    """
    large = large_enough(usable, milli_cpu, needs)
    if any(suits(one, needs) for one in large):
        return None
    if large:
        return unsuited_hold(large, needs, suits)
    largest = max(one.spec.max_vcpus for one in usable)
    return Hold(
        Reason.COMPUTE_ENVIRONMENT_MAX_RESOURCE,
        f"needs {vcpus(milli_cpu)} vCPUs, but no compute environment of JobQueue {queue.name} "
        f"has a maxvCpus above {largest}: request less, or raise maxvCpus",
        stalled=True,
        status_reason="MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated "
        "with the job queue cannot meet the CPU requirement of the job.",
    )


def unsuited_hold(environments: Sequence[Environment], needs: Needs, suits: Suitability) -> Hold:
    """A request for nodes that none of these environments can have, though large enough for it."""
    return Hold(
        Reason.JOB_RESOURCE_REQUIREMENT,
        why_unsuited(environments, needs, suits),
        stalled=True,
        status_reason=REQUIREMENT_REASON,
    )


def behind_hold(
    job: Job, position: int, names: tuple[str, ...], turns: Sequence[str], now: datetime
) -> Hold:
    """The sentence for a job that could start, but for those before it; as of now.

    Args:
        job: it.
        position: its place in its line.
        names: jobs of its namespace in its way, the nearest first.
        turns: the shares whose turn it is, in order.
        now: it is not told of every step of its queue, so the sentence says when it was so.
    """
    share, at = job.spec.share_identifier or "", f"at {now:%H:%M}Z"
    of = f" of share {share}" if share else ""
    place = f"was number {position}{of} in JobQueue {job.spec.job_queue} {at}"
    others = turns[: turns.index(share)] if share in turns else turns
    if position > 1:
        behind = f", behind {listed(names)}" if names else ""
        message = f"{place}{behind}: those before it start first"
    elif share and others:
        more = " and others" if len(others) > NAMED_MAX else ""
        shares = ", ".join(others[:NAMED_MAX])
        message = f"{place}: it was the turn of other shares first: {shares}{more}"
    else:
        message = f"{place}: its turn is next"
    return Hold(Reason.BEHIND_OTHERS, message, blocked_by=names[:NAMED_MAX], position=position)


def capacity_hold(
    blocked: Blocked,
    resources: Mapping[str, Consumable],
    suits: Suitability,
    jobs: Mapping[str, Job],
) -> Hold:
    """The sentence for a job that blocks its queue, or stands aside: there is no room for it."""
    ask = blocked.ask
    if not blocked.free and blocked.unsuited:
        return unsuited_hold(blocked.unsuited, ask.needs, suits)
    if blocked.full is not None:
        return _grants_hold(blocked.full)
    for name, quantity, free in blocked.asked_units:
        if free < quantity:
            return _units_hold(name, quantity, free, resources.get(name))
    if blocked.kept_for:
        return _kept_hold(blocked, jobs)
    names = tuple(one.name for one, _ in blocked.free[:NAMED_MAX])
    is_reserved = blocked.stands_aside and blocked.usable < 1
    if is_reserved:
        parts = [
            f"{_usable(one, blocked)} of {one.spec.max_vcpus} in {one.name}"
            for one, _ in blocked.free
        ]
        why = (
            f", but computeReservation of the queue's scheduling policy leaves the shares that are "
            f"active only {listed(parts)}: request less, lower it, or raise maxvCpus"
        )
    else:
        why = f": {listed(_room(one, free, blocked) for one, free in blocked.free)}"
    return Hold(
        Reason.COMPUTE_RESERVATION if is_reserved else Reason.INSUFFICIENT_CAPACITY,
        f"needs {vcpus(ask.milli_cpu)} vCPUs{why}",
        blocked_by=names,
        position=None if blocked.stands_aside else 1,
        stalled=is_reserved,
        status_reason=capacity_reason(", ".join(names)),
    )


def _kept_hold(blocked: Blocked, jobs: Mapping[str, Job]) -> Hold:
    """There is room, but who waits for more of it is not to be delayed.

    It is no lack of capacity, so AWS has no code for it. Jobs of other namespaces are not named.
    """
    own, ask = jobs.get(blocked.uid), blocked.ask
    namespace = own.namespace if own is not None else None
    owners = [job for uid in blocked.kept_for if (job := jobs.get(uid)) is not None]
    words = [
        f"{f'job {one.name}' if one.namespace == namespace else 'a job'} of JobQueue "
        f"{one.spec.job_queue}"
        for one in owners
    ]
    names = (one.name if one.namespace == namespace else one.spec.job_queue for one in owners)
    rooms = (_room(*one, blocked) for one in blocked.free if one[1] >= ask.milli_in(one[0]))
    return Hold(
        Reason.KEPT_FOR_OTHERS,
        f"needs {vcpus(ask.milli_cpu)} vCPUs: {listed(rooms)}, but that is kept for "
        f"{listed(words) or 'another job'}, which needs more and would start later",
        blocked_by=tuple(dict.fromkeys(names))[:NAMED_MAX],
        position=1,
    )


def _room(environment: Environment, free: int, blocked: Blocked) -> str:
    room = f"{environment.name} has {vcpus(free)} of {environment.spec.max_vcpus} free"
    if blocked.usable == 1:
        return room
    kept = capacity_milli(environment) - usable_milli(environment, blocked.usable)
    return f"{room} beside {vcpus(kept)} that computeReservation keeps for other shares"


def _usable(environment: Environment, blocked: Blocked) -> str:
    return vcpus(usable_milli(environment, blocked.usable))


def _grants_hold(name: str) -> Hold:
    return Hold(
        Reason.CONSUMABLE_RESOURCE_BUSY,
        f"ConsumableResource {name} has been granted to as many jobs that are not over as it can "
        f"keep ({GRANTS_MAX}, or fewer arrays): this one's turn comes when one of them is over",
        blocked_by=(name,),
    )


def _units_hold(name: str, quantity: int, free: int, resource: Consumable | None) -> Hold:
    total = resource.spec.total_quantity if resource is not None else 0
    message = f"needs {quantity} units of ConsumableResource {name}: {max(0, free)} of {total} are"
    is_spent = resource is not None and is_used_up(resource)
    return Hold(
        Reason.INSUFFICIENT_CONSUMABLE_RESOURCE,
        f"{message} left, and none comes back: raise its spec.totalQuantity"
        if is_spent
        else f"{message} free",
        blocked_by=(name,),
        position=None if is_spent else 1,
        stalled=is_spent,
    )
