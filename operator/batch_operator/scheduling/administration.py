"""What follows for the administrators' objects: revisions of definitions, and statuses."""

from __future__ import annotations

import heapq
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from batch_operator.api.consumable_resource import ConsumableResourceStatus
from batch_operator.api.job_definition import JobDefinitionStatus, revisioned
from batch_operator.api.job_queue import JobQueueStatus, ShareStatus
from batch_operator.api.scheduling_policy import FairsharePolicy, SchedulingPolicyStatus
from batch_operator.api.sentences import listed
from batch_operator.lifecycle.limits import unknown_reason
from batch_operator.lifecycle.plan import latest_active
from batch_operator.scheduling import budgets
from batch_operator.scheduling.charges import usage_to
from batch_operator.scheduling.conditions import conditions_of, dated, urgency_of, write_status
from batch_operator.scheduling.consumables import free_units, grants_after, is_used_up
from batch_operator.scheduling.environment_status import environment_status
from batch_operator.scheduling.environments import (
    missing_policy,
    policy_problem,
    vcpus,
)
from batch_operator.scheduling.faults import kept_away
from batch_operator.scheduling.front import front_of
from batch_operator.scheduling.memo import OPEN_STATES
from batch_operator.scheduling.mutations import (
    CreateRevision,
    DeleteRevision,
    Mutation,
    Urgency,
    WriteStatus,
)
from batch_operator.scheduling.run_times import to_store
from batch_operator.scheduling.shares import Usage
from batch_operator.scheduling.sizes import SHARES_BYTES_MAX, fitting, share_bytes
from batch_operator.scheduling.terms import offer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from batch_operator.api.job import JobState
    from batch_operator.api.job_definition import JobDefinitionSpec
    from batch_operator.api.stored import Stored
    from batch_operator.lifecycle.plan import Definition
    from batch_operator.scheduling.faults import Fault
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.shares import ShareBook
    from batch_operator.scheduling.snapshot import (
        Consumable,
        Key,
        Queue,
        SharePolicy,
        Snapshot,
    )

TOUCHED_MAX = 100
"""Queues, and environments, whose counts are told anew in one cycle."""
SHARES_MAX = 500
"""AWS: a queue has at most so many active share identifiers."""


def mutations(snapshot: Snapshot, memo: Memo, faults: list[Fault]) -> list[Mutation]:
    """Revisions to keep and statuses to write, for what changed or was counted anew."""
    found: list[Mutation] = []
    for kind, known, touched, see_to in _work(snapshot, memo):
        for key in sorted(touched if memo.is_administered else known):
            if key in known:
                with kept_away(f"{kind} {key}", faults):
                    found += see_to(key, known[key])
    memo.touched_definitions.clear()
    memo.touched_consumables.clear()
    memo.is_administered = True
    return found


def _next_of(touched: dict[str, None]) -> set[str]:
    """Take those that were touched first; the others' counts may lag behind for a few cycles."""
    taken = list(islice(touched, TOUCHED_MAX))
    for name in taken:
        del touched[name]
    return set(taken)


def _work(snapshot: Snapshot, memo: Memo) -> Iterator[_Work]:
    """What there is to do, kind by kind: queues that are seen to touch environments."""
    changes, now = snapshot.changes, snapshot.now
    yield (
        "definition",
        snapshot.definitions,
        changes.definitions | memo.touched_definitions | _newly_learned(snapshot, memo),
        lambda key, one: _definition(key, one, memo, now),
    )
    queues = changes.queues | _next_of(memo.touched_queues)
    if changes.environments or changes.policies:
        queues = snapshot.queues.keys()
    yield "queue", snapshot.queues, queues, lambda _, one: [_queue(one, snapshot, memo)]
    touched = {*changes.nodes}
    for name in memo.nodes.named_by.keys() - snapshot.queues.keys():
        touched |= memo.nodes.note_order(name, frozenset())
    memo.touched_environments |= dict.fromkeys(sorted(touched))
    yield (
        "environment",
        snapshot.environments,
        changes.environments | _next_of(memo.touched_environments),
        lambda _, one: [environment_status(one, snapshot, memo)],
    )
    yield "policy", snapshot.policies, changes.policies, lambda _, one: [_policy(one, now)]
    yield (
        "resource",
        snapshot.consumables,
        changes.consumables | memo.touched_consumables,
        lambda _, one: [_consumable(one, snapshot, memo)],
    )


