"""What a Pod waits for that no node of a MANAGED environment has: nodes to come, or why none come.

The sentences have no clock in them, so that time alone rewrites no status: of what is ordered they
say since when, and how long it took lately; of what is refused, until when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.sentences import NAMED_MAX, listed
from batch_operator.lifecycle.holds import Hold, Reason, capacity_reason
from batch_operator.provisioning.packing import demand_of, gang_of
from batch_operator.scheduling.environments import is_invalid, is_planned, takes_work
from batch_operator.scheduling.misfits import misfit_hold
from batch_operator.scheduling.obstacles import unsuited_hold
from batch_operator.scheduling.starts import needs_of_attempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.misfits import Misfit
    from batch_operator.scheduling.nodes_memo import Capacity
    from batch_operator.scheduling.snapshot import Environment, Snapshot

Outlook = tuple[tuple[object, ...], ...]
"""All that the sentences about an environment hang on, the numbers of nodes aside."""


def node_hold(snapshot: Snapshot, memo: Memo, attempt: PodAttempt) -> Hold | None:
    """Why no node has an attempt; None where there is no more to say than that it waits for one."""
    environment = snapshot.environments.get(attempt.environment)
    known = memo.nodes.capacities.get(attempt.environment)
    if environment is None or known is None or not is_planned(environment):
        return None
    if (misfit := _given_up(known, attempt)) is not None:
        return misfit_hold(misfit, attempt)
    look, suits = memo.looks.get(attempt.job_uid), memo.nodes.suits
    needs = needs_of_attempt(attempt, look) if look is not None else (demand_of(attempt),)
    if not suits(environment, needs):
        return unsuited_hold([environment], needs, suits)
    return _gang_hold(environment, known, attempt) or _hold(
        environment, known, attempt, memo, snapshot.now
    )


def _given_up(known: Capacity, attempt: PodAttempt) -> Misfit | None:
    """What is known of an attempt for which no more nodes are ordered, though there was room."""
    misfit = known.misfits.get(attempt.job_uid)
    return misfit if misfit is not None and misfit.is_given_up else None


def _gang_hold(environment: Environment, known: Capacity, attempt: PodAttempt) -> Hold | None:
    """That the autoscaler has no nodes now for the gang that an attempt is one of."""
    why = _refusal_of_gang(known, attempt)
    if why is None:
        return None
    return Hold(
        Reason.INSUFFICIENT_CAPACITY,
        f"ComputeEnvironment {environment.name} gets no nodes for all of its Pods now: {why}",
        blocked_by=(environment.name,),
        status_reason=capacity_reason(environment.name),
    )


def _refusal_of_gang(known: Capacity, attempt: PodAttempt) -> str | None:
    return known.report.refused_gangs.get(gang_of(attempt) or "")


def _hold(
    environment: Environment, known: Capacity, attempt: PodAttempt, memo: Memo, now: datetime
) -> Hold | None:
    need = demand_of(attempt)
    keys = [one.key for one in memo.nodes.suits.holding(environment, need)]
    coming = _coming(known, keys)
    if coming:
        return Hold(Reason.WAITING_FOR_NODE, f"waits for {', or '.join(coming[:NAMED_MAX])}")
    plan = known.plan
    is_unmet = plan is not None and need in (one.kind for one in plan.unmet)
    if is_unmet and not takes_work(environment):
        return _closed_hold(environment)
    if keys and all(known.history(one).is_refused(now) for one in keys):
        return _refused_hold(known, keys, environment)
    if plan is not None and is_unmet:
        return Hold(
            Reason.INSUFFICIENT_CAPACITY,
            f"no node is ordered for it: ComputeEnvironment {environment.name} has or awaits nodes "
            f"of {plan.vcpus} vCPUs, and its maxvCpus is {environment.spec.max_vcpus}",
            blocked_by=(environment.name,),
            status_reason=capacity_reason(environment.name),
        )
    if attempt.unschedulable:
        message = f"Pod {attempt.pod_name} fits on no node so far: {attempt.unschedulable}"
        return Hold(Reason.UNSCHEDULABLE, message)
    return None


def gets_nodes(snapshot: Snapshot, memo: Memo, name: str, attempts: Iterable[PodAttempt]) -> bool:
    """Whether nodes come to an environment, or can be asked for: its Pods do not lack capacity.

    `attempts` are a job's own.
    """
    environment, known = snapshot.environments.get(name), memo.nodes.capacities.get(name)
    if environment is None or known is None or not is_planned(environment):
        return False
    there = [one for one in attempts if one.environment == name]
    if any(_refusal_of_gang(known, one) or _given_up(known, one) for one in there):
        return False
    keys = [one.key for one in memo.nodes.suits.pools(environment)]
    is_refused = all(known.history(one).is_refused(snapshot.now) for one in keys)
    return bool(_coming(known, keys)) or not (is_refused or (known.plan and known.plan.unmet))


def outlook_of(known: Capacity, now: datetime) -> Outlook:
    """What to compare with the last one, to see whether something else is to be told."""
    assert known.plan is not None  # it has just been made
    pools = sorted({*known.plan.desired, *known.plan.to_come, *known.histories})
    starting = _starting(known.nodes.values())
    rows: list[tuple[object, ...]] = [(bool(known.plan.unmet),)]
    rows += sorted(known.report.refused_gangs.items())
    for key in pools:
        history = known.history(key)
        until = history.refused_until if history.is_refused(now) else None
        is_coming = bool(known.plan.to_come.get(key) or starting.get(key))
        rows.append((key, is_coming, until))
    return tuple(rows)


def _coming(known: Capacity, keys: Iterable[PoolKey]) -> list[str]:
    """The nodes to come of these pools, ordered or starting, a phrase for each pool."""
    plan, found = known.plan, []
    starting = _starting(known.nodes.values())
    for key in keys:
        nodes, history = starting.get(key, ()), known.history(key)
        count = len(nodes) + (plan.to_come.get(key, 0) if plan is not None else 0)
        if not count:
            continue
        times = [one.created_at for one in nodes]
        times += [history.waiting_since] if history.waiting_since is not None else []
        since = f", ordered at {min(times):%H:%M:%S}Z" if times else ""
        takes = f" (they take about {history.ready_seconds} s)" if history.ready_seconds else ""
        what = "a node of" if count == 1 else f"one of {count} nodes of"
        found.append(f"{what} {key.in_words}{since}{takes}")
    return found


def _starting(nodes: Iterable[Node]) -> Mapping[PoolKey, Sequence[Node]]:
    """By pool: nodes that are there and have not become ready."""
    found: dict[PoolKey, list[Node]] = {}
    for one in nodes:
        if one.pool is not None and one.stays and not one.ready:
            found.setdefault(one.pool, []).append(one)
    return found


def _closed_hold(environment: Environment) -> Hold:
    """Nothing else suits the job, or it would have gone back to its queue."""
    what = "is DISABLED"
    if is_invalid(environment):
        what = f"is INVALID ({environment.status.status_reason})"
    return Hold(
        Reason.INSUFFICIENT_CAPACITY,
        f"ComputeEnvironment {environment.name} {what} and gets no more nodes for it, and no other "
        f"one of its queue that takes work suits it: see to the environment, or add one",
        blocked_by=(environment.name,),
        stalled=True,
        status_reason=capacity_reason(environment.name),
    )


def _refused_hold(known: Capacity, keys: Sequence[PoolKey], environment: Environment) -> Hold:
    histories = [(one, known.history(one)) for one in keys]
    told = [
        f"{key.in_words} until {history.refused_until:%H:%M:%S}Z"
        + (f" ({history.message})" if history.message else "")
        for key, history in histories
    ]
    types = dict.fromkeys(one.instance_type for one in keys)
    return Hold(
        Reason.INSUFFICIENT_CAPACITY,
        f"ComputeEnvironment {environment.name} gets no more nodes for it now: {listed(told)}",
        blocked_by=(environment.name,),
        status_reason=capacity_reason(", ".join([*types][:NAMED_MAX])),
    )
