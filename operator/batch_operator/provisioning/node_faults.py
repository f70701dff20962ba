"""What is wrong with an environment's nodes that somebody should know of.

None of it stops the environment: what is not as it should be is counted for nobody, or waits, and
nodes that are missing are made anew. But a machine that nobody counts costs money all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE, CapacityType
from batch_operator.api.sentences import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.provisioning.history import History
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import PoolKey

UNREADY_AFTER = timedelta(minutes=5)
"""So long a node may not be ready before anybody is told; some time later it is replaced."""
LOST_FOR = timedelta(hours=1)
"""So long it is said that nodes were lost which should not be."""


@dataclass(frozen=True, slots=True)
class NodeFault:
    """One kind of fault: a CamelCase word for scripts, and a sentence that says what to do."""

    reason: str
    message: str


def node_faults(
    environment: str,
    nodes: Iterable[Node],
    strays: Iterable[Node],
    histories: Mapping[PoolKey, History],
    now: datetime,
) -> list[NodeFault]:
    """Everything that is wrong, what costs most in front."""
    nodes = sorted(nodes, key=lambda one: one.name)
    strays = sorted(strays, key=lambda one: one.name)
    found = (
        _orphaned(environment, strays),
        _disputed(environment, strays),
        _unready(nodes, now),
        _cordoned(nodes),
        _unlabelled(nodes),
        _untyped(nodes),
        _lost(histories, now),
    )
    return [one for one in found if one is not None]


def _orphaned(environment: str, strays: Sequence[Node]) -> NodeFault | None:
    orphans = [one for one in strays if not one.environment]
    if not orphans:
        return None
    return NodeFault(
        "NodesOrphaned",
        f"{_named(orphans)} without the label {meta.LABEL_COMPUTE_ENVIRONMENT} and with this "
        f"environment's taint: counted no more, and paid for; delete, or label with {environment}",
    )


def _disputed(environment: str, strays: Sequence[Node]) -> NodeFault | None:
    disputed = [one for one in strays if one.environment]
    if not disputed:
        return None
    others = sorted(set[str]().union(*(one.claimants for one in disputed)) - {environment})
    other = listed(others) or "none, for the taint has no value"
    return NodeFault(
        "NodesDisputed",
        f"{_named(disputed)} with label and taint {meta.LABEL_COMPUTE_ENVIRONMENT} of two "
        f"environments (the other: {other}): counted for neither, and no job can run "
        f"there; make both say the same",
    )


def _unready(nodes: Sequence[Node], now: datetime) -> NodeFault | None:
    late = [one for one in nodes if one.is_broken(now, UNREADY_AFTER)]
    if not late:
        return None
    return NodeFault(
        "NodesNotReady",
        f"{_named(late)} not ready for {UNREADY_AFTER.total_seconds():.0f} s: see `kubectl "
        f"describe node`, and the machine's own log",
    )


def _cordoned(nodes: Sequence[Node]) -> NodeFault | None:
    found = [one for one in nodes if one.cordoned and one.stays]
    if not found:
        return None
    return NodeFault(
        "NodesCordoned",
        f"{_named(found)} cordoned by somebody else: left alone and not removed; uncordon to use, "
        f"or delete",
    )


def _unlabelled(nodes: Sequence[Node]) -> NodeFault | None:
    found = [one for one in nodes if one.pool is None]
    if not found:
        return None
    return NodeFault(
        "NodesUnlabelled",
        f"{_named(found)} without a proper label {LABEL_INSTANCE_TYPE} or "
        f"{meta.LABEL_CAPACITY_TYPE}: of no known pool and price, and not for jobs that ask for "
        f"one; put the labels back",
    )


def _untyped(nodes: Sequence[Node]) -> NodeFault | None:
    found = [one for one in nodes if not one.says_capacity_type]
    if not found:
        return None
    return NodeFault(
        "NodesOfUnknownCapacityType",
        f"{_named(found)} without the label {meta.LABEL_CAPACITY_TYPE}: counted and charged as "
        f"on-demand, and not for jobs that may go to one capacity type only; label spot or "
        f"on-demand, best in what makes the nodes",
    )


def _lost(histories: Mapping[PoolKey, History], now: datetime) -> NodeFault | None:
    """On-demand nodes that went without us; of spot nodes that is to be expected."""
    pools = sorted(
        key.instance_type
        for key, one in histories.items()
        if key.capacity_type is CapacityType.ON_DEMAND
        and one.interrupted_at is not None
        and now < one.interrupted_at + LOST_FOR
    )
    if not pools:
        return None
    return NodeFault(
        "NodesLost",
        f"on-demand nodes of {listed(pools)} were taken away or deleted lately: what ran there "
        f"is tried again, and others are made as jobs ask for them",
    )


def _named(nodes: Sequence[Node]) -> str:
    noun = "node" if len(nodes) == 1 else "nodes"
    return f"{noun} {listed([one.name for one in nodes])}"
