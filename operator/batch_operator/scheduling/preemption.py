"""Which attempts make room for a job that may take capacity back.

Opt-in, by `spec.preemption` of the queue whose job is blocked. Room is made by attempts of queues
with a lower priority, and in a queue with fair share by those of shares that hold more than their
part: only so much is taken from a share that it does not stand before the one that asks. Those go
first whose stop loses least: vCPUs times the time that they have run.

A victim is requeued in front of its queue, and it costs it no try.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_operator.lifecycle.attempt import PREEMPTED, Phase
from batch_operator.lifecycle.children import REQUEUES_MAX
from batch_operator.scheduling.environments import capacity_milli
from batch_operator.scheduling.mutations import StopPod

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.dispatch import Blocked
    from batch_operator.scheduling.snapshot import Environment


@dataclass(frozen=True, slots=True)
class Source:
    """Whom capacity may be taken from together, and how much of it, in milli-CPU."""

    name: str
    limit: int


@dataclass(frozen=True, slots=True)
class Victim:
    """An attempt that could make room. `lost` is its work so far, in milli-vCPU-seconds."""

    attempt: PodAttempt
    source: Source
    milli_cpu: int
    lost: float


@dataclass(frozen=True, slots=True)
class Preemption:
    """What is stopped, and the environment that is to be kept free for who asks."""

    environment: Environment
    stops: tuple[StopPod, ...] = ()


def preempt(
    blocked: Blocked,
    name: str,
    looks: Iterable[Evaluation],
    source_of: Callable[[Evaluation], Source | None],
    min_run_s: float,
    now: datetime,
) -> Preemption | None:
    """Make room for a job, where that loses least; None where it cannot be made.

    Args:
        blocked: the job that asks, with what was free when it was tried.
        name: its name, for those who make room.
        looks: the jobs that are not over.
        source_of: whether, and in what company, a job has to make room.
        min_run_s: attempts that have run for less are spared.
        now: the time of this cycle.
    """
    if any(free < quantity for (_, free), (_, quantity) in _pairs(blocked)):
        return None  # no vCPU helps a job that waits for a licence
    live = [look for look in looks if look.children.live]
    freed = _freed_soon(live)
    best: tuple[float, Environment, list[Victim]] | None = None
    victims: Mapping[str, list[Victim]] | None = None
    for environment, free in blocked.free:
        each = blocked.ask.milli_in(environment)
        if each > capacity_milli(environment):
            continue
        missing = each - free - freed[environment.name]
        if missing <= 0:
            return Preemption(environment)
        if victims is None:
            victims = _victims(live, source_of, min_run_s, now)
        those = _fewest(victims.get(environment.name, ()), missing)
        lost = sum(one.lost for one in those)
        if those and (best is None or lost < best[0]):
            best = (lost, environment, those)
    if best is None:
        return None
    mark = f"{PREEMPTED}: made room for job {name}"
    return Preemption(best[1], tuple(StopPod(one.attempt, mark) for one in best[2]))


def _pairs(blocked: Blocked) -> Iterable[tuple[tuple[str, int], tuple[str, int]]]:
    return zip(blocked.units, blocked.ask.units, strict=True)


def _freed_soon(looks: Iterable[Evaluation]) -> Counter[str]:
    """Milli-CPU by environment of attempts that are being stopped."""
    found: Counter[str] = Counter()
    for look in looks:
        for one in look.children.live:
            if one.requeued or one.stopping or one.deleting:
                found[one.environment] += _held(one, look)
    return found


def _victims(
    looks: Iterable[Evaluation],
    source_of: Callable[[Evaluation], Source | None],
    min_run_s: float,
    now: datetime,
) -> Mapping[str, list[Victim]]:
    """By environment: attempts that may be stopped, those that lose least first."""
    found: dict[str, list[Victim]] = {}
    for look in looks:
        source = source_of(look)
        for one in look.children.live if source is not None else ():
            assert source is not None  # or there would be none
            ran_s = (now - one.started_at).total_seconds() if one.started_at else 0.0
            if _can_be_stopped(one, look) and (one.started_at is None or ran_s >= min_run_s):
                held = _held(one, look)
                victim = Victim(one, source, held, held * ran_s)
                found.setdefault(one.environment, []).append(victim)
    for those in found.values():
        those.sort(key=lambda one: (one.lost, one.milli_cpu, one.attempt.pod_uid))
    return found


def _can_be_stopped(one: PodAttempt, look: Evaluation) -> bool:
    """Not what is being stopped already, nor a gang that is still being put together."""
    if one.stopping or one.deleting or one.requeued or one.is_on_its_way:
        return False
    if one.node_group is not None and (one.is_job or one.phase < Phase.STARTING):
        return False
    return look.children.counted.times_requeued(one.index) < REQUEUES_MAX


def _held(one: PodAttempt, look: Evaluation) -> int:
    """What the attempt holds: the main node of a gang stands for all of it."""
    return sum(look.usage.values()) if one.node_group is not None else one.milli_cpu


def _fewest(victims: Sequence[Victim], missing: int) -> list[Victim]:
    """Those that lose least until it is enough, without those that turn out not to be needed."""
    taken: list[Victim] = []
    taken_from: Counter[str] = Counter()
    for one in victims:
        if missing <= 0:
            break
        if taken_from[one.source.name] + one.milli_cpu <= one.source.limit:
            taken.append(one)
            taken_from[one.source.name] += one.milli_cpu
            missing -= one.milli_cpu
    if missing > 0:
        return []
    for one in sorted(taken, key=lambda one: -one.lost):
        if missing + one.milli_cpu <= 0:
            taken.remove(one)
            missing += one.milli_cpu
    return taken
