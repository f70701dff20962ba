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
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
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

OVERDUE = timedelta(minutes=1)
"""What is not gone by then after its grace period is on a node of which nobody hears."""


class Company(NamedTuple):
    """Attempts of which all have to make room or none: of one queue, or of one of its shares."""

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
    company: Company

    @property
    def order(self) -> tuple[bool, float, int, str]:
        return not self.company.is_unplaced, self.lost, self.milli_cpu, self.attempt.pod_uid


@dataclass(frozen=True, slots=True)
class Preemption:
    """What is stopped, and how much of an environment is to be kept free for who asks."""

    environment: Environment
    milli_cpu: int
    stops: tuple[StopPod, ...] = ()


class Victims:
    """The attempts of a cycle that could make room, gone through once for all who ask."""

    def __init__(
        self,
        looks: Iterable[Evaluation],
        unplaced: Mapping[str, Collection[str]],
        now: datetime,
        as_one: Collection[str] = (),
    ) -> None:
        """`unplaced` are, by job, the Pods that no node takes.

        `as_one` are queues whose shares make no room for one another, so that whoever asks need not
        ask share by share.
        """
        self._as_one = as_one
        self.freed: Counter[str] = Counter()
        """Milli-CPU by environment of attempts that are being stopped."""
        self.going: Counter[Company] = Counter()
        """The same by company."""
        self._promised: Counter[str] = Counter()
        """Milli-CPU by environment that is kept for those who have asked."""
        self._chosen: set[str] = set()
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
        spec = look.job.spec
        is_alike = is_unplaced or spec.job_queue in self._as_one
        share = None if is_alike else spec.share_identifier
        company = Company(spec.job_queue, share, is_unplaced)
        if one.requeued or one.stopping or one.deleting:
            if one.gone_by is None or now <= one.gone_by + OVERDUE:
                self.freed[one.environment] += held
                self.going[company] += held
        elif _can_be_stopped(one, look, is_unplaced=is_unplaced):
            ran_s = (now - one.started_at).total_seconds() if one.started_at else None
            victim = Victim(one, held, held * (ran_s or 0.0), ran_s, company)
            self._by_environment[one.environment].setdefault(company, []).append(victim)

    def free_soon(self, environment: str, free: int) -> int:
        """Milli-CPU that nobody else has asked for, with what is free now."""
        return max(0, free + self.freed[environment] - self._promised[environment])

    def promise(self, found: Preemption, those: Iterable[Victim]) -> None:
        """Whoever asks next finds what is to be ended going, and kept for somebody else."""
        self._promised[found.environment.name] += found.milli_cpu
        for one in those:
            self._chosen.add(one.attempt.pod_uid)
            self.freed[one.attempt.environment] += one.milli_cpu
            self.going[one.company] += one.milli_cpu

    def fewest(
        self,
        environment: str,
        source_of: Callable[[Company, str, int], Source | None],
        min_run_s: float,
        free: int,
        wanted: int,
    ) -> list[Victim]:
        """Those that lose least until enough is free, and none that turns out not to be needed.

        What is going already counts against what may be taken from its source.
        """
        sources = {
            company: source_of(company, environment, wanted)
            for company in (*self.going, *self._by_environment.get(environment, ()))
        }
        missing = wanted - free
        taken: list[Victim] = []
        taken_from: Counter[str] = Counter()
        for company, milli_cpu in self.going.items():
            if (source := sources[company]) is not None:
                taken_from[source.name] += milli_cpu
        for one, source in self._of(environment, sources, min_run_s):
            if missing <= 0:
                break
            if one.attempt.pod_uid in self._chosen:
                continue
            if taken_from[source.name] + one.milli_cpu <= source.limit:
                taken.append(one)
                taken_from[source.name] += one.milli_cpu
                missing -= one.milli_cpu
        if missing > 0:
            return []
        needed: list[Victim] = []
        for one in sorted(taken, key=lambda one: -one.lost):
            if missing + one.milli_cpu <= 0:
                missing += one.milli_cpu
            else:
                needed.append(one)
        return needed

    def _of(
        self,
        environment: str,
        sources: Mapping[Company, Source | None],
        min_run_s: float,
    ) -> Iterator[tuple[Victim, Source]]:
        """Those that may be stopped in an environment, those that lose least first."""
        lines = [
            _line(those, source, min_run_s)
            for company, those in self._by_environment.get(environment, {}).items()
            if (source := sources[company]) is not None
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
    source_of: Callable[[Company, str, int], Source | None],
    min_run_s: float,
) -> Preemption | None:
    """Make room for as many starts of a job as can be, where that loses least.

    Returns None where it cannot be made for one.

    Args:
        blocked: the job that asks, with what was free when it was tried.
        name: its name, for those who make room.
        victims: the attempts that could.
        source_of: whether, and in what company, attempts of an environment have to make room for so
            many milli-CPU.
        min_run_s: attempts that have run for less are spared.
    """
    affordable = (free // quantity for _, quantity, free in blocked.asked_units)
    wanted = min([blocked.wanted, *affordable])
    if wanted <= 0:
        return None  # no vCPU helps a job that waits for a licence
    best: tuple[int, float, Environment, list[Victim]] | None = None
    for environment, free in blocked.free:
        each = blocked.ask.milli_in(environment)
        most = min(wanted, capacity_milli(environment) // each)
        free_soon = victims.free_soon(environment.name, free)
        if free_soon >= most * each > 0:
            best = most, 0.0, environment, []
            break

        fewest = partial(victims.fewest, environment.name, source_of, min_run_s, free_soon)
        ready = free_soon // each
        more = _largest(range((ready + 1) * each, most * each + 1, each), fewest)
        those = fewest(more) if more else []
        count, lost = more // each or ready, sum(one.lost for one in those)
        if count and (best is None or (count, -lost) > (best[0], -best[1])):
            best = count, lost, environment, those
    if best is None:
        return None
    count, _, environment, those = best
    stops = tuple(
        StopPod(one.attempt, _mark(name, is_unplaced=one.company.is_unplaced)) for one in those
    )
    found = Preemption(environment, count * blocked.ask.milli_in(environment), stops)
    victims.promise(found, those)
    return found


def _mark(name: str, *, is_unplaced: bool) -> str:
    """Why an attempt is ended that makes room for the job of that name."""
    why = "no node took it, and it " if is_unplaced else ""
    return f"{PREEMPTED}: {why}made room for job {name}"


def _largest(sizes: range, fewest: Callable[[int], list[Victim]]) -> int:
    """The most milli-CPU of these for which enough can be stopped; 0 if it cannot for any."""
    possible = bisect_right(sizes, 0, key=lambda milli_cpu: not fewest(milli_cpu))
    return sizes[possible - 1] if possible else 0


def units_back(
    lacking: Counter[str],
    name: str,
    looks: Iterable[Evaluation],
    unplaced: Mapping[str, Collection[str]],
) -> tuple[StopPod, ...]:
    """Who gives units back to a job that waits for them, of those that no node takes.

    Args:
        lacking: what the job lacks, by resource of which units come back.
        name: the job's.
        looks: at jobs with such attempts.
        unplaced: the Pods, by job.
    """
    stops: list[StopPod] = []
    left = +lacking
    for look in looks:
        units = look.plan.units if look.plan is not None else ()
        for one in look.children.live:
            if one.pod_uid not in unplaced.get(one.job_uid, ()):
                continue
            gives = Counter({resource: units for resource, units in units if left[resource] > 0})
            if not gives:
                continue
            left -= gives
            if not (one.requeued or one.deleting) and _can_be_stopped(one, look, is_unplaced=True):
                stops.append(StopPod(one, _mark(name, is_unplaced=True)))
    return () if left else tuple(stops)


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
