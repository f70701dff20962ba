"""Fairness in figures: who got how much of a simulated cluster, and who waited for how long.

`PYTHONPATH=tests .venv/bin/python -m support.fairness` prints the tables of docs/scheduling.md.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from random import Random  # noqa: TID251  # seeded: the same seed gives the same jobs
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from batch_operator.scheduling.cycle import run_cycle
from batch_operator.simulator import process
from support.audit import Audit
from support.play import Played, batch_job, play, written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batch_operator.scheduling.cycle import CycleResult
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Snapshot

FAIR = {"schedulingPolicy": "fair"}
WINDOW_S = 600


def policy(weights: Mapping[str, float] | None = None, **fields: int) -> dict[str, Any]:
    listed = [
        {"shareIdentifier": one, "weightFactor": weight} for one, weight in (weights or {}).items()
    ]
    fairshare = {"shareDistribution": listed, **fields}
    return written("SchedulingPolicy", "fair", {"fairsharePolicy": fairshare})


def share_job(share: str, vcpus: int = 1, size: int | None = None, **spec: Any) -> dict[str, Any]:
    """The spec of a job of a share."""
    overrides = [{"resources": {"requests": {"cpu": str(vcpus)}}}]
    array = {"arrayProperties": {"size": size}} if size else {}
    return {"shareIdentifier": share, "containerOverrides": overrides, **array, **spec}


@dataclass(frozen=True, slots=True)
class Use:
    """What one attempt held."""

    job: str
    since_s: float
    until_s: float
    vcpus: int

    def vcpu_seconds(self, since_s: float, until_s: float) -> float:
        """Of it, what falls into a time."""
        return self.vcpus * max(0.0, min(self.until_s, until_s) - max(self.since_s, since_s))


def uses(played: Played, vcpus: Mapping[str, int], runtimes_s: Mapping[str, float]) -> list[Use]:
    """Every attempt that ran, from its node's acceptance to the end of its containers."""
    begun: dict[tuple[str, int | None], float] = {}
    found = []
    for one in played.outcome.transitions:
        if one.after == "STARTING":
            begun[one.job, one.index] = one.at_s
        elif one.after == "RUNNING" and (one.job, one.index) in begun:
            since_s, until_s = begun[one.job, one.index], one.at_s + runtimes_s[one.job]
            found.append(Use(one.job, since_s, until_s, vcpus[one.job]))
    return found


def parts(found: Sequence[Use], since_s: float, until_s: float) -> dict[str, float]:
    """What part of all that was used in a time each job had."""
    totals: dict[str, float] = defaultdict(float)
    for one in found:
        totals[one.job] += one.vcpu_seconds(since_s, until_s)
    whole = sum(totals.values())
    return {job: total / whole for job, total in sorted(totals.items())}


# Shares converge to their weights


WEIGHTS = {"a": 1.0, "b": 1.0, "c": 0.5, "d": 2.0}
SIZES = {"a": 1, "b": 2, "c": 1, "d": 4}
RUNTIMES_S = {"a": 60, "b": 30, "c": 120, "d": 45}


def expected() -> dict[str, float]:
    whole = sum(1 / weight for weight in WEIGHTS.values())
    return {share: 1 / weight / whole for share, weight in WEIGHTS.items()}


MEASURED_S = WINDOW_S, 3 * WINDOW_S
ROOMY, TIGHT = 36, 18
"""vCPUs of which every share's part is whole jobs, and of which `d` gets half a job."""


def saturated(max_vcpus: int) -> Played:
    """Four shares that never run out of work, in jobs of different sizes and lengths."""
    return play(
        {one: share_job(one, SIZES[one], 2000) for one in WEIGHTS},
        queue=FAIR,
        others=[policy(WEIGHTS)],
        max_vcpus=max_vcpus,
        behaviors=[{"job": one, "runtime": f"{RUNTIMES_S[one]}s"} for one in WEIGHTS],
        until=f"{MEASURED_S[1]}s",
    )


