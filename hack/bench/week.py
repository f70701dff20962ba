"""`make bench-week`: a virtual week of mixed load under spot interruptions, in the simulator.

Three queues share an environment of spot nodes with on-demand ones to fall back on: single jobs by
day, arrays by night, and jobs of many hours, which leave spot after two losses. Pools refuse
capacity now and then, for an hour all at once; then what is urgent goes to a second environment, of
dearer on-demand nodes. Every run has the same submissions and refusals. No container fails by
itself, so a job that does not succeed was lost; then, or when an invariant of the simulator was
broken, the exit code is 1.

Cost is that of nodes, from creation to removal: `idle` is the part that no attempt used, `wasted`
the part of attempts that lost their node. The lower bound is what a perfect packing would cost:
each job and child runs once, on its share of the cheapest node there is, which exists for just as
long. Every job asks for less memory to a vCPU than every node has, so vCPUs alone decide, and no
schedule on these nodes can be cheaper.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from random import Random  # noqa: TID251  # seeded: the same seed gives the same workload
from typing import TYPE_CHECKING, Any

from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import Scenario, ScenarioSpec, ScoringStrategy, manifest
from bench.manifests import ours

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_operator.simulator.report import Outcome

RATES = (0.0, 0.02, 0.1, 0.5)
"""Interruptions of a spot node in an hour. AWS's Spot Instance Advisor tells of months instead:
20 of 100 instances in a month are 0.0003 in an hour."""
HOUR_S, DAY_S = 3600.0, 86_400.0
OVER_S = 3 * DAY_S
"""What the last jobs may take after the last day."""
TYPES = (("small", 4, 0.20, 0.08), ("medium", 8, 0.38, 0.13), ("large", 16, 0.72, 0.24))
"""Name, vCPUs, and the price of an hour on demand and on spot."""
RESERVE = ("reserved", 16, 0.96, 0.96)
NODE_GIB, JOB_GIB = 4, 2
"""Memory to a vCPU."""
LOWEST_PRICE = min(spot / vcpus for _, vcpus, _, spot in TYPES)
"""Of a vCPU and hour."""
HEADINGS = (
    "interruptions per spot node and hour",
    "jobs",
    "lost",
    "attempts",
    "interrupted",
    "makespan",
    "p90 wait by day / night / long",
    "longest",
    "cost",
    "idle",
    "wasted",
    "/ on-demand only",
    "/ lower bound",
)
START_UP = {"mixed": "75s", "reserve": "60s"}


@dataclass(frozen=True, slots=True)
class Work:
    """One job of the week; `size` children, each of which takes `vcpus` for `runs_s`."""

    name: str
    queue: str
    at_s: float
    vcpus: int
    runs_s: float
    size: int = 1

    @property
    def vcpu_hours(self) -> float:
        return self.size * self.vcpus * self.runs_s / HOUR_S


@dataclass(frozen=True, slots=True)
class Week:
    """What happens whatever the rate: jobs in order of submission, and refused capacity."""

    works: Sequence[Work]
    refusals: Sequence[dict[str, Any]]

    @property
    def lower_bound(self) -> float:
        """What perfect packing costs; see the module."""
        return LOWEST_PRICE * sum(one.vcpu_hours for one in self.works)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of the week came to."""

    outcome: Outcome
    week: Week

    @property
    def lost(self) -> list[str]:
        """Jobs that were accepted and did not succeed."""
        ended = {one["final"].partition("/")[2]: one["state"] for one in self.outcome.finals}
        return [one.name for one in self.week.works if ended.get(one.name) != "SUCCEEDED"]

    @property
    def interrupted(self) -> int:
        """Attempts that lost their node: no other fails."""
        ends = (one for one in self.outcome.transitions if one.before in {"STARTING", "RUNNING"})
        return sum(one.after not in {"RUNNING", "SUCCEEDED"} for one in ends)

    @property
    def cost(self) -> float:
        return float(self.outcome.summary["cost"])

    def part(self, name: str) -> float:
        """Of the cost: `idle` or `wasted`."""
        environments = self.outcome.summary["bill"]["environments"].values()
        return float(sum(one[name] for one in environments)) / self.cost


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-week", description=__doc__)
    parser.add_argument(
        "--rate",
        type=float,
        action="append",
        help=f"interruptions per spot node and hour; can be repeated (default: {RATES})",
    )
    parser.add_argument("--days", type=int, default=7, help="of submissions (default: 7)")
    parser.add_argument("--seed", type=int, default=1, help="of the week (default: 1)")
    parser.add_argument(
        "--scoring",
        type=ScoringStrategy,
        choices=tuple(ScoringStrategy),
        default=ScoringStrategy.LEAST_ALLOCATED,
        help="of kube-scheduler's plugin NodeResourcesFit (default: LeastAllocated)",
    )
    arguments = parser.parse_args()
    week = drawn_week(arguments.days, arguments.seed)
    on_demand = run(week, None, arguments.scoring)
    print("| " + " | ".join(HEADINGS) + " |")
    print("| --- " + "| --: " * (len(HEADINGS) - 1) + "|")
    results = [on_demand]
    print(row("on-demand only", on_demand, on_demand), flush=True)
    for rate in arguments.rate or RATES:
        results.append(run(week, rate, arguments.scoring))
        print(row(f"{rate:g}", results[-1], on_demand), flush=True)
    broken = [str(one) for result in results for one in result.outcome.violations]
    lost = [name for result in results for name in result.lost]
    if broken or lost:
        sys.exit(f"error: {len(lost)} jobs lost {lost[:5]}; invariants: {broken[:5]}")


