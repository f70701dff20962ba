"""Pods that wait where no more nodes can be had now: on to an environment where it is otherwise.

Dispatch passes over what has no room, but it places before it is known that a pool refuses. So an
attempt moves on whose plan has found no node for it because all pools that suit it are refused,
as if a time limit had ended it (ADR 14): it costs no try. One that waits for maxvCpus stays. One
for which nodes turn out to be too small goes back to its queue, wherever it can go from there.
What has no node in an environment that takes no work any more is not judged here: a look at its job
sends it back to its queue (`lifecycle.limits.leaves`).

A child goes through its environments once, as fast as they refuse. After that it moves only when
it has waited for `SECOND_ROUND`, and never more than ten times.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.children import REQUEUES_MAX
from batch_operator.lifecycle.outcomes import MOVED
from batch_operator.provisioning.packing import demand_of
from batch_operator.scheduling.environments import (
    capacity_milli,
    has_spot,
    is_planned,
    large_enough,
    rotated,
    takes_work,
    usable_environments,
)
from batch_operator.scheduling.mutations import StopPod
from batch_operator.scheduling.starts import needs_of_attempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.provisioning.packing import Demand
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Snapshot
    from batch_operator.scheduling.suitability import Needs

SECOND_ROUND = timedelta(minutes=5)


def fall_through(snapshot: Snapshot, memo: Memo) -> list[StopPod]:
    """The marks for attempts that move on; each is ended when its mark is seen."""
    short = {
        name: known.plan.refused
        for name, known in sorted(memo.nodes.capacities.items())
        if known.plan is not None and known.made_at == snapshot.now and known.plan.refused
    }
    if not short:
        return []
    waiting = _waiting(snapshot, short.keys())
    movers = _Movers(snapshot, memo)
    return [
        stop
        for name in short
        if takes_work(snapshot.environments[name])
        for demand in short[name]
        for stop in movers.of(demand, waiting[name, demand.kind])
    ]


def _is_open(environment: Environment, needs: Needs, snapshot: Snapshot, memo: Memo) -> bool:
    """Whether nodes for all of these Pods can be asked for now, as far as is known."""
    known = memo.nodes.capacities.get(environment.name)
    if known is None or not is_planned(environment):
        return True
    return all(
        any(
            not known.history(pool.key).is_refused(snapshot.now)
            for pool in memo.nodes.suits.holding(environment, one)
        )
        for one in needs
    )


def _waiting(
    snapshot: Snapshot, environments: AbstractSet[str]
) -> Mapping[tuple[str, Demand], list[PodAttempt]]:
    """Attempts that no node has, by environment and kind; of a gang its main node."""
    found: dict[tuple[str, Demand], list[PodAttempt]] = defaultdict(list)
    for attempts in snapshot.attempts.values():
        for one in attempts.values():
            if one.environment not in environments or one.phase is not Phase.UNBOUND:
                continue
            if one.is_job or one.gated:
                continue
            found[one.environment, demand_of(one)].append(one)
    return found


class _Movers:
    """Chooses who moves on, and keeps count of the room that they will take."""

    def __init__(self, snapshot: Snapshot, memo: Memo) -> None:
        self._snapshot = snapshot
        self._memo = memo
        self._used = Counter(memo.used_milli)

    def of(self, demand: Demand, waiting: Sequence[PodAttempt]) -> list[StopPod]:
        """So many as have no node to come, the newest first; all, where no node ever will."""
        if too_large := [one for one in waiting if not self._suits(one)]:
            return self._back_to_queue(too_large)
        newest = sorted(waiting, key=lambda one: (one.created_at, one.pod_uid), reverse=True)
        under_way = sum(bool(one.requeued or one.deleting) for one in newest)
        missing = (demand.count if demand.gang is None else 1) - under_way
        stops: list[StopPod] = []
        for one in newest:
            if len(stops) >= missing:
                break
            if one.unschedulable is None:
                continue  # the scheduler may still find it a place
            if (target := self._target(one)) is not None:
                look = self._memo.looks[one.job_uid]
                self._used[target.name] += _held(one, look)
                mark = f"{MOVED}: {one.environment} gets no more nodes for it now"
                stops.append(StopPod(one, mark))
        return stops

    def _suits(self, attempt: PodAttempt) -> bool:
        """Whether its environment has nodes for it, by what is known of them by now."""
        look = self._memo.looks.get(attempt.job_uid)
        environment = self._snapshot.environments[attempt.environment]
        needs = needs_of_attempt(attempt, look) if look is not None else ()
        return self._memo.nodes.suits(environment, needs)

    def _back_to_queue(self, too_large: Iterable[PodAttempt]) -> list[StopPod]:
        """Those that fitted by what their environment declares, and by its nodes do not.

        In their queue they say so, or go to another one; here they would hold vCPUs for nothing.
        """
        return [
            StopPod(one, f"{MOVED}: {one.environment} has no nodes that are large enough for it")
            for one in too_large
            if one.unschedulable is not None and self._may_move(one)
        ]

    def _may_move(self, attempt: PodAttempt) -> bool:
        counted = self._memo.looks[attempt.job_uid].children.counted
        is_ending = bool(attempt.requeued or attempt.deleting or attempt.stopping)
        return not is_ending and counted.times_requeued(attempt.index) < REQUEUES_MAX

    def _target(self, attempt: PodAttempt) -> Environment | None:
        """Where the next attempt would begin, if that is elsewhere and has nodes and room."""
        look = self._memo.looks.get(attempt.job_uid)
        if look is None or not self._may_move(attempt):
            return None
        queue = self._snapshot.queues.get(look.job.spec.job_queue)
        if queue is None or look.plan is None or attempt.created_at is None:
            return None
        needs = needs_of_attempt(attempt, look)
        held = _held(attempt, look)
        large = large_enough(usable_environments(queue, self._snapshot.environments), held)
        places = [
            one
            for one in large
            if self._memo.nodes.suits(one, needs) and (has_spot(one) or not attempt.spot)
        ]
        moves = sum(
            times for times, those in look.children.counted.moved.items() if attempt.index in those
        )
        is_second_round = moves >= len(places) - 1
        if is_second_round and self._snapshot.now < attempt.created_at + SECOND_ROUND:
            return None
        for one in rotated(places, moves + 1):
            if one.name == attempt.environment:
                if one.name in self._memo.nodes.ceilings:
                    continue  # dispatch passes over it
                return None
            has_room = capacity_milli(one) - self._used[one.name] >= held
            if has_room and _is_open(one, needs, self._snapshot, self._memo):
                return one
        return None


def _held(attempt: PodAttempt, look: Evaluation) -> int:
    """What the attempt will hold elsewhere: the main node of a gang stands for all of it."""
    if attempt.node_group is None or look.plan is None:
        return attempt.milli_cpu
    return look.plan.milli_cpu
