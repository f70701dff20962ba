"""Looks over a cycle's shoulder: did anybody start whom somebody else should have gone before?

It reckons from the snapshot and from what started, and knows nothing of how the order is made.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batch_operator.scheduling.environments import usable_environments
from batch_operator.scheduling.mutations import StartAttempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_operator.scheduling.cycle import CycleResult
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Queue, Snapshot


class Waiter(NamedTuple):
    """A job that could have started more; in the order of its line."""

    is_first_try: bool
    negated_priority: int
    created_at: float
    uid: str
    milli_cpu: int
    share: str


@dataclass(slots=True)
class Audit:
    """Counts over many cycles of queues without backfill, of jobs without consumables or gangs."""

    cycles: int = 0
    starts: int = 0
    queue_inversions: int = 0
    """Something was left waiting that fitted, or fitted but for starts of less urgent queues."""
    priority_inversions: int = 0
    """Within a share a lower schedulingPriority started before a higher one that fitted."""
    reservation_breaches: int = 0
    """Something started beyond what the active shares may use."""

    def see(self, snapshot: Snapshot, memo: Memo, result: CycleResult) -> None:
        """Look at a cycle that has just been decided."""
        starts = [one for one in result.mutations if isinstance(one, StartAttempt)]
        self.cycles += 1
        self.starts += len(starts)
        if len(starts) >= snapshot.start_budget or result.has_more:
            return  # it goes on in the next cycle
        used = _used(snapshot, starts)
        waiting = _waiting(memo, starts)
        for queue in snapshot.queues.values():
            environments = usable_environments(queue, snapshot.environments)
            limits = _limits(snapshot, memo, queue, environments)
            room = {name: limit - used[name] for name, limit in limits.items()}
            own = [one for one in starts if one.job.spec.job_queue == queue.name]
            without = _without_less_urgent(snapshot, queue, room, starts)
            self.reservation_breaches += any(without[one.environment] < 0 for one in own)
            lines = waiting.get(queue.name, {})
            self.queue_inversions += _all_fit(lines, without)
            self.priority_inversions += sum(
                _overtaken(waiter, own, room) for line in lines.values() for waiter in line
            )


def _used(snapshot: Snapshot, starts: Iterable[StartAttempt]) -> Counter[str]:
    used: Counter[str] = Counter()
    for attempts in snapshot.attempts.values():
        for one in attempts.values():
            used[one.environment] += 0 if one.phase.ended else one.milli_cpu
    for start in starts:
        used[start.environment] += start.plan.milli_cpu
    return used


def _waiting(memo: Memo, starts: Iterable[StartAttempt]) -> dict[str, dict[str, list[Waiter]]]:
    """Those who still wait after the cycle, by queue and share."""
    started: dict[str, set[int]] = defaultdict(set)
    for start in starts:
        started[start.job.uid].add(start.index)
    found: dict[str, dict[str, list[Waiter]]] = defaultdict(lambda: defaultdict(list))
    for uid, look in memo.looks.items():
        begun = started[uid]
        if look.plan is None or len(begun) >= look.start_limit:
            continue
        job, share = look.job, look.job.spec.share_identifier or ""
        for indexes, is_first_try in (
            (look.startable & look.children.retrying, False),
            (look.startable - look.children.retrying, True),
        ):
            if any(index not in begun for index in indexes):
                priority = look.plan.priority if share else 0
                since = job.created_at.timestamp()
                found[job.spec.job_queue][share].append(
                    Waiter(is_first_try, -priority, since, uid, look.plan.milli_cpu, share)
                )
    return found


def _limits(
    snapshot: Snapshot, memo: Memo, queue: Queue, environments: Sequence[Environment]
) -> dict[str, int]:
    """Milli-CPU that the queue may use, in whole numbers: (reservation/100) ^ shares is kept."""
    part, whole = 0, 1
    policy = snapshot.policies.get(queue.spec.scheduling_policy or "")
    if policy is not None and queue.name in memo.books:
        shares = max(1, len(memo.books[queue.name].active(snapshot.now)))
        reservation = policy.spec.fairshare_policy.compute_reservation
        part, whole = reservation**shares, 100**shares
    return {
        one.name: one.spec.max_vcpus * 1000 - one.spec.max_vcpus * 1000 * part // whole
        for one in environments
    }


def _without_less_urgent(
    snapshot: Snapshot, queue: Queue, room: dict[str, int], starts: Iterable[StartAttempt]
) -> dict[str, int]:
    """What there was room for when the queue had its turn."""
    turn = (-queue.spec.priority, queue.name)
    without = dict(room)
    for start in starts:
        other = snapshot.queues[start.job.spec.job_queue]
        if start.environment in without and (-other.spec.priority, other.name) > turn:
            without[start.environment] += start.plan.milli_cpu
    return without


def _all_fit(lines: dict[str, list[Waiter]], room: dict[str, int]) -> bool:
    """Whether all who are first in a line of the queue would have fitted."""
    heads = [min(line) for line in lines.values()]
    return bool(heads) and all(one.milli_cpu <= max(room.values(), default=0) for one in heads)


def _overtaken(waiter: Waiter, starts: Iterable[StartAttempt], room: dict[str, int]) -> bool:
    without, is_overtaken = dict(room), False
    for start in starts:
        is_lower = start.plan.priority < -waiter.negated_priority and start.number == 1
        if is_lower and start.job.spec.share_identifier == waiter.share and waiter.is_first_try:
            without[start.environment] += start.plan.milli_cpu
            is_overtaken = True
    return is_overtaken and waiter.milli_cpu <= max(without.values())
