"""Which jobs a cycle has to look at: those about which something changed that a look depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.scheduling.charges import never_charged
from batch_operator.scheduling.environments import takes_work

if TYPE_CHECKING:
    from collections.abc import Collection

    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Job, Key, Snapshot

LOOKS_MAX = 2000
"""Looks, and statuses composed, in one cycle. What is left waits for the next, a moment later: the
first survey of a large cluster and an edit of a busy queue must not stop everything else."""
ATTEMPTS_PER_LOOK = 20
"""A look reads all attempts of its job: so many cost as much again as a look at a job with one."""


def to_look_at(snapshot: Snapshot, memo: Memo) -> list[str]:
    """Uids of the jobs to look at now, in order of submission; what exceeds the bound is kept."""
    found = _changed(snapshot, memo)
    memo.to_look.update(
        dict.fromkeys(sorted(found, key=lambda uid: _order(snapshot.jobs.get(uid), uid)))
    )
    memo.is_empty = False
    return _taken(snapshot, memo)


def _taken(snapshot: Snapshot, memo: Memo) -> list[str]:
    """As many of the jobs that are to be looked at as a cycle may, by what the looks cost."""
    now: list[str] = []
    cost = 0
    for uid in memo.to_look:
        if cost >= LOOKS_MAX:
            break
        now.append(uid)
        cost += 1 + len(snapshot.attempts.get(uid, ())) // ATTEMPTS_PER_LOOK
    for uid in now:
        del memo.to_look[uid]
    return now


def look_again(snapshot: Snapshot, memo: Memo, uids: Collection[str]) -> list[str]:
    """Those of jobs to look at in this cycle, too; nothing of the others starts before."""
    for uid in sorted(uids, key=lambda uid: _order(memo.looks[uid].job, uid)):
        memo.to_look[uid] = None
        memo.set_aside(uid)
    return _taken(snapshot, memo) if uids else []


def _changed(snapshot: Snapshot, memo: Memo) -> set[str]:
    """Jobs about which something changed that a look depends on."""
    if memo.is_empty:
        return {*snapshot.jobs, *snapshot.attempts}
    changes = snapshot.changes
    found = {*changes.jobs, *memo.due(snapshot.now), *_dependents(snapshot, memo)}
    found |= _on_going_nodes(snapshot, memo) | _in_closed_environments(snapshot)
    for definition in changes.definitions:
        found |= memo.by_definition.get(definition, set())
    for consumable in changes.consumables:
        found |= memo.by_consumable.get(consumable, set())
    queues = _changed_queues(snapshot)
    found |= never_charged(snapshot, memo, queues)
    for name in queues:
        found |= memo.by_queue.get(name, set())
    if changes.namespaces:
        found |= _in_changed_namespaces(snapshot, memo)
    for uid in changes.statuses - found:
        if uid in memo.to_look or not memo.is_as_expected(snapshot.jobs[uid]):
            found.add(uid)
    return found


def _dependents(snapshot: Snapshot, memo: Memo) -> set[str]:
    """Those who depend on jobs that have changed, or are gone."""
    found: set[str] = set()
    for uid in snapshot.changes.jobs | snapshot.changes.statuses:
        job = snapshot.jobs.get(uid)
        if job is not None and memo.upstreams.is_awaited(job.key):
            found |= _told(memo, job.key, job)
    for key in snapshot.changes.removed_jobs:
        if memo.upstreams.is_awaited(key) and key not in snapshot.job_uids:
            found |= _told(memo, key, None)
    return found


def _on_going_nodes(snapshot: Snapshot, memo: Memo) -> set[str]:
    """Jobs with attempts on nodes of which it has become known that they will be taken away."""
    news: set[str] = set()
    for name in snapshot.changes.nodes:
        nodes = snapshot.nodes.get(name, {}).values()
        going = frozenset(one.name for one in nodes if one.is_going)
        news |= going - memo.nodes.going.get(name, frozenset())
        memo.nodes.going[name] = going
    if not news:
        return news
    return {
        uid
        for uid, attempts in snapshot.attempts.items()
        if any(one.node_name in news for one in attempts.values())
    }


def _in_closed_environments(snapshot: Snapshot) -> set[str]:
    """Jobs with attempts that wait for a node where, since a change, nothing more is placed."""
    changed = (snapshot.environments.get(name) for name in snapshot.changes.environments)
    closed = {one.name for one in changed if one is not None and not takes_work(one)}
    if not closed:
        return set()
    return {
        uid
        for uid, attempts in snapshot.attempts.items()
        if any(one.environment in closed and not one.node_name for one in attempts.values())
    }


def _in_changed_namespaces(snapshot: Snapshot, memo: Memo) -> set[str]:
    """Jobs that their queue takes, or does not, for the labels of their namespaces."""
    return {
        uid
        for name, queue in snapshot.queues.items()
        if queue.spec.allowed_namespaces and queue.spec.allowed_namespaces.selector
        for uid in memo.by_queue.get(name, ())
        if memo.looks[uid].job.namespace in snapshot.changes.namespaces
    }


def _changed_queues(snapshot: Snapshot) -> set[str]:
    """Queues that have changed, or something that they name."""
    changes = snapshot.changes
    queues = set(changes.queues)
    if changes.environments or changes.policies:
        queues |= {
            name
            for name, queue in snapshot.queues.items()
            if queue.spec.scheduling_policy in changes.policies
            or any(
                one.compute_environment in changes.environments
                for one in queue.spec.compute_environment_order
            )
        }
    return queues


def _told(memo: Memo, key: Key, job: Job | None) -> set[str]:
    """Those who depend on a job, and for whom something has changed with it."""
    if memo.upstreams.is_other(key, job):
        memo.proven.pop(key[0], None)  # a name appeared or went: circles may have, too
    return memo.upstreams.tell(key, job)


def _order(job: Job | None, uid: str) -> tuple[float, str]:
    return (job.created_at.timestamp() if job else 0.0, uid)
