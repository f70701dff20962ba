"""The attempts that start: which child or gang, in which environment, on what terms."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from batch_operator.api import meta
from batch_operator.api.compute_environment import CapacityType
from batch_operator.api.index_set import IndexSet
from batch_operator.lifecycle.members import told_size
from batch_operator.lifecycle.retry import memory_factor, needs_on_demand
from batch_operator.lifecycle.stored_counts import counted_in
from batch_operator.provisioning.followers import pod_annotations, provisioning_class
from batch_operator.provisioning.packing import demand_of
from batch_operator.provisioning.serverless import serverless_of
from batch_operator.scheduling.backlog import FIRST_TRY, RETRY, Ask, Lot
from batch_operator.scheduling.environments import node_selector
from batch_operator.scheduling.mutations import StartAttempt, StartGang
from batch_operator.scheduling.suitability import needs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.lifecycle.plan import Plan
    from batch_operator.scheduling.dispatch import Placed
    from batch_operator.scheduling.snapshot import Environment, Job, Snapshot
    from batch_operator.scheduling.suitability import Needs

Start = StartAttempt | StartGang
_SPOT = {meta.LABEL_CAPACITY_TYPE: CapacityType.SPOT.value}
_ON_DEMAND = {meta.LABEL_CAPACITY_TYPE: CapacityType.ON_DEMAND.value}


def lots_of(
    look: Evaluation,
    *,
    is_fair: bool,
    spot_only: bool = False,
    kept_out_of: Iterable[str] = (),
) -> tuple[Lot, ...]:
    """A job's places in its queue: its retries in front, the rest behind those.

    Children share a place if they were moved on equally often, for they try environments in one
    order, and if they need the same. Shares and priorities are of queues with a scheduling policy,
    `is_fair`.
    """
    plan, job = look.plan, look.job
    if plan is None or not look.start_limit:
        return ()
    timeout_s = plan.timeout.attempt_duration_seconds if plan.timeout else None
    name = plan.definition.partition(":")[0]
    ask = Ask(
        plan.milli_cpu,
        plan.units,
        timeout_s,
        (job.namespace, name),
        spot_only=spot_only,
        kept_out_of=frozenset(kept_out_of),
    )
    retries = look.startable & look.children.retrying
    parts = [
        (RETRY, kind, those) for kind, those in _retried(look, plan, retries, spot_only=spot_only)
    ]
    parts.append((FIRST_TRY, _Kind(), look.startable - retries))
    priority = plan.priority if is_fair else 0
    return tuple(
        Lot(
            place=(rank, -priority, job.created_at, job.uid, number),
            ask=replace(ask, needs=kind.needs(plan)),
            indexes=indexes,
            share=(job.spec.share_identifier or "") if is_fair else "",
            moves=kind.moves,
        )
        for number, (rank, kind, indexes) in enumerate(parts)
        if indexes
    )


class _Kind(NamedTuple):
    """What has happened to a child, as far as it changes where it may start."""

    moves: int = 0
    on_demand: bool = False
    out_of_memory: int = 0

    def needs(self, plan: Plan) -> Needs:
        factor = memory_factor(plan.retry, self.out_of_memory)
        return needs_of(plan, on_demand=self.on_demand, memory_factor=factor)


def _retried(
    look: Evaluation, plan: Plan, retries: IndexSet, *, spot_only: bool
) -> Iterable[tuple[_Kind, IndexSet]]:
    """Children that are tried again, by what has happened to them; those moved least in front.

    A budget stands above a rule to leave spot capacity.
    """
    counted = look.children.counted
    parts = [(_Kind(), retries)]
    parts = _split(parts, counted.moved, lambda kind, times: kind._replace(moves=times))
    on_demand = {
        times: those
        for times, those in counted.hosts_lost.items()
        if needs_on_demand(plan.retry, times) and not spot_only
    }
    parts = _split(parts, on_demand, lambda kind, _: kind._replace(on_demand=True))
    lost = counted.out_of_memory if plan.retry.on_out_of_memory else {}
    parts = _split(parts, lost, lambda kind, times: kind._replace(out_of_memory=times))
    found: dict[_Kind, IndexSet] = {}
    for kind, those in parts:
        found[kind] = found.get(kind, IndexSet()) | those
    return sorted(found.items())


def _split(
    parts: list[tuple[_Kind, IndexSet]],
    events: Mapping[int, IndexSet],
    kind_of: Callable[[_Kind, int], _Kind],
) -> list[tuple[_Kind, IndexSet]]:
    """The parts, divided by how often something has happened to their children."""
    found: list[tuple[_Kind, IndexSet]] = []
    for kind, those in parts:
        rest = those
        for times, happened in events.items():
            found.append((kind_of(kind, times), those & happened))
            rest -= happened
        found.append((kind, rest))
    return [(kind, those) for kind, those in found if those]


def needs_of_next(job: Job, plan: Plan) -> Needs:
    """What the next attempt of a job needs that is no array; of an array, what a first try does."""
    has_rules = plan.retry.on_host_lost or plan.retry.on_out_of_memory
    if job.spec.array_properties is not None or not has_rules:
        return _Kind().needs(plan)
    counted = counted_in(job)
    on_demand = needs_on_demand(plan.retry, counted.times_host_lost(0))
    return _Kind(0, on_demand, counted.times_out_of_memory(0)).needs(plan)


def needs_of_attempt(attempt: PodAttempt, look: Evaluation) -> Needs:
    """What an attempt that lives needs of its environment's nodes; a gang, all of it."""
    if attempt.node_group is None or look.plan is None:
        return (demand_of(attempt),)
    return needs_of_next(look.job, look.plan)