_Work = tuple[str, "Mapping[Any, Any]", "AbstractSet[Any]", "Callable[[Any, Any], list[Mutation]]"]
"""A kind, its objects, the keys of those to see to, and how that is done."""


def _policy(policy: SharePolicy, now: datetime) -> WriteStatus:
    conditions = conditions_of(
        policy_problem(policy), "can be used", policy.status.conditions, policy.generation, now
    )
    status = SchedulingPolicyStatus(observed_generation=policy.generation, conditions=conditions)
    return write_status("SchedulingPolicy", policy, status)


def _consumable(resource: Consumable, snapshot: Snapshot, memo: Memo) -> WriteStatus:
    """AWS's counters; and of what is used up, who was granted how much."""
    name = resource.name
    spent, grants = grants_after(resource, memo.wishes.get(name, {}), snapshot.jobs)
    in_use = 0 if is_used_up(resource) else max(0, memo.used_units[name])
    status = ConsumableResourceStatus(
        observed_generation=resource.generation,
        in_use_quantity=in_use,
        spent_quantity=spent,
        grants=grants,
        conditions=conditions_of(
            None,
            f"{resource.spec.resource_type}, {resource.spec.total_quantity} units in all",
            resource.status.conditions,
            resource.generation,
            snapshot.now,
        ),
    )
    free = free_units({name: replace(resource, status=status)}, {name: in_use})[name]
    status = status.model_copy(update={"available_quantity": max(0, free)})
    is_waited_for = grants != resource.status.grants
    return write_status(
        "ConsumableResource",
        resource,
        status,
        Urgency.FINAL
        if is_waited_for
        else urgency_of(resource.status.conditions, status.conditions),
    )


def _newly_learned(snapshot: Snapshot, memo: Memo) -> set[Key]:
    """Definitions whose status should tell of run times that have been learned."""
    known = snapshot.definitions
    objects = {key: known[key].object for key in memo.run_times.take_fresh() if key in known}
    return {
        key
        for key, stored in objects.items()
        if stored is not None
        and to_store(memo.run_times.estimate(key), stored.status.run_times)
        is not stored.status.run_times
    }


def _definition(key: Key, definition: Definition, memo: Memo, now: datetime) -> list[Mutation]:
    stored = definition.object
    if stored is None or stored.deleting:
        return _superfluous(key, definition, memo, kept=0)
    latest = max(definition.revisions, default=0)
    if not latest or definition.revisions[latest] != revisioned(stored.spec):
        # The status follows once the API server holds the revision.
        create = CreateRevision(
            namespace=stored.namespace,
            definition=stored.name,
            definition_uid=stored.uid,
            revision=latest + 1,
            spec=revisioned(stored.spec),
        )
        return [create, *_refused(stored, latest + 1, definition.refused, now)]
    newest = latest_active(definition)
    learned = to_store(memo.run_times.estimate(key), stored.status.run_times)
    status = JobDefinitionStatus(
        observed_generation=stored.generation,
        latest_revision=newest,
        run_times=learned,
        conditions=conditions_of(
            None,
            f"revision {latest} is the latest"
            + ("" if newest == latest else f", revision {newest or 'none'} the latest ACTIVE one"),
            stored.status.conditions,
            stored.generation,
            now,
        ),
    )
    is_told = status.model_copy(update={"run_times": stored.status.run_times}) == stored.status
    return [
        *_superfluous(key, definition, memo, kept=1 + stored.spec.revision_history_limit),
        write_status("JobDefinition", stored, status, Urgency.LAZY if is_told else Urgency.COUNTED),
    ]


def _refused(
    stored: Stored[JobDefinitionSpec, JobDefinitionStatus],
    revision: int,
    refused: str | None,
    now: datetime,
) -> list[Mutation]:
    """Say what keeps a revision from being recorded; what was observed is still the one before."""
    if refused is None:
        return []
    problem = f"revision {revision} cannot be recorded: {refused}"
    conditions = conditions_of(problem, "", stored.status.conditions, stored.generation, now)
    status = stored.status.model_copy(update={"conditions": conditions})
    return [write_status("JobDefinition", stored, status)]


def _superfluous(key: Key, definition: Definition, memo: Memo, *, kept: int) -> list[Mutation]:
    """Revisions beyond the newest `kept` that no open job runs."""
    namespace, name = key
    beyond = sorted(definition.revisions, reverse=True)[kept:]
    return [
        DeleteRevision(namespace, name, number)
        for number in sorted(beyond)
        if not memo.revision_users.get((namespace, name, number))
    ]


