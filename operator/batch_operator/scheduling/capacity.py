"""Nodes for MANAGED environments: what is known of each, and its plan when something has changed.

Demand for nodes is what has been placed in an environment and has no node yet: dispatch keeps that
within maxvCpus. An environment is planned at most once in `EVERY`, for machines take longer than
that to come, and reading all of its attempts costs as much as there are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import EnvironmentState
from batch_operator.lifecycle.attempt import Phase
from batch_operator.provisioning.followers import WAITED_FOR_EVERY, expected_capacity
from batch_operator.provisioning.plan import View, plan_capacity
from batch_operator.provisioning.turnover import dissolved, updated
from batch_operator.scheduling.awaited import outlook_of
from batch_operator.scheduling.demand import demands_of, load_of, places_of
from batch_operator.scheduling.environments import has_nodes
from batch_operator.scheduling.faults import kept_away
from batch_operator.scheduling.learning import learn, note_orders
from batch_operator.scheduling.misfits import NODES_MAX, note_misfits
from batch_operator.scheduling.mutations import CordonNode, Mutation, Provide
from batch_operator.scheduling.nodes_memo import Capacity, recalled
from batch_operator.scheduling.rooms import daemons_of, learn_rooms
from batch_operator.scheduling.whole_gangs import whole_gangs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan
    from batch_operator.scheduling.faults import Fault
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Snapshot

EVERY = timedelta(seconds=1)
SEEN_TO_EVERY = timedelta(seconds=30)
"""A provisioner is asked at least so often whether all is as planned."""


def provide(
    snapshot: Snapshot, memo: Memo, faults: list[Fault]
) -> tuple[list[Mutation], datetime | None, datetime | None]:
    """What follows for nodes; when something falls due, and when to see that all is well.

    An environment whose plan cannot be made keeps the last one, and is tried again with the next
    change, or when all is seen to.
    """
    managed = {name: one for name, one in snapshot.environments.items() if has_nodes(one)}
    for name, known in list(memo.nodes.capacities.items()):
        if name not in managed or known.uid != managed[name].uid:
            memo.nodes.forget(name)  # gone, or made anew under its name
    due = {name: one for name, one in managed.items() if _is_due(name, one, snapshot, memo)}
    mutations: list[Mutation] = []
    if due:
        attempts = _by_environment(snapshot, due)
        for name in sorted(due):
            known = _begin(due[name], snapshot, memo)
            with kept_away(f"the nodes of environment {name}", faults):
                mutations += _see_to(known, due[name], attempts[name], snapshot, memo)
    dues = [at for name in managed if (at := _due_at(name, memo)) is not None]
    rounds = (_seen_to_at(name, memo) for name in managed)
    return mutations, min(dues, default=None), min(rounds, default=None)


def _is_due(name: str, environment: Environment, snapshot: Snapshot, memo: Memo) -> bool:
    known = memo.nodes.capacities.get(name)
    if known is None or known.generation != environment.generation:
        return True
    if _planned_at(known) > snapshot.now:
        return True  # the clock was set back
    changes = snapshot.changes
    if name in changes.environments or name in changes.nodes or name in memo.touched_environments:
        memo.nodes.unplanned.add(name)
    times = filter(None, (_due_at(name, memo), _seen_to_at(name, memo)))
    return min(times) <= snapshot.now


def _due_at(name: str, memo: Memo) -> datetime | None:
    """When the environment is to be planned again for what has happened or will by then."""
    known = memo.nodes.capacities[name]
    soonest = _planned_at(known) + EVERY
    times = [soonest] if name in memo.nodes.unplanned else []
    look_again_at = known.plan.look_again_at if known.plan is not None else None
    waits = filter(None, (look_again_at, known.turnover_at, known.misfits_at))
    times += [max(at, soonest) for at in waits]
    return min(times, default=None)


def _seen_to_at(name: str, memo: Memo) -> datetime:
    """When the environment is planned again although nothing has happened."""
    return _planned_at(memo.nodes.capacities[name]) + SEEN_TO_EVERY


def _planned_at(known: Capacity) -> datetime:
    assert known.planned_at is not None  # it is planned in the cycle that first sees it
    return known.planned_at


def _by_environment(
    snapshot: Snapshot, wanted: Mapping[str, Environment]
) -> dict[str, list[PodAttempt]]:
    found: dict[str, list[PodAttempt]] = defaultdict(list)
    for attempts in snapshot.attempts.values():
        for one in attempts.values():
            if one.environment in wanted:
                found[one.environment].append(one)
    return found


def _begin(environment: Environment, snapshot: Snapshot, memo: Memo) -> Capacity:
    """What is known of an environment whose plan is to be made now."""
    name = environment.name
    known = memo.nodes.capacities.get(name)
    if known is None:
        nodes = snapshot.nodes.get(name, {})
        known = memo.nodes.capacities[name] = recalled(environment, nodes.values())
    if known.generation != environment.generation:
        known.generation = environment.generation
        known.histories = {pool: one.tried_anew() for pool, one in known.histories.items()}
        known.provided_at = None
    if known.planned_at is not None and known.planned_at > snapshot.now:
        known.provided_at = None
    known.planned_at = snapshot.now
    memo.nodes.unplanned.discard(name)
    return known


def _see_to(
    known: Capacity,
    environment: Environment,
    attempts: Sequence[PodAttempt],
    snapshot: Snapshot,
    memo: Memo,
) -> list[Mutation]:
    """Plan one environment's nodes anew, and what follows."""
    name, now, spec = environment.name, snapshot.now, environment.spec
    nodes = snapshot.nodes.get(name, {})
    report = known.report = snapshot.reports.get(name, known.report)
    is_follower = spec.provisioner is not None and spec.provisioner.type in snapshot.followers
    refusals = snapshot.refused_pools.get(name, {})
    made, attempts = attempts, [one for one in attempts if not one.phase.ended]
    load = load_of(attempts)
    learn(known, spec, nodes.values(), refusals, load, now, is_follower=is_follower)
    before = known.plan
    turnover = (
        dissolved(nodes) if environment.deleting else updated(spec, nodes, load, known.update, now)
    )
    known.update, known.turnover_at, nodes = turnover.update, turnover.look_again_at, turnover.nodes
    daemons = daemons_of(environment, known, nodes, snapshot, memo)
    if not is_follower:
        places = places_of(nodes.values(), daemons, load)
        turned, known.misfits_at = note_misfits(known.misfits, attempts, places, now)
        memo.to_look.update(dict.fromkeys(sorted(turned)))
    demand = demands_of(made, known.misfits)
    view = View(
        spec=spec.model_copy(update={"min_vcpus": 0}) if environment.deleting else spec,
        nodes=[nodes[one] for one in sorted(nodes)],
        now=now,
        load=load,
        daemons=daemons,
        demand=[one for one in demand if len(one.refused_by) < NODES_MAX],
        to_come={} if environment.deleting else known.to_come,
        idle_since=before.idle_since if before is not None else {},
        cordons=known.cordons,
        surplus=before.surplus if before is not None else {},
        histories=known.histories,
        is_enabled=spec.state is EnvironmentState.ENABLED and not environment.deleting,
    )
    learn_rooms(environment, view, snapshot, memo)
    plan = (
        expected_capacity(view, report.coming, report.refused_gangs)
        if is_follower
        else plan_capacity(view)
    )
    known.plan, known.made_at, known.to_come = plan, now, dict(plan.to_come)
    note_orders(known, now)
    _tell(known, attempts, memo, now)
    memo.touched_environments[name] = None
    _set_ceiling(environment, known, nodes, memo, now)
    cordon = [one for one in plan.cordon if one not in turnover.given_up]
    mutations: list[Mutation] = [CordonNode(one, now) for one in cordon]
    mutations += [CordonNode(one, None) for one in plan.uncordon]
    mutations += [CordonNode(one, now, given_up=True) for one in turnover.given_up]
    is_last = _is_last(environment, snapshot, is_used=bool(load or demand))
    wait = WAITED_FOR_EVERY if is_follower and demand else SEEN_TO_EVERY
    if is_follower:
        is_as_planned = before is not None and before.preference == plan.preference
    else:
        is_as_planned = _is_as_planned(plan, nodes)
    if is_last or not is_as_planned or _is_to_be_provided(known, now, wait):
        known.provided_at = now
        plan = replace(plan, gangs=whole_gangs(environment, attempts, snapshot, memo.plans))
        mutations.append(Provide(environment, plan, tuple(nodes.values()), is_last))
    return mutations


