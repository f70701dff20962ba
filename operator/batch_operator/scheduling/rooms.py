"""How large nodes are for Pods of jobs: what is known of that reaches all who ask where a job fits.

It follows from the spec, from DaemonSets, and from what nodes turned out to have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.provisioning.daemons import Daemons, taken_by_daemons
from batch_operator.provisioning.plan import View
from batch_operator.provisioning.pools import Space
from batch_operator.scheduling.environments import has_nodes
from batch_operator.scheduling.nodes_memo import recalled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.api.amounts import Amounts
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import Pool, PoolKey
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.nodes_memo import Capacity
    from batch_operator.scheduling.snapshot import Environment, Snapshot
    from batch_operator.scheduling.suitability import Rooms


def recall_rooms(snapshot: Snapshot, memo: Memo) -> None:
    """How large nodes are of environments of which no plan has been made yet, by their statuses.

    An operator that has just been started places nothing that it would not have placed before.
    """
    for name, environment in snapshot.environments.items():
        if name in memo.nodes.capacities or not has_nodes(environment):
            continue
        nodes = snapshot.nodes.get(name, {})
        known = recalled(environment, nodes.values())
        view = View(
            spec=environment.spec,
            nodes=list(nodes.values()),
            now=snapshot.now,
            daemons=daemons_of(environment, known, nodes, snapshot, memo),
            histories=known.histories,
        )
        pools = memo.nodes.suits.pools(environment)
        memo.nodes.suits.learn(environment, _rooms(view, pools))


def learn_rooms(environment: Environment, view: View, snapshot: Snapshot, memo: Memo) -> None:
    """Take in how large nodes are now; who waits is looked at again if that makes a difference."""
    if memo.nodes.suits.learn(environment, _rooms(view, memo.nodes.suits.pools(environment))):
        _have_looked_at(environment, snapshot, memo)


def _rooms(view: View, pools: Iterable[Pool]) -> Rooms:
    """What nodes of each pool give to Pods of jobs: new ones, and those that are there and stay."""
    found: dict[PoolKey, set[Amounts]] = {}
    for pool in pools:
        spaces = [one.offers.at_most(pool.offers) for one in view.nodes if _tells(one, pool)]
        taken = view.daemons.get(pool.key, Space())
        rooms = [view.room_of_new(pool), *(one - taken for one in spaces)]
        found[pool.key] = {one.amounts for one in rooms}
    return found


def _tells(node: Node, pool: Pool) -> bool:
    return node.pool == pool.key and node.ready and node.stays


def _have_looked_at(environment: Environment, snapshot: Snapshot, memo: Memo) -> None:
    """What waits may have nodes in an environment now, or no more."""
    for name, queue in sorted(snapshot.queues.items()):
        order = queue.spec.compute_environment_order
        if any(one.compute_environment == environment.name for one in order):
            memo.to_look.update(dict.fromkeys(sorted(memo.by_queue.get(name, ()))))


def daemons_of(
    environment: Environment,
    known: Capacity,
    nodes: Mapping[str, Node],
    snapshot: Snapshot,
    memo: Memo,
) -> Mapping[PoolKey | None, Space]:
    """What DaemonSets take of a node of each pool; found out anew when one of them changes."""
    offers: dict[PoolKey | None, Space | None] = {one.pool: None for one in nodes.values()}
    for one in memo.nodes.suits.pools(environment):
        offers[one.key] = known.history(one.key).expected(one.offers)
    last, there = known.daemons, snapshot.daemon_sets
    if last is None or last.of is not there or last.offers != offers:
        spaces = taken_by_daemons(there, environment.name, offers)
        last = known.daemons = Daemons(there, offers, spaces)
    return last.spaces
