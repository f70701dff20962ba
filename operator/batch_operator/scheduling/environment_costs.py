"""What an environment's nodes cost, and what of that attempts used.

A node costs from its creation until it is seen to be gone. The environment's status keeps what all
of them have cost until a time, and how many there were then; from that and the nodes that there are
now follows the rest, so nothing has to be remembered. Those that went count until the next look,
which is a moment, or as long as the operator was away; what came and went meanwhile is never seen.

Cost grows all the time. It is settled when nodes come or go, attempts begin or end, and in between
the status says until when it is: a world in which nothing happens is not written to.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from batch_operator.api.common import ConditionStatus
from batch_operator.api.compute_environment import CapacityType
from batch_operator.api.cost import EnvironmentCost, PoolCost, micros, money
from batch_operator.provisioning.pools import PoolKey
from batch_operator.provisioning.prices import cost_of
from batch_operator.scheduling.costs import seconds_of
from batch_operator.scheduling.ledger import deleted_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.prices import Prices
    from batch_operator.scheduling.conditions import Wanted
    from batch_operator.scheduling.ledger import Account, Ledger
    from batch_operator.scheduling.snapshot import Environment

POOLS_MAX = 200
OTHERS = "(others)"
"""No instance type is called so: what pools have cost for which there is no row left."""
PRICED = "Priced"


def environment_cost(
    environment: Environment, ledger: Ledger, now: datetime
) -> EnvironmentCost | None:
    """What the status should say: what it says, unless something has happened."""
    stored, prices = environment.status.cost, ledger.tariffs.of(environment.name)
    if prices is None:
        return stored
    account = ledger.environments[environment.name]
    nodes = ledger.tariffs.nodes(environment.name)
    now = now.replace(microsecond=0)
    if stored is not None and (
        stored.settled_at > now or not _news(stored, nodes, prices, account)
    ):
        return stored
    used = account.settled.total + account.runs.until(now)
    cost = EnvironmentCost(
        since=stored.since if stored else now,
        settled_at=now,
        used=money(used),
        wasted=money(account.settled.wasted),
        spot_savings=money(account.settled.saved),
        deleted_jobs=deleted_of(account),
    )
    if environment.spec.node_selector is not None or prices.is_serverless:
        return cost
    pools = _settled(stored, nodes, prices, now)
    total = sum(micros(one.cost) for one in pools)
    return cost.model_copy(
        update={
            "nodes": money(total),
            "idle": money(max(0, total - used)),
            "spot_savings": money(sum(micros(one.spot_savings) for one in pools)),
            "pools": pools,
        }
    )


def _news(
    stored: EnvironmentCost, nodes: Collection[Node], prices: Prices, account: Account
) -> bool:
    """Whether nodes have come or gone, or attempts begun or ended, since it was settled."""
    used = account.settled.total + account.runs.until(stored.settled_at)
    said = micros(stored.used), micros(stored.wasted), stored.deleted_jobs
    if said != (used, account.settled.wasted, deleted_of(account)):
        return True
    if stored.nodes is None:
        return False
    there = Counter(pool for pool, _ in _priced(nodes, prices))
    is_new = any(one.created_at > stored.settled_at for _, one in _priced(nodes, prices))
    before = {_key(one): one.nodes for one in stored.pools if one.nodes}
    return is_new or dict(there) != before


def _settled(
    stored: EnvironmentCost | None, nodes: Collection[Node], prices: Prices, now: datetime
) -> list[PoolCost]:
    """The pools with all that their nodes have cost until now."""
    rows = {_key(one): one for one in stored.pools} if stored else {}
    until = seconds_of(stored.settled_at) if stored else seconds_of(now)
    node_seconds: Counter[PoolKey] = Counter()
    still: Counter[PoolKey] = Counter()
    there: Counter[PoolKey] = Counter()
    for pool, node in _priced(nodes, prices):
        there[pool] += 1
        begun = seconds_of(node.created_at)
        still[pool] += begun <= until
        node_seconds[pool] += max(0, seconds_of(now) - max(begun, until))
    for pool, row in rows.items():
        gone = max(0, row.nodes - still[pool])
        node_seconds[pool] += gone * (seconds_of(now) - until)
    found: list[PoolCost] = []
    for pool in sorted({*rows, *there}):
        before, rate = rows.get(pool), prices.of_node(pool)
        cost = micros(before.cost) if before else 0
        saved = micros(before.spot_savings) if before else 0
        if rate is not None:
            cost += cost_of(rate.price, node_seconds[pool])
            saved += cost_of(rate.saved, node_seconds[pool])
        found.append(
            PoolCost(
                instance_type=pool.instance_type,
                capacity_type=pool.capacity_type,
                nodes=there[pool],
                cost=money(cost),
                spot_savings=money(saved),
            )
        )
    return _bounded(found)


def _bounded(rows: list[PoolCost]) -> list[PoolCost]:
    """As many as a status holds: first those with nodes; the others are summed up."""
    if len(rows) <= POOLS_MAX:
        return rows
    first = sorted(rows, key=lambda one: not one.nodes)
    kept, beyond = first[: POOLS_MAX - len(CapacityType)], first[POOLS_MAX - len(CapacityType) :]
    for kind in sorted({one.capacity_type for one in beyond}):
        of_kind = [one for one in beyond if one.capacity_type == kind]
        kept.append(
            PoolCost(
                instance_type=OTHERS,
                capacity_type=kind,
                nodes=sum(one.nodes for one in of_kind),
                cost=money(sum(micros(one.cost) for one in of_kind)),
                spot_savings=money(sum(micros(one.spot_savings) for one in of_kind)),
            )
        )
    return sorted(kept, key=_key)


def _priced(nodes: Collection[Node], prices: Prices) -> Iterable[tuple[PoolKey, Node]]:
    """Nodes whose price is known, and their pools."""
    for one in nodes:
        if one.pool is not None and prices.of_node(one.pool) is not None:
            yield one.pool, one


def _key(row: PoolCost) -> PoolKey:
    return PoolKey(row.instance_type, CapacityType(row.capacity_type))


def unknown_prices(environment: Environment, ledger: Ledger) -> list[Wanted]:
    """A condition that says which prices are not known; none where all is well."""
    problem = ledger.tariffs.problem(environment)
    return [(PRICED, ConditionStatus.FALSE, "PricesMissing", problem[:1024])] if problem else []