def _tell(known: Capacity, attempts: Iterable[PodAttempt], memo: Memo, now: datetime) -> None:
    """Have jobs looked at that wait for nodes, when there is something else to say of these."""
    outlook = outlook_of(known, now)
    if known.outlook != outlook:
        known.outlook = outlook
        waiting = {one.job_uid for one in attempts if one.phase is Phase.UNBOUND}
        memo.to_look.update(dict.fromkeys(sorted(waiting)))


def _is_last(environment: Environment, snapshot: Snapshot, *, is_used: bool) -> bool:
    """Whether nothing stands in the way of an environment's end any more.

    A node that only its taint or only its label gives to it is somebody's to decide about.
    """
    return (
        environment.deleting
        and meta.FINALIZER_NODES in environment.finalizers
        and not snapshot.nodes.get(environment.name)
        and not snapshot.stray_nodes.get(environment.name)
        and not is_used
    )


def _is_to_be_provided(known: Capacity, now: datetime, wait: timedelta) -> bool:
    """Whether the provisioner was last asked a while ago, or with another spec."""
    return known.provided_at is None or now >= known.provided_at + wait


def _is_as_planned(plan: CapacityPlan, nodes: Mapping[str, Node]) -> bool:
    called = {one.uid for one in plan.uncordon}
    there = Counter(
        one.pool
        for one in nodes.values()
        if one.pool is not None and (one.stays or one.uid in called)
    )
    return not plan.remove and dict(there) == dict(plan.desired)


def _set_ceiling(
    environment: Environment, known: Capacity, nodes: Mapping[str, Node], memo: Memo, now: datetime
) -> None:
    """While all pools are refused, an environment holds no more than its nodes do."""
    pools = memo.nodes.suits.pools(environment)
    is_short = bool(pools) and all(known.history(one.key).is_refused(now) for one in pools)
    if is_short:
        memo.nodes.ceilings[environment.name] = sum(
            one.offers.amounts.milli_cpu for one in nodes.values() if one.takes_pods
        )
    else:
        memo.nodes.ceilings.pop(environment.name, None)
