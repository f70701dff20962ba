"""What one job's attempts cost, from one look at it.

An attempt costs its part of its node's price from its binding to its end; a multi-node job's that
of all its nodes, until its main node ends. It is reckoned when its outcome is counted, and kept in
the job's status with that outcome, so it is reckoned once, whatever restarts come in between.

Its node's pool is known from the Node. Where that is gone by then it is known from the attempt's
row, which has told of it since the attempt was bound, or from the job's last look; and after a
restart, for a child of an array, which has no row, from nowhere. Then the attempt costs what it
would have cost on the cheapest node that it could have run on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any

from batch_operator.api.cost import (
    DAYS_MAX,
    ENVIRONMENTS_MAX,
    Costs,
    EnvironmentCosts,
    JobCost,
    micros,
    money,
)
from batch_operator.api.sentences import listed
from batch_operator.lifecycle.attempt import Phase
from batch_operator.provisioning.packing import demand_of
from batch_operator.provisioning.pools import PoolKey
from batch_operator.provisioning.prices import Prices, cost_of
from batch_operator.scheduling.catalogues import catalogue_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from batch_operator.api.compute_environment import InstanceType
    from batch_operator.api.job import Attempt
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.provisioning.catalogue import Catalogue, CatalogueKey
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.prices import Rate
    from batch_operator.scheduling.snapshot import Environment


@dataclass(frozen=True, slots=True)
class Tally:
    """Millionths: what attempts cost, what of it was in vain, and what spot capacity saved."""

    total: int = 0
    wasted: int = 0
    saved: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.total + other.total, self.wasted + other.wasted, self.saved + other.saved)

    def times(self, count: int) -> Tally:
        return Tally(self.total * count, self.wasted * count, self.saved * count)


NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class Runs:
    """Attempts that run: what they cost in an hour, and that times the seconds of their begins.

    So what any number of them have cost until a time is one multiplication.
    """

    rate: int = 0
    begun: int = 0

    def __add__(self, other: Runs) -> Runs:
        return Runs(self.rate + other.rate, self.begun + other.begun)

    def times(self, count: int) -> Runs:
        return Runs(self.rate * count, self.begun * count)

    def until(self, now: datetime) -> int:
        """Millionths that they have cost."""
        return max(0, cost_of(self.rate * seconds_of(now) - self.begun, 1))


@dataclass(frozen=True, slots=True)
class JobCosts:
    """What a job has cost: attempts that are over by environment and by day, and those that run.

    `ended` has the cost of attempts that have ended since the stored status, `rates` what others
    cost in an hour, both by Pod uid.
    """

    queue: str
    share: str
    environments: Mapping[str, Tally] = field(default_factory=dict)
    days: Mapping[str, int] = field(default_factory=dict)
    running: Mapping[str, Runs] = field(default_factory=dict)
    ended: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, Rate] = field(default_factory=dict)

    @property
    def total(self) -> Tally:
        return sum(self.environments.values(), NOTHING)


class Tariffs:
    """The prices of all environments, and on which nodes attempts run."""

    def __init__(self) -> None:
        self._prices: dict[str, tuple[Environment, Prices]] = {}
        self._environments: Mapping[str, Environment] = {}
        self._nodes: Mapping[str, Mapping[str, Node]] = {}
        self._catalogues: Mapping[CatalogueKey, Catalogue] = {}

    def see(
        self,
        environments: Mapping[str, Environment],
        nodes: Mapping[str, Mapping[str, Node]],
        catalogues: Mapping[CatalogueKey, Catalogue],
    ) -> None:
        """Go by these from now on."""
        self._environments, self._nodes, self._catalogues = environments, nodes, catalogues

    def of(self, name: str) -> Prices | None:
        """An environment's prices, if it has any."""
        environment = self._environments.get(name)
        if environment is None:
            self._prices.pop(name, None)
            return None
        known = self._prices.get(name)
        if known is None or known[0].spec is not environment.spec:
            before = known[1] if known is not None and known[0].uid == environment.uid else None
            known = self._prices[name] = environment, Prices(environment.spec, before)
        return known[1] or None

    def problem(self, environment: Environment) -> str | None:
        """What is not known of an environment's prices, and what to write."""
        spec = environment.spec
        key = catalogue_of(spec)
        catalogue = self._catalogues.get(key) if key is not None else None
        if catalogue is not None and catalogue.problem:
            return catalogue.problem
        bare = [one.name for one in spec.instance_types if not _has_price(one)]
        if not bare or (key is None and len(bare) == len(spec.instance_types)):
            return None  # who gives no prices at all wants none
        return f"what nodes of {listed(bare)} cost is not known: give them a pricePerHour"

    def nodes(self, name: str) -> Collection[Node]:
        """An environment's nodes."""
        return self._nodes.get(name, {}).values()

    def rate(self, one: PodAttempt, row: Attempt | None, known: Rate | None) -> Rate | None:
        """What an attempt on a node costs.

        Args:
            one: the attempt.
            row: what its job's status says of it, if it does.
            known: what it cost when its job was looked at last.
        """
        prices = self.of(one.environment)
        if prices is None or one.node_name is None:
            return known
        if known is not None and known.is_guess:
            known = None  # its Node may have come since
        pool = self._pool(one.environment, one.node_name) or _pool_of(row)
        if pool is not None or prices.is_serverless:
            return prices.of_attempt(one.amounts, pool) or known
        return known or prices.lowest(one.amounts, demand_of(one).suits)

    def _pool(self, environment: str, node_name: str) -> PoolKey | None:
        """The pool of a node, which of an environment with a nodeSelector may have no label."""
        for name in (environment, ""):
            node = self._nodes.get(name, {}).get(node_name)
            if node is not None:
                return node.pool
        return None