# A newcomer


COMES_S, NEWCOMER_VCPUS = 1200, 12
NEWCOMER = dict.fromkeys(("old", "new"), 1), dict.fromkeys(("old", "new"), 60.0)
"""By job: vCPUs and seconds of each child."""


def newcomer() -> Played:
    """One share has had everything for two windows; then comes another of the same weight."""
    return play(
        {"old": share_job("old", size=2000)},
        queue=FAIR,
        others=[policy()],
        max_vcpus=NEWCOMER_VCPUS,
        behaviors=[{"job": "*", "runtime": "60s"}],
        events=[{"at": f"{COMES_S}s", "apply": batch_job("new", **share_job("new", size=2000))}],
        until=f"{COMES_S + WINDOW_S}s",
    )


def catches_up_after_s(found: Sequence[Use]) -> float:
    """How long it takes until the newcomer holds what is its part."""
    held = 0
    for at_s, change in sorted(
        (at_s, change)
        for one in found
        if one.job == "new"
        for at_s, change in ((one.since_s, one.vcpus), (one.until_s, -one.vcpus))
    ):
        held += change
        if held >= NEWCOMER_VCPUS / 2:
            return at_s - COMES_S
    return float("inf")


# A day of everything


CAPACITY, LARGEST, LONGEST_S, RESERVATION = 16, 4, 300, 25
OVERHEAD_S = 5
"""A start's pull (1 s), and what the operator may take to see an end and to start the next."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job of the mix."""

    name: str
    at_s: int
    vcpus: int
    runtime_s: int
    size: int
    spec: Mapping[str, Any]

    @property
    def work(self) -> int:
        return self.vcpus * self.size * (self.runtime_s + OVERHEAD_S)


def arrivals(seed: int, until_s: int = 86_400) -> list[Arrival]:
    """Jobs of six shares in two queues, single and arrays, of all priorities and sizes."""
    chance, found, at_s = Random(f"mix {seed}"), [], 0  # noqa: S311  # no secret depends on it
    while (at_s := at_s + int(chance.expovariate(1 / 400)) + 1) < until_s:
        vcpus, runtime_s = chance.choice((1, 1, 2, 4)), chance.randint(20, LONGEST_S)
        size = chance.choice((1, 1, 1, 3, 8, 20))
        spec: dict[str, Any] = {
            **share_job(chance.choice("abcdef"), vcpus, size if size > 1 else None),
            "schedulingPriority": chance.randint(0, 3),
            "jobQueue": chance.choice(("main", "main", "main", "urgent")),
        }
        found.append(Arrival(f"j{len(found)}", at_s, vcpus, runtime_s, size, spec))
    return found


def latest_starts(jobs: Sequence[Arrival]) -> dict[str, float]:
    """By job: when the last of it must have been given a node.

    Three quarters of 16 vCPUs can always be used. While anybody waits, whoever is first does not
    fit, so at least 12 - 4 + 1 = 9 vCPUs work. Such a time, begun at `s`, is over at the latest
    when that has done all that came since, and what may have run at `s`: 16 vCPUs, as long as
    anything runs.
    """
    working = int(CAPACITY * (1 - RESERVATION / 100)) - LARGEST + 1
    before = CAPACITY * (LONGEST_S + OVERHEAD_S)
    times = [one.at_s for one in jobs]
    total = [0, *accumulate(one.work for one in jobs)]
    latest: dict[str, float] = {}
    deadline = 0.0
    for first, one in enumerate(jobs):
        end_s = one.at_s + (before + one.work) / working
        while True:
            came = total[bisect_left(times, end_s)] - total[first]
            if (longer := one.at_s + (before + came) / working) <= end_s:
                break
            end_s = longer
        deadline = max(deadline, end_s)
        latest[one.name] = deadline
    return latest