def starts_of(placed: Iterable[Placed], looks: Mapping[str, Evaluation]) -> list[Start]:
    """The attempts that start, in the order in which they were placed."""
    starts: list[Start] = []
    for one in placed:
        look = looks[one.lot.uid]
        plan = look.plan
        assert plan is not None  # what has no plan is in no backlog
        whole = tuple(range(len(plan.groups)))
        for index in one.indexes:
            start = _attempt(
                look, plan, index, one.environment, one.lot.ask, spot_only=one.lot.ask.spot_only
            )
            starts.append(StartGang(start, whole) if plan.groups else start)
    return starts


def _attempt(
    look: Evaluation,
    plan: Plan,
    index: int,
    environment: Environment,
    ask: Ask | None = None,
    *,
    spot_only: bool,
) -> StartAttempt:
    """The next attempt of a child. A budget stands above a rule to leave spot capacity."""
    counted = look.children.counted
    selector, serverless = node_selector(environment), serverless_of(environment.spec)
    on_demand = needs_on_demand(plan.retry, counted.times_host_lost(index))
    if serverless is None:  # Elsewhere no node has labels of ours; only what suits was tried.
        selector = {**selector, **(_SPOT if spot_only else _ON_DEMAND if on_demand else {})}
    asks = ask.needs[0] if ask is not None and ask.needs and not plan.groups else None
    return StartAttempt(
        job=look.job,
        plan=plan,
        index=index,
        number=counted.used(index) + 1,
        array_size=told_size(look.job) if look.job.spec.array_properties else None,
        environment=environment.name,
        node_selector=selector,
        memory_factor=memory_factor(plan.retry, counted.times_out_of_memory(index)),
        pod_annotations=pod_annotations(environment.spec),
        provisioning_class=provisioning_class(environment.spec),
        serverless=serverless,
        held_milli=ask.milli_in(environment) if ask is not None and serverless else None,
        asks=replace(asks, spot=True) if asks is not None and spot_only else asks,
    )


def rest_of_gang(snapshot: Snapshot, look: Evaluation) -> list[StartGang]:
    """What is still to be asked for of a gang that stands in part, where the rest of it is."""
    main = look.gangs[-1].main
    assert look.plan is not None  # without one nothing is known to be missing
    assert main is not None  # what has none is over
    environment = snapshot.environments[main.environment]
    start = _attempt(look, look.plan, main.index, environment, spot_only=main.spot)
    return [StartGang(start, look.to_complete)]