def row(title: str, result: Result, on_demand: Result) -> str:
    summary, cost = result.outcome.summary, result.cost
    waits = [summary["waiting"][queue] for queue in ("interactive", "nightly", "long")]
    cells = (
        title,
        len(result.outcome.finals),
        len(result.lost),
        summary["attempts"],
        result.interrupted,
        f"{summary['makespan'] / HOUR_S:.1f} h",
        *(" / ".join(f"{one[what]:.0f}" for one in waits) + " s" for what in ("p90", "max")),
        f"{cost:.2f}",
        f"{result.part('idle'):.0%}",
        f"{result.part('wasted'):.0%}",
        f"{cost / on_demand.cost:.0%}",
        f"{cost / result.week.lower_bound:.2f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def drawn_week(days: int, seed: int) -> Week:
    """Submissions and refusals of so many days, from a Monday on."""
    chance = Random(seed)  # noqa: S311  # no secret
    works = [work for day in range(days) for work in _day(day, chance)]
    return Week(
        sorted(works, key=lambda one: (one.at_s, one.name)),
        [refusal for day in range(days) for refusal in _refusals(day, chance)],
    )


def _day(day: int, chance: Random) -> Iterator[Work]:
    """From 8 to 18 o'clock one job in six minutes, a third of that at weekends."""
    between_s = 360.0 if day % 7 < 5 else 1080.0
    at_s, number = day * DAY_S + 8 * HOUR_S, 0
    while (at_s := at_s + chance.expovariate(1 / between_s)) < day * DAY_S + 18 * HOUR_S:
        runs_s = min(HOUR_S, 300 * chance.lognormvariate(0.0, 1.0))
        vcpus = chance.choice((1, 1, 2, 4))
        yield Work(f"day-{day}-{number:03}", "interactive", at_s, vcpus, runs_s)
        number += 1
    for number in range(2):
        at_s = day * DAY_S + (22 + chance.random()) * HOUR_S
        runs_s, size = chance.uniform(600.0, 2400.0), chance.randint(50, 100)
        yield Work(f"night-{day}-{number}", "nightly", at_s, 1 + number, runs_s, size)
    for number in range(4):
        at_s = day * DAY_S + chance.uniform(0.0, DAY_S)
        runs_s, vcpus = chance.uniform(2.0, 12.0) * HOUR_S, chance.choice((2, 4, 8))
        yield Work(f"long-{day}-{number}", "long", at_s, vcpus, runs_s)


def _refusals(day: int, chance: Random) -> Iterator[dict[str, Any]]:
    """Each day the best spot pool for a while; every second day spot; once a week all for an hour.

    The last happens at ten on Wednesdays, when people wait for their jobs.
    """
    noon_s = day * DAY_S + DAY_S / 2

    def refused(at_s: float, lasts_s: float, **pools: str) -> dict[str, Any]:
        what = {"computeEnvironment": "mixed", "for": f"{lasts_s:.3f}s", **pools}
        return {"at": f"{at_s:.3f}s", "refuseCapacity": what}

    at_s, lasts_s = noon_s + chance.uniform(-0.5, 0.4) * DAY_S, chance.uniform(1, 4) * HOUR_S
    yield refused(at_s, lasts_s, instanceType="large", capacityType="spot")
    if day % 2:
        at_s, lasts_s = noon_s + chance.uniform(-4, 8) * HOUR_S, chance.uniform(0.5, 2) * HOUR_S
        yield refused(at_s, lasts_s, capacityType="spot")
    if day % 7 == 2:
        yield refused(noon_s - 2 * HOUR_S, HOUR_S)


def run(
    week: Week,
    rate: float | None,
    scoring: ScoringStrategy = ScoringStrategy.LEAST_ALLOCATED,
) -> Result:
    """Play it with so many interruptions per spot node and hour; None: without spot."""
    last_s = max(work.at_s for work in week.works)
    return Result(simulate(_scenario(week, rate, scoring), until_s=last_s + OVER_S), week)


def _scenario(week: Week, rate: float | None, scoring: ScoringStrategy) -> Scenario:
    jobs = [ours("BatchJob", work.name, _job(work)) for work in week.works]
    submissions = [
        {"at": f"{work.at_s:.3f}s", "apply": job}
        for work, job in zip(week.works, jobs, strict=True)
    ]
    spec = {
        "behaviors": [{"job": work.name, "runtime": f"{work.runs_s:.3f}s"} for work in week.works],
        "pools": [
            {
                "computeEnvironment": name,
                "startUp": start_up,
                "interruptionsPerHour": rate or 0.0,
            }
            for name, start_up in START_UP.items()
        ],
        "events": [*submissions, *week.refusals],
        "scoringStrategy": scoring,
    }
    return Scenario(
        tuple(manifest(one, "week") for one in _manifests(has_spot=rate is not None)),
        ScenarioSpec.model_validate(spec),
        {number: manifest(job, "week") for number, job in enumerate(jobs)},
    )


def _job(work: Work) -> dict[str, Any]:
    asks = {"cpu": str(work.vcpus), "memory": f"{JOB_GIB * work.vcpus}Gi"}
    retry: dict[str, Any] = {"attempts": 10}
    if work.queue == "long":
        retry["onHostLost"] = {"moveToOnDemandAfter": 2}
    spec: dict[str, Any] = {
        "jobQueue": work.queue,
        "jobDefinition": "work",
        "containerOverrides": [{"resources": {"requests": asks}}],
        "retryStrategy": retry,
    }
    if work.size > 1:
        spec["arrayProperties"] = {"size": work.size}
    return spec


def _manifests(*, has_spot: bool) -> Iterator[dict[str, Any]]:
    kinds = ["spot", "on-demand"] if has_spot else ["on-demand"]
    yield _environment("mixed", 256, kinds, TYPES)
    yield _environment("reserve", 64, ["on-demand"], [RESERVE])
    for name, priority, patience_s in (
        ("interactive", 30, 300),
        ("nightly", 20, None),
        ("long", 10, None),
    ):
        order: list[dict[str, Any]] = [{"order": 1, "computeEnvironment": "mixed"}]
        if patience_s:
            order[0]["maxWaitSeconds"] = patience_s
            order.append({"order": 2, "computeEnvironment": "reserve"})
        spec = {"priority": priority, "computeEnvironmentOrder": order}
        yield ours("JobQueue", name, spec)
    container = {"name": "main", "image": "busybox:1"}
    template = {"spec": {"containers": [container]}}
    yield ours("JobDefinition", "work", {"podTemplate": template})


def _environment(
    name: str, max_vcpus: int, kinds: list[str], types: Sequence[tuple[str, int, float, float]]
) -> dict[str, Any]:
    spec = {
        "type": "MANAGED",
        "maxvCpus": max_vcpus,
        "capacityTypes": kinds,
        "instanceTypes": [
            {
                "name": one,
                "vcpus": vcpus,
                "memory": f"{NODE_GIB * vcpus}Gi",
                "pricePerHour": on_demand,
                "spotPricePerHour": spot,
            }
            for one, vcpus, on_demand, spot in types
        ],
        "provisioner": {"type": "kwok"},
    }
    return ours("ComputeEnvironment", name, spec)


if __name__ == "__main__":
    main()
