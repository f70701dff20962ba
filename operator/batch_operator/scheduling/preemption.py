"""Which attempts make room for a job at the head of its queue.

For any job what no node takes makes room (`scheduling.unplaced`). The rest is opt-in, by
`spec.preemption` of the queue whose job is blocked: then room is made by attempts of queues with a
lower priority, and in a queue with fair share by those of shares that hold more than their part:
only so much is taken from a share that it does not stand before the one that asks. Those go first
whose stop loses least: vCPUs times the time that they have run.

A victim is requeued in front of its queue, and it costs it no try.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.children import REQUEUES_MAX
from batch_operator.lifecycle.outcomes import PREEMPTED
from batch_operator.scheduling.environments import capacity_milli
from batch_operator.scheduling.mutations import StopPod

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.dispatch import Blocked
    from batch_operator.scheduling.snapshot import Environment


class Company(NamedTuple):
    """Attempts of one queue and one share: whether they have to make room is the same for all."""

    queue: str
    share: str | None
    is_unplaced: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Whom capacity may be taken from together, and how much of it, in milli-CPU."""

    name: str
    limit: int


@dataclass(frozen=True, slots=True)
class Victim:
    """An attempt that could make room. `lost` is its work so far, in milli-vCPU-seconds."""

    attempt: PodAttempt
    milli_cpu: int
    lost: float
    ran_s: float | None
    is_unplaced: bool = False

    @property
    def order(self) -> tuple[bool, float, int, str]:
        return not self.is_unplaced, self.lost, self.milli_cpu, self.attempt.pod_uid

    def mark(self, name: str) -> str:
        """Why it is ended, where it makes room for the job of that name."""
        why = "no node took it, and it " if self.is_unplaced else ""
        return f"{PREEMPTED}: {why}made room for job {name}"


@dataclass(frozen=True, slots=True)
class Preemption:
    """What is stopped, and the environment that is to be kept free for who asks."""

    environment: Environment
    stops: tuple[StopPod, ...] = ()


class Victims:
    """The attempts of a cycle that could make room, gone through once for all who ask."""

    def __init__(
        self, looks: Iterable[Evaluation], unplaced: Mapping[str, Collection[str]], now: datetime
    ) -> None:
        """`unplaced` are, by job, the Pods that no node takes."""
        self.freed: Counter[str] = Counter()
        """Milli-CPU by environment of attempts that are being stopped."""
        self._unplaced = unplaced
        self._by_environment: dict[str, dict[Company, list[Victim]]] = defaultdict(dict)
        for look in looks:
            for one in look.children.live:
                self._add(one, look, now)
        for companies in self._by_environment.values():
            for those in companies.values():
                those.sort(key=lambda one: one.order)

    def _add(self, one: PodAttempt, look: Evaluation, now: datetime) -> None:
        held = _held(one, look)
        is_unplaced = one.pod_uid in self._unplaced.get(one.job_uid, ())
        if one.requeued or one.stopping or one.deleting:
            self.freed[one.environment] += held
        elif _can_be_stopped(one, look, is_unplaced=is_unplaced):
            spec = look.job.spec
            company = Company(spec.job_queue, spec.share_identifier, is_unplaced)
            ran_s = (now - one.started_at).total_seconds() if one.started_at else None
            victim = Victim(one, held, held * (ran_s or 0.0), ran_s, is_unplaced)
            self._by_environment[one.environment].setdefault(company, []).append(victim)

    def of(
        self,
        environment: str,
        source_of: Callable[[Company], Source | None],
        min_run_s: float,
    ) -> Iterator[tuple[Victim, Source]]:
        """Those that may be stopped in an environment, those that lose least first."""
        lines = [
            _line(those, source, min_run_s)
            for company, those in self._by_environment.get(environment, {}).items()
            if (source := source_of(company)) is not None
        ]
        yield from heapq.merge(*lines, key=lambda found: found[0].order)


def _line(
    victims: Iterable[Victim], source: Source, min_run_s: float
) -> Iterator[tuple[Victim, Source]]:
    for one in victims:
        if one.ran_s is None or one.ran_s >= min_run_s:
            yield one, source


def preempt(
    blocked: Blocked,
    name: str,
    victims: Victims,
    source_of: Callable[[Company], Source | None],
    min_run_s: float,
) -> Preemption | None:
    """Make room for a job, where that loses least; None where it cannot be made.

    Args:
        blocked: the job that asks, with what was free when it was tried.
        name: its name, for those who make room.
        victims: the attempts that could.
        source_of: whether, and in what company, a job has to make room.
        min_run_s: attempts that have run for less are spared.
    """
    if any(free < quantity for (_, free), (_, quantity) in _pairs(blocked)):
        return None  # no vCPU helps a job that waits for a licence
    best: tuple[float, Environment, list[Victim]] | None = None
    for environment, free in blocked.free:
        each = blocked.ask.milli_in(environment)
        if each > capacity_milli(environment):
            continue
        missing = each - free - victims.freed[environment.name]
        if missing <= 0:
            return Preemption(environment)
        those = _fewest(victims.of(environment.name, source_of, min_run_s), missing)
        lost = sum(one.lost for one in those)
        if those and (best is None or lost < best[0]):
            best = (lost, environment, those)
    if best is None:
        return None
    return Preemption(best[1], tuple(StopPod(one.attempt, one.mark(name)) for one in best[2]))


def _pairs(blocked: Blocked) -> Iterable[tuple[tuple[str, int], tuple[str, int]]]:
    return zip(blocked.units, blocked.ask.units, strict=True)


def _can_be_stopped(one: PodAttempt, look: Evaluation, *, is_unplaced: bool) -> bool:
    """Not what is only asked for, nor a gang that is still being put together."""
    if one.is_on_its_way:
        return False
    is_begun = one.phase >= Phase.STARTING and not one.is_job
    if one.node_group is not None and not (is_begun or is_unplaced):
        return False
    return look.children.counted.times_requeued(one.index) < REQUEUES_MAX


def _held(one: PodAttempt, look: Evaluation) -> int:
    """What the attempt holds: the main node of a gang stands for all of it."""
    return sum(look.usage.values()) if one.node_group is not None else one.milli_cpu


def _fewest(victims: Iterable[tuple[Victim, Source]], missing: int) -> list[Victim]:
    """Those that lose least until it is enough, without those that turn out not to be needed."""
    taken: list[Victim] = []
    taken_from: Counter[str] = Counter()
    for one, source in victims:
        if missing <= 0:
            break
        if taken_from[source.name] + one.milli_cpu <= source.limit:
            taken.append(one)
            taken_from[source.name] += one.milli_cpu
            missing -= one.milli_cpu
    if missing > 0:
        return []
    for one in sorted(taken, key=lambda one: -one.lost):
        if missing + one.milli_cpu <= 0:
            taken.remove(one)
            missing += one.milli_cpu
    return taken
