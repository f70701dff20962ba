"""The attempts that start: which child or gang, in which environment, on what terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import CapacityType
from batch_operator.lifecycle.retry import memory_factor, needs_on_demand
from batch_operator.scheduling.backlog import FIRST_TRY, RETRY, Ask, Lot
from batch_operator.scheduling.environments import node_selector
from batch_operator.scheduling.mutations import StartAttempt, StartGang

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.lifecycle.plan import Plan
    from batch_operator.scheduling.dispatch import Placed
    from batch_operator.scheduling.snapshot import Environment, Snapshot

Start = StartAttempt | StartGang
_ON_DEMAND = {meta.LABEL_CAPACITY_TYPE: CapacityType.ON_DEMAND.value}


def lots_of(look: Evaluation, *, is_fair: bool) -> tuple[Lot, ...]:
    """A job's places in its queue: its retries in front, the rest behind those.

    Children that were moved on equally often share a place, for they try environments in one order.
    Shares and priorities are of queues with a scheduling policy, `is_fair`.
    """
    plan, job = look.plan, look.job
    if plan is None or not look.start_limit:
        return ()
    timeout_s = plan.timeout.attempt_duration_seconds if plan.timeout else None
    name = plan.definition.partition(":")[0]
    ask = Ask(plan.milli_cpu, plan.units, timeout_s, (job.namespace, name))
    retries = look.startable & look.children.retrying
    places = [(FIRST_TRY, 0, look.startable - retries)]
    for times, those in look.children.counted.moved.items():
        places.append((RETRY, times, retries & those))
        retries -= those
    places.append((RETRY, 0, retries))
    priority = plan.priority if is_fair else 0
    return tuple(
        Lot(
            place=(rank, -priority, job.created_at, job.uid, moves),
            ask=ask,
            indexes=indexes,
            share=(job.spec.share_identifier or "") if is_fair else "",
        )
        for rank, moves, indexes in sorted(places, key=lambda one: one[:2])
        if indexes
    )


def starts_of(placed: Iterable[Placed], looks: Mapping[str, Evaluation]) -> list[Start]:
    """The attempts that start, in the order in which they were placed."""
    starts: list[Start] = []
    for one in placed:
        look = looks[one.lot.uid]
        plan = look.plan
        assert plan is not None  # what has no plan is in no backlog
        whole = tuple(range(len(plan.groups)))
        for index in one.indexes:
            start = _attempt(look, plan, index, one.environment)
            starts.append(StartGang(start, whole) if plan.groups else start)
    return starts


def _attempt(look: Evaluation, plan: Plan, index: int, environment: Environment) -> StartAttempt:
    """The next attempt of a child."""
    counted = look.children.counted
    selector = node_selector(environment)
    on_demand = needs_on_demand(plan.retry, counted.times_host_lost(index))
    return StartAttempt(
        job=look.job,
        plan=plan,
        index=index,
        number=counted.used(index) + 1,
        array_size=len(counted.members) if look.job.spec.array_properties else None,
        environment=environment.name,
        node_selector={**selector, **_ON_DEMAND} if on_demand else selector,
        memory_factor=memory_factor(plan.retry, counted.times_out_of_memory(index)),
    )


def rest_of_gang(snapshot: Snapshot, look: Evaluation) -> list[StartGang]:
    """What is still to be asked for of a gang that stands in part, where the rest of it is."""
    main = look.gangs[-1].main
    assert look.plan is not None  # without one nothing is known to be missing
    assert main is not None  # what has none is over
    start = _attempt(look, look.plan, main.index, snapshot.environments[main.environment])
    return [StartGang(start, look.to_complete)]