def _has_price(instance_type: InstanceType) -> bool:
    prices = instance_type.price_per_hour, instance_type.spot_price_per_hour
    return any(one is not None for one in prices)


def _pool_of(row: Attempt | None) -> PoolKey | None:
    if row is None or row.instance_type is None or row.capacity_type is None:
        return None
    return PoolKey(row.instance_type, row.capacity_type)


def costs_of(look: Evaluation, tariffs: Tariffs, before: JobCosts | None) -> JobCosts | None:
    """What a job has cost; None when nothing is known of that.

    `before` is what came of its last look.
    """
    job, stored = look.job, look.job.status.cost
    environments, days = _stored(stored)
    found = JobCosts(job.spec.job_queue, job.spec.share_identifier or "", environments, days)
    known = before.rates if before is not None else {}
    names = {*look.usage, *(one.environment for one in look.children.newly_ended)}
    if known or any(map(tariffs.of, names)):
        rows = {row.pod_uid: row for row in job.status.attempts}
        found = _with_attempts(found, look, _Rating(tariffs, rows, known))
    return found if stored is not None or found.ended or found.rates else None


@dataclass(frozen=True, slots=True)
class _Rating:
    tariffs: Tariffs
    rows: Mapping[str, Attempt]
    known: Mapping[str, Rate]

    def __call__(self, one: PodAttempt) -> Rate | None:
        uid = one.pod_uid
        return self.tariffs.rate(one, self.rows.get(uid), self.known.get(uid))


def _with_attempts(found: JobCosts, look: Evaluation, rate_of: _Rating) -> JobCosts:
    environments, days = dict(found.environments), dict(found.days)
    running: dict[str, Runs] = defaultdict(Runs)
    ended: dict[str, int] = {}
    rates: dict[str, Rate] = {}
    for one in look.children.newly_ended:
        if one.stopped_at is None:
            continue
        for pod in _pods_of(look, one):
            rate = rate_of(pod)
            if rate is None or pod.bound_at is None:
                continue
            rates[pod.pod_uid] = rate
            until = min(pod.stopped_at or one.stopped_at, one.stopped_at)
            seconds = max(0, seconds_of(until) - seconds_of(pod.bound_at))
            cost, saved = cost_of(rate.price, seconds), cost_of(rate.saved, seconds)
            is_in_vain = one.phase is not Phase.SUCCEEDED
            tally = Tally(cost, cost if is_in_vain else 0, saved)
            name, day = one.environment, day_of(one.stopped_at)
            environments[name] = environments.get(name, NOTHING) + tally
            days[day] = days.get(day, 0) + cost
            ended[one.pod_uid] = ended.get(one.pod_uid, 0) + cost
    for one in _running(look):
        rate = rate_of(one)
        if rate is not None and one.bound_at is not None:
            rates[one.pod_uid] = rate
            begun = rate.price * seconds_of(one.bound_at)
            running[one.environment] += Runs(rate.price, begun)
    return JobCosts(found.queue, found.share, environments, days, running, ended, rates)


