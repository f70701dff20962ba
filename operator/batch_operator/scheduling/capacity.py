"""Nodes for MANAGED environments: what is known of each, and its plan when something has changed.

Demand for nodes is what has been placed in an environment and has no node yet: dispatch keeps that
within maxvCpus. An environment is planned at most once in `EVERY`, for machines take longer than
that to come, and reading all of its attempts costs as much as there are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import EnvironmentState
from batch_operator.provisioning.history import History, histories_of
from batch_operator.provisioning.plan import Demand, View, plan_capacity
from batch_operator.provisioning.pools import PoolKey, is_managed, pools_of
from batch_operator.scheduling.mutations import CordonNode, Mutation, Provide
from batch_operator.scheduling.nodes_memo import Capacity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Snapshot

EVERY = timedelta(seconds=1)
SEEN_TO_EVERY = timedelta(seconds=30)
"""A provisioner is asked at least so often whether all is as planned."""
_NONE = History()


def provide(snapshot: Snapshot, memo: Memo) -> tuple[list[Mutation], datetime | None]:
    """What follows for nodes, and when to look at them again."""
    managed = {name: one for name, one in snapshot.environments.items() if is_managed(one.spec)}
    for name in memo.nodes.capacities.keys() - managed.keys():
        memo.nodes.forget(name)
    due = {name: one for name, one in managed.items() if _is_due(name, one, snapshot, memo)}
    mutations: list[Mutation] = []
    if due:
        attempts = _by_environment(snapshot, due)
        for name in sorted(due):
            mutations += _see_to(due[name], attempts[name], snapshot, memo)
    return mutations, min((_next_at(name, memo) for name in managed), default=None)


def _is_due(name: str, environment: Environment, snapshot: Snapshot, memo: Memo) -> bool:
    known = memo.nodes.capacities.get(name)
    if known is None or known.generation != environment.generation:
        return True
    changes = snapshot.changes
    if name in changes.environments or name in changes.nodes or name in memo.touched_environments:
        memo.nodes.unplanned.add(name)
    return _next_at(name, memo) <= snapshot.now


def _next_at(name: str, memo: Memo) -> datetime:
    """When the environment is to be planned again, if nothing else happens."""
    known = memo.nodes.capacities[name]
    assert known.planned_at is not None  # it is planned in the cycle that first sees it
    times = [known.planned_at + SEEN_TO_EVERY]
    if name in memo.nodes.unplanned:
        times.append(known.planned_at + EVERY)
    if known.plan is not None and known.plan.look_again_at is not None:
        times.append(max(known.plan.look_again_at, known.planned_at + EVERY))
    return min(times)


def _by_environment(
    snapshot: Snapshot, wanted: Mapping[str, Environment]
) -> dict[str, list[PodAttempt]]:
    found: dict[str, list[PodAttempt]] = defaultdict(list)
    for attempts in snapshot.attempts.values():
        for one in attempts.values():
            if one.environment in wanted and not one.phase.ended:
                found[one.environment].append(one)
    return found


def _see_to(
    environment: Environment, attempts: Iterable[PodAttempt], snapshot: Snapshot, memo: Memo
) -> list[Mutation]:
    """Plan one environment's nodes anew, and what follows."""
    name, now, spec = environment.name, snapshot.now, environment.spec
    nodes = snapshot.nodes.get(name, {})
    known = memo.nodes.capacities.get(name) or _recalled(environment)
    memo.nodes.capacities[name] = known
    load, demand = _load_and_demand(attempts)
    _learn_refusals(known, nodes, snapshot, name)
    _learn_of_nodes(known, nodes, now)
    known.idle_since = {one: known.idle_since.get(one, now) for one in nodes if one not in load}
    plan = plan_capacity(
        View(
            spec=spec,
            nodes=[nodes[one] for one in sorted(nodes)],
            now=now,
            load=load,
            demand=demand,
            idle_since=known.idle_since,
            ordered=known.ordered,
            unneeded_since=known.unneeded_since,
            histories=known.histories,
            is_enabled=spec.state is EnvironmentState.ENABLED and not environment.deleting,
        )
    )
    known.plan, known.planned_at, known.ordered = plan, now, plan.desired
    known.unneeded_since = plan.unneeded_since
    memo.nodes.unplanned.discard(name)
    memo.touched_environments.add(name)
    _set_ceiling(environment, known, nodes, memo, now)
    mutations: list[Mutation] = [CordonNode(one, now) for one in plan.cordon]
    mutations += [CordonNode(one, None) for one in plan.uncordon]
    if _is_to_be_provided(environment, known, plan, nodes, now):
        known.provided_at = now
        mutations.append(Provide(environment, plan, tuple(nodes.values())))
    known.generation = environment.generation
    return mutations


