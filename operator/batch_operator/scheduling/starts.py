"""The attempts that start: which child or gang, in which environment, on what terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import CapacityType
from batch_operator.lifecycle.retry import memory_factor, needs_on_demand
from batch_operator.scheduling.mutations import StartAttempt, StartGang
from batch_operator.scheduling.placement import capacity_milli, node_selector

if TYPE_CHECKING:
    from collections import Counter

    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.lifecycle.plan import Plan
    from batch_operator.scheduling.snapshot import Environment, Snapshot

Start = StartAttempt | StartGang
_ON_DEMAND = {meta.LABEL_CAPACITY_TYPE: CapacityType.ON_DEMAND.value}


def starts_of(
    look: Evaluation, wanted: list[int], usable: list[Environment], used: Counter[str]
) -> list[Start]:
    """Start as many of the wanted indexes as fit, environment by environment, in their order.

    The nodes of a multi-node job fit together into one environment, or do not start.
    """
    plan = look.plan
    assert plan is not None  # what has no plan is in no backlog
    starts: list[Start] = []
    left = list(reversed(wanted))
    for environment in usable:
        free = capacity_milli(environment) - used[environment.name]
        for _ in range(min(len(left), max(0, free) // plan.milli_cpu)):
            used[environment.name] += plan.milli_cpu
            start = _attempt(look, plan, left.pop(), environment)
            whole = tuple(range(len(plan.groups)))
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
    environment = snapshot.environments.get(main.environment)
    if environment is None:
        return []
    start = _attempt(look, look.plan, main.index, environment)
    return [StartGang(start, look.to_complete)]