def _pods_of(look: Evaluation, one: PodAttempt) -> Iterable[PodAttempt]:
    """The Pods of an attempt: of a gang all of them, each until its own end or the gang's."""
    if one.node_group is None:
        return (one,)
    return [pod for gang in look.gangs if gang.number == one.number for pod in gang.pods]


def _running(look: Evaluation) -> Iterator[PodAttempt]:
    """Pods on nodes that belong to attempts which have not been counted."""
    counted = look.children.counted
    for one in look.children.live:
        is_final = one.index in counted.succeeded or one.index in counted.failed
        if is_final or one.number <= counted.used(one.index):
            continue
        yield from (pod for pod in _pods_of(look, one) if not pod.phase.ended)


def with_costs(rows: Iterable[Attempt], known: JobCosts) -> list[Attempt]:
    """The rows of attempts with their nodes' pools, and costs once they are over."""
    return [_with_cost(row, known) for row in rows]


def _with_cost(row: Attempt, known: JobCosts) -> Attempt:
    rate, cost = known.rates.get(row.pod_uid), known.ended.get(row.pod_uid)
    update: dict[str, Any] = {}
    if rate is not None and not rate.is_guess:
        update |= {
            "instance_type": rate.pool.instance_type,
            "capacity_type": rate.pool.capacity_type,
        }
    if cost is not None:
        update["cost"] = money(cost)
    return row.model_copy(update=update) if update else row


def cost_to(known: JobCosts) -> JobCost | None:
    """As a job's status keeps it; None while no attempt is over."""
    if not known.environments:
        return None
    kept = sorted(known.environments)
    last, beyond = kept[:ENVIRONMENTS_MAX][-1], kept[ENVIRONMENTS_MAX:]
    tallies = {name: known.environments[name] for name in kept[:ENVIRONMENTS_MAX]}
    tallies[last] = sum((known.environments[name] for name in beyond), tallies[last])
    return JobCost(
        **texts(known.total),
        environments=[
            EnvironmentCosts(compute_environment=name, **texts(tally))
            for name, tally in tallies.items()
        ],
        days=days_to(known.days),
    )


def _stored(cost: JobCost | None) -> tuple[dict[str, Tally], dict[str, int]]:
    if cost is None:
        return {}, {}
    return {row.compute_environment: tally_of(row) for row in cost.environments}, days_of(cost.days)


def tally_of(costs: Costs | None) -> Tally:
    if costs is None:
        return NOTHING
    return Tally(micros(costs.total), micros(costs.wasted), micros(costs.spot_savings))


def texts(tally: Tally) -> dict[str, Any]:
    """The fields of `Costs`."""
    return {
        "total": money(tally.total),
        "wasted": money(tally.wasted),
        "spot_savings": money(tally.saved),
    }


def days_of(days: Mapping[str, str]) -> dict[str, int]:
    return {day: micros(text) for day, text in days.items()}


def days_to(days: Mapping[str, int]) -> dict[str, str]:
    """The latest days, as many as a window can have."""
    return {day: money(days[day]) for day in sorted(days)[-DAYS_MAX:]}


def day_of(at: datetime) -> str:
    """The day on which something is paid, such as 2026-01-31 (UTC)."""
    return at.astimezone(UTC).date().isoformat()


def seconds_of(at: datetime) -> int:
    """Whole seconds since 1970, as the API server keeps times."""
    return int(at.timestamp())