@contextmanager
def audited() -> Iterator[Audit]:
    """Every cycle that an engine decides meanwhile is looked at."""
    audit = Audit()

    def decide(snapshot: Snapshot, memo: Memo) -> CycleResult:
        result = run_cycle(snapshot, memo)
        audit.see(snapshot, memo, result)
        return result

    with patch.object(process, "Engine", partial(process.Engine, decide=decide)):
        yield audit


@dataclass(frozen=True, slots=True)
class Day:
    """What became of a day."""

    jobs: Sequence[Arrival]
    audit: Audit
    waits_s: Mapping[str, float]
    """By job: how long its last start took."""
    bounds_s: Mapping[str, float]
    utilisation: float


def day(seed: int, until_s: int = 86_400) -> Day:
    """24 hours of a random mix."""
    jobs = arrivals(seed, until_s)
    order = [{"order": 1, "computeEnvironment": "local"}]
    urgent = {"priority": 9, "computeEnvironmentOrder": order, **FAIR}
    with audited() as audit:
        played = play(
            {},
            queue=FAIR,
            others=[
                policy({"a": 0.5, "b": 3}, computeReservation=RESERVATION),
                written("JobQueue", "urgent", urgent),
            ],
            max_vcpus=CAPACITY,
            behaviors=[{"job": one.name, "runtime": f"{one.runtime_s}s"} for one in jobs],
            events=[
                {"at": f"{one.at_s}s", "apply": batch_job(one.name, **one.spec)} for one in jobs
            ],
            until=f"{until_s + 7200}s",
        )
    starts: dict[str, float] = {}
    count: dict[str, int] = defaultdict(int)
    for one in played.outcome.transitions:
        if one.after == "STARTING":
            starts[one.job] = one.at_s
            count[one.job] += 1
    latest = latest_starts(jobs)
    return Day(
        jobs,
        audit,
        {
            one.name: starts[one.name] - one.at_s if count[one.name] == one.size else float("inf")
            for one in jobs
        },
        {one.name: latest[one.name] - one.at_s for one in jobs},
        played.outcome.summary["utilisation"]["local"],
    )


def main() -> None:
    """Print what docs/scheduling.md says."""
    out = sys.stdout
    got = {
        max_vcpus: parts(uses(saturated(max_vcpus), SIZES, RUNTIMES_S), *MEASURED_S)
        for max_vcpus in (ROOMY, TIGHT)
    }
    out.write(f"| share | weight | vCPU | runs | expected | of {ROOMY} vCPUs | of {TIGHT} |\n")
    out.write("| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
    for share, part in expected().items():
        cells = [f"{one[share]:.1%} ({one[share] / part - 1:+.1%})" for one in got.values()]
        out.write(
            f"| {share} | {WEIGHTS[share]:g} | {SIZES[share]} | {RUNTIMES_S[share]} s "
            f"| {part:.1%} | {' | '.join(cells)} |\n"
        )
    found = uses(newcomer(), *NEWCOMER)
    window = parts(found, COMES_S, COMES_S + WINDOW_S)
    last = parts(found, COMES_S + WINDOW_S / 2, COMES_S + WINDOW_S)
    out.write(
        f"\nnewcomer: holds its half after {catches_up_after_s(found):.0f} s; of its first window "
        f"it has {window['new']:.1%}, of the second half of that {last['new']:.1%}\n"
    )
    one = day(1)
    name = max(one.waits_s, key=lambda name: one.waits_s[name] / one.bounds_s[name])
    out.write(
        f"\nday: {len(one.jobs)} jobs, {sum(job.size for job in one.jobs)} starts, utilisation "
        f"{one.utilisation:.0%}; {one.audit}\n"
        f"longest wait {max(one.waits_s.values()):.0f} s; bounds {min(one.bounds_s.values()):.0f} "
        f"to {max(one.bounds_s.values()):.0f} s; nearest to its bound: {one.waits_s[name]:.0f} of "
        f"{one.bounds_s[name]:.0f} s\n"
    )


if __name__ == "__main__":
    main()
