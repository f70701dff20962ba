"""What the nodes of an environment, those that came and those that did not, teach of its pools."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.provisioning.history import BACK_OFF_MAX, FOLLOWED_BACK_OFF_MAX
from batch_operator.provisioning.nodes import is_interruption

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.pools import PoolKey, Space
    from batch_operator.scheduling.nodes_memo import Capacity
    from batch_operator.scheduling.snapshot import PoolRefusal


def learn(
    known: Capacity,
    spec: ComputeEnvironmentSpec,
    nodes: Iterable[Node],
    refusals: Mapping[PoolKey, PoolRefusal],
    busy: Collection[str],
    now: datetime,
    *,
    is_follower: bool = False,
) -> None:
    """Bring what is known of pools up to date, before the next plan is made of it.

    `busy` are the names of nodes that attempts have. Where an autoscaler follows Pods it removes
    idle nodes, so one that is gone was lost only if it was in use.
    """
    by_uid = {one.uid: one for one in nodes}
    _learn_of_arrivals(known, by_uid, now)
    _learn_of_orders(known, spec, now)
    idle = known.plan.idle_since if is_follower and known.plan is not None else {}
    _learn_of_losses(known, by_uid, busy, idle, now)
    most = FOLLOWED_BACK_OFF_MAX if is_follower else BACK_OFF_MAX
    _learn_of_refusals(known, refusals, now, most)
    _learn_sizes(known, spec, by_uid.values(), now)
    draining = (one.name for one in by_uid.values() if one.draining_since)
    known.cordons = {name: known.cordons.get(name, now) for name in draining}
    known.nodes = by_uid


def note_orders(known: Capacity, now: datetime) -> None:
    """Since when nodes are waited for, once the plan is made."""
    for pool in known.to_come.keys() | known.histories.keys():
        history = known.history(pool)
        waiting = history.waits(now, is_awaited=pool in known.to_come)
        if waiting is not history:
            known.histories[pool] = waiting


def _learn_of_arrivals(known: Capacity, by_uid: Mapping[str, Node], now: datetime) -> None:
    """A node that is there is on order no more; one that is ready says how long it took.

    After a restart no node is new: what is there has been taken off the orders already.
    """
    for uid, node in by_uid.items():
        if node.pool is None:
            continue
        history = known.history(node.pool)
        if known.plan is not None and uid not in known.nodes:
            known.to_come[node.pool] = max(0, known.to_come.get(node.pool, 0) - 1)
            history = history.waits(now, is_awaited=False)
        if node.ready_at is not None and history.is_news(node.created_at):
            took = max(timedelta(0), node.ready_at - node.created_at)
            history = history.became_ready(node.created_at, round(took.total_seconds()))
        if history != known.history(node.pool):
            known.histories[node.pool] = history


def _learn_of_orders(known: Capacity, spec: ComputeEnvironmentSpec, now: datetime) -> None:
    """What has been ordered for too long counts as refused, and as ordered no more."""
    scale = spec.provisioner.scale if spec.provisioner is not None else None
    least = timedelta(minutes=scale.provision_timeout_minutes if scale is not None else 0)
    for pool, count in known.to_come.items():
        history = known.history(pool)
        since, patience = history.waiting_since, max(least, history.patience)
        if count and since is not None and now >= since + patience:
            said = known.report.waits.get(pool, "")
            known.histories[pool] = history.overdue(now, said, waited=patience)
            known.to_come[pool] = 0


def _learn_of_losses(
    known: Capacity,
    by_uid: Mapping[str, Node],
    busy: Collection[str],
    idle: Collection[str],
    now: datetime,
) -> None:
    """Nodes that are announced to go, that are gone, and that were given up as broken.

    Those that are gone because they were `idle` were not lost.
    """
    for uid, node in by_uid.items():
        if node.pool is None:
            continue
        before, history = known.nodes.get(uid), known.history(node.pool)
        if is_interruption(node, before, history, is_busy=node.name in busy):
            known.histories[node.pool] = history.interrupted(now)
        elif (
            node.is_broken(now, history.patience)
            and node.draining_since
            and before
            and not before.draining_since
        ):
            is_new = history.is_news(node.created_at)
            known.histories[node.pool] = (
                history.overdue(now) if is_new else history.interrupted(now)
            )
    for uid, node in known.nodes.items():
        if uid not in by_uid and node.pool and node.stays and node.name not in idle:
            history = known.history(node.pool)
            known.histories[node.pool] = history.interrupted(now)


def _learn_of_refusals(
    known: Capacity, refusals: Mapping[PoolKey, PoolRefusal], now: datetime, most: timedelta
) -> None:
    """What was refused counts as ordered no more.

    A refusal is heard when its time has come: an Event may say any.
    """
    for pool, refusal in refusals.items():
        history = known.history(pool)
        at = refusal.at.replace(microsecond=0)
        if at <= now and (history.refused_at is None or at > history.refused_at):
            known.histories[pool] = history.refused(at, refusal.message, most)
            known.to_come[pool] = 0


def _learn_sizes(
    known: Capacity, spec: ComputeEnvironmentSpec, nodes: Collection[Node], now: datetime
) -> None:
    """The least that the nodes of a pool have, as far as they have told of all that they have."""
    gpus = {one.name: one.gpus for one in spec.instance_types}
    least: dict[PoolKey, Space] = {}
    for node in nodes:
        pool = node.pool
        if pool is None or not node.ready:
            continue
        if node.offers.amounts.gpus >= gpus.get(pool.instance_type, 0):
            least[pool] = node.offers.at_most(least.get(pool, node.offers))
    for pool, space in least.items():
        history = known.history(pool)
        if history.allocatable != space:
            known.histories[pool] = replace(history, allocatable=space)
    for pool in known.histories.keys() - {one.pool for one in nodes}:
        known.histories[pool] = known.history(pool).without_nodes(now)
