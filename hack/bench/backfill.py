"""What backfill wins on a mixed workload: `PYTHONPATH=hack .venv/bin/python -m bench.backfill`.

The simulator plays the same jobs with and without it, by seed, and a table in Markdown is printed:
sizes of 1 to 32 vCPUs on 64, run times of a minute to some hours, and timeouts as users write them,
up to five times too long.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from random import Random  # noqa: TID251  # seeded: the same seed gives the same workload
from typing import TYPE_CHECKING, Any

from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import Scenario, ScenarioSpec, manifest
from bench.manifests import ours

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_VCPUS = 64
SIZES, WEIGHTS = (1, 2, 4, 8, 16, 32), (30, 20, 20, 15, 10, 5)
LARGE = 16
"""vCPUs from which a job counts as large: those that small ones could starve."""
RUN_MEDIAN_S, RUN_SPREAD, RUN_MAX_S = 600.0, 1.2, 4 * 3600.0
BETWEEN_S = 125.0
"""Mean time between two submissions: nine tenths of the work that there are vCPUs for."""
TIMEOUT_MIN_S = 60
CONTAINER = {"name": "main", "image": "busybox:1", "resources": {"requests": {"cpu": "1"}}}


@dataclass(frozen=True)
class Work:
    """One job of the workload."""

    at_s: float
    vcpus: int
    runs_s: float
    timeout_s: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.backfill", description=__doc__)
    parser.add_argument("--jobs", type=int, default=400, help="in each run (default: 400)")
    parser.add_argument("--seeds", type=int, default=3, help="workloads (default: 3)")
    arguments = parser.parse_args()
    print("| seed | queue | makespan | mean wait | of large jobs | utilisation |")
    print("| --: | --- | --: | --: | --: | --: |")
    for seed in range(1, arguments.seeds + 1):
        works = workload(arguments.jobs, Random(seed))  # noqa: S311  # no secret
        print(row(seed, "without backfill", works, backfill=False, every=1))
        print(row(seed, "backfill", works, backfill=True, every=1))
        print(row(seed, "backfill, half without timeout", works, backfill=True, every=2))


def workload(jobs: int, chance: Random) -> list[Work]:
    works, at_s = [], 0.0
    for _ in range(jobs):
        at_s += chance.expovariate(1 / BETWEEN_S)
        vcpus = chance.choices(SIZES, WEIGHTS)[0]
        runs_s = min(RUN_MAX_S, RUN_MEDIAN_S * chance.lognormvariate(0.0, RUN_SPREAD))
        timeout_s = max(TIMEOUT_MIN_S, round(runs_s * chance.uniform(1.1, 5.0)))
        works.append(Work(at_s, vcpus, runs_s, timeout_s))
    return works


def row(seed: int, title: str, works: Sequence[Work], *, backfill: bool, every: int) -> str:
    """One run as a row. Each `every`th job has a timeout."""
    outcome = simulate(scenario(works, backfill=backfill, every=every), until_s=7 * 86_400.0)
    assert not outcome.violations, outcome.violations[0]
    started = {one.job: one.at_s for one in outcome.transitions if one.after == "RUNNING"}
    waits = [(started[name(number)] - work.at_s, work) for number, work in enumerate(works)]
    large = [wait for wait, work in waits if work.vcpus >= LARGE]
    makespan = outcome.summary["makespan"]
    used = sum(work.vcpus * work.runs_s for work in works) / (MAX_VCPUS * makespan)
    return (
        f"| {seed} | {title} | {makespan / 3600:.1f} h | {mean(w for w, _ in waits) / 60:.0f} min "
        f"| {mean(large) / 60:.0f} min | {used:.0%} |"
    )


def mean(values: Any) -> float:
    those = list(values)
    return sum(those) / len(those) if those else 0.0


def name(number: int) -> str:
    return f"j{number:04}"


def scenario(works: Sequence[Work], *, backfill: bool, every: int) -> Scenario:
    order = [{"order": 1, "computeEnvironment": "local"}]
    events: list[dict[str, Any]] = []
    for number, work in enumerate(works):
        spec: dict[str, Any] = {
            "jobQueue": "main",
            "jobDefinition": "work",
            "containerOverrides": [{"resources": {"requests": {"cpu": str(work.vcpus)}}}],
        }
        if number % every == 0:
            spec["timeout"] = {"attemptDurationSeconds": work.timeout_s}
        events.append({"at": f"{work.at_s:.3f}s", "apply": ours("BatchJob", name(number), spec)})
    behaviors = [
        {"job": name(number), "runtime": f"{work.runs_s:.3f}s"} for number, work in enumerate(works)
    ]
    template = {"spec": {"containers": [CONTAINER]}}
    manifests = (
        ours("ComputeEnvironment", "local", {"type": "UNMANAGED", "maxvCpus": MAX_VCPUS}),
        ours(
            "JobQueue",
            "main",
            {"priority": 1, "backfill": backfill, "computeEnvironmentOrder": order},
        ),
        ours("JobDefinition", "work", {"podTemplate": template}),
    )
    return Scenario(
        tuple(manifest(one, "workload") for one in manifests),
        ScenarioSpec.model_validate({"behaviors": behaviors, "events": events}),
        {number: manifest(event["apply"], "workload") for number, event in enumerate(events)},
    )


if __name__ == "__main__":
    main()