def _queue(queue: Queue, snapshot: Snapshot, memo: Memo) -> WriteStatus:
    _note_environments(queue, memo)
    totals: Mapping[JobState, int] = memo.queue_totals.get(queue.name, {})
    front, updated_at = front_of(queue, memo)
    named = {one.share_identifier for one in queue.spec.budgets if one.share_identifier}
    memo.ledger.sum_up(queue.name, named)
    cost = memo.ledger.queue_cost(queue.name)
    status = JobQueueStatus(
        observed_generation=queue.generation,
        jobs={state: totals[state] for state in OPEN_STATES if totals.get(state)},
        shares=_shares(queue, snapshot, memo),
        front=list(front),
        front_updated_at=updated_at,
        cost=cost,
        budgets=budgets.rows_of(queue, memo, cost),
        conditions=[
            *conditions_of(
                _queue_problem(queue, snapshot, memo),
                f"{queue.spec.state}, {len(offer_of(snapshot, memo, queue).environments)} "
                f"compute environments take work",
                queue.status.conditions,
                queue.generation,
                snapshot.now,
            ),
            *dated(
                budgets.spent_budgets(queue, memo),
                queue.status.conditions,
                queue.generation,
                snapshot.now,
            ),
        ],
    )
    return write_status(
        "JobQueue", queue, status, urgency_of(queue.status.conditions, status.conditions)
    )


def _note_environments(queue: Queue, memo: Memo) -> None:
    """Have the environments that a queue names, or names no more, tell of it."""
    order = () if queue.deleting else queue.spec.compute_environment_order
    named = frozenset(one.compute_environment for one in order)
    touched = memo.nodes.note_order(queue.name, named)
    memo.touched_environments |= dict.fromkeys(sorted(touched))


def _shares(queue: Queue, snapshot: Snapshot, memo: Memo) -> list[ShareStatus]:
    """A row per share that is active, or whose deleted jobs still count."""
    book = memo.books.get(queue.name)
    if book is None:
        return list(queue.status.shares)
    now, policy = snapshot.now, offer_of(snapshot, memo, queue).policy
    book.prune(now)
    factors = book.weights(policy or FairsharePolicy(), book.active(now))
    before = {row.share_identifier: row for row in queue.status.shares}
    rows: list[ShareStatus] = []
    for share in sorted(_largest({*factors, *book.deleted}, book, now)):
        deleted = book.deleted.get(share)
        row = ShareStatus(
            share_identifier=share,
            weight_factor=factors.get(share, 1.0),
            vcpus=vcpus(book.held[share]),
            deleted_jobs_usage=usage_to(deleted) if deleted else None,
        )
        known = before.get(share)
        if known is None or known.model_copy(update={"usage": None}) != row:
            at = now.replace(microsecond=0)
            usage = usage_to(Usage(book.usage(share, at), at))
            row = row.model_copy(update={"usage": usage})
        else:
            row = known
        rows.append(row)
    return rows


def _largest(shares: Collection[str], book: ShareBook, now: datetime) -> Collection[str]:
    """Of more shares than a status holds those whose deleted jobs have used most.

    Nothing else knows of that use after a restart. Then come those that hold most.
    """
    if len(shares) <= SHARES_MAX and sum(map(share_bytes, shares)) <= SHARES_BYTES_MAX:
        return shares

    def order(share: str) -> tuple[float, int, str]:
        return -book.usage_of_deleted(share, now), -book.held[share], share

    return fitting(heapq.nsmallest(SHARES_MAX, shares, key=order), share_bytes, SHARES_BYTES_MAX)


def _queue_problem(queue: Queue, snapshot: Snapshot, memo: Memo) -> str | None:
    if problem := missing_policy(queue, snapshot.policies):
        return problem
    named = [one.compute_environment for one in queue.spec.compute_environment_order]
    missing = [name for name in named if name not in snapshot.environments]
    if missing:
        return (
            f"there is no ComputeEnvironment {listed(missing)}: apply it, or name others in "
            f"spec.computeEnvironmentOrder"
        )
    if not offer_of(snapshot, memo, queue).environments:
        return "none of its compute environments takes work: see their conditions and state"
    return unknown_reason(queue.spec.job_state_time_limit_actions)