def _recalled(environment: Environment) -> Capacity:
    """What the status of an environment remembers."""
    status = environment.status
    ordered = {PoolKey(one.instance_type, one.capacity_type): one.desired for one in status.pools}
    return Capacity(histories_of(status), ordered)


def _is_to_be_provided(
    environment: Environment,
    known: Capacity,
    plan: CapacityPlan,
    nodes: Mapping[str, Node],
    now: datetime,
) -> bool:
    """Whether something differs from the plan, or was last seen to a while ago."""
    there = Counter(one.pool for one in nodes.values() if one.stays or one in plan.uncordon)
    return (
        known.provided_at is None
        or now >= known.provided_at + SEEN_TO_EVERY
        or known.generation != environment.generation
        or bool(plan.remove)
        or dict(there) != dict(plan.desired)
    )


def _load_and_demand(
    attempts: Iterable[PodAttempt],
) -> tuple[dict[str, Amounts], list[Demand]]:
    """What attempts hold by node, and what those ask for that have none yet."""
    load: dict[str, Amounts] = {}
    counts: Counter[tuple[Amounts, bool, str | None]] = Counter()
    made: Counter[tuple[str, int, int | None]] = Counter()
    stand_ins: list[PodAttempt] = []
    for one in attempts:
        if one.is_job:
            stand_ins.append(one)
            continue
        made[one.job_uid, one.number, one.node_group] += 1
        if one.node_name is None:
            counts[one.amounts, one.on_demand, one.instance_type] += 1
        else:
            load[one.node_name] = load.get(one.node_name, Amounts()) + one.amounts
    for one in stand_ins:
        missing = one.members - made[one.job_uid, one.number, one.node_group]
        if missing > 0:
            counts[one.amounts, one.on_demand, one.instance_type] += missing
    return load, [
        Demand(amounts, count, on_demand, instance_type)
        for (amounts, on_demand, instance_type), count in counts.items()
    ]


def _learn_refusals(
    known: Capacity, nodes: Mapping[str, Node], snapshot: Snapshot, name: str
) -> None:
    """What was refused counts as ordered no more."""
    for pool, refusal in snapshot.refused_pools.get(name, {}).items():
        before = known.histories.get(pool, _NONE)
        if before.refused_at is None or refusal.at > before.refused_at:
            known.histories[pool] = before.refused(refusal.at, refusal.message)
            there = sum(one.pool == pool for one in nodes.values())
            known.ordered = {**known.ordered, pool: min(known.ordered.get(pool, 0), there)}


def _learn_of_nodes(known: Capacity, nodes: Mapping[str, Node], now: datetime) -> None:
    """How long nodes took to come, and which were taken away."""
    by_uid = {one.uid: one for one in nodes.values()}
    for node in by_uid.values():
        if node.pool is None:
            continue
        before, history = known.known.get(node.uid), known.histories.get(node.pool, _NONE)
        is_new = node.ready_at is not None and not (before and before.ready_at)
        if is_new and node.ready_at and node.ready_at >= (history.refused_at or node.created_at):
            took_s = round((node.ready_at - node.created_at).total_seconds())
            history = history.became_ready(max(0, took_s))
        if node.notice and not node.draining_since and not (before and before.notice):
            history = history.interrupted(now)
        if history is not _NONE:
            known.histories[node.pool] = history
    for uid, node in known.known.items():
        if uid not in by_uid and node.pool is not None and node.stays:
            history = known.histories.get(node.pool, _NONE)
            known.histories[node.pool] = history.interrupted(now)
    known.known = by_uid


def _set_ceiling(
    environment: Environment, known: Capacity, nodes: Mapping[str, Node], memo: Memo, now: datetime
) -> None:
    """While all pools are refused, an environment holds no more than its nodes do."""
    pools = pools_of(environment.spec)
    is_short = bool(pools) and all(
        known.histories.get(one.key, _NONE).is_refused(now) for one in pools
    )
    if is_short:
        memo.nodes.ceilings[environment.name] = sum(
            one.offers.milli_cpu for one in nodes.values() if one.takes_pods
        )
    else:
        memo.nodes.ceilings.pop(environment.name, None)
