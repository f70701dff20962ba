"""`make bench-core`: what the scheduling core costs, without a cluster.

Each workload runs in a process of its own: a cache is filled with jobs as they are read from the
wire, and cycles are driven as the engine drives them. Between two cycles the writes that were
decided are carried out, Pods go one phase on, a tenth of those that run end, and a job that is over
makes room for a new one, so that as much waits at the end as at the beginning. Only the cycle
itself is timed, in CPU time of the process, with the garbage collector set as the operator sets it.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import os
import pstats
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_operator.api.job import BatchJobStatus
from batch_operator.api.names import pod_name
from batch_operator.cluster import decoding
from batch_operator.cluster.applier import assumed
from batch_operator.cluster.cache import Cache
from batch_operator.controllers.garbage import confine_collector, undisturbed
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.outcomes import EXITED
from batch_operator.lifecycle.states import FINAL
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import ReleasePod, StartAttempt, WriteStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_operator.scheduling.cycle import CycleResult
    from batch_operator.scheduling.mutations import Mutation
    from batch_operator.scheduling.snapshot import Snapshot

LIFE_CYCLES = 10
"""One in so many of the attempts that run ends in a cycle."""
FAILING = 50
"""One in so many attempts fails, and its child is tried again."""
JOB_STARTS, ARRAY_STARTS = 100, 500
"""Starts per cycle. The engine decides 500 at most; a job that is no array is looked at for each
step of its only attempt, so that 500 in every cycle would be more than `cycle.LOOKS_MAX` allows."""
CYCLES_MAX = 100_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Workload:
    """What waits, and how much starts in a cycle: as much as one can take in.

    `size`: children of each job, 0 for a job that is no array. `classes`: different requests.
    """

    name: str
    queues: int
    jobs: int
    size: int = 0
    classes: int = 10

    @property
    def starts(self) -> int:
        return ARRAY_STARTS if self.size else JOB_STARTS

    @property
    def waiting(self) -> int:
        return self.queues * self.jobs * max(1, self.size)


WORKLOADS = (
    *(Workload(f"100 queues of {jobs:,} jobs, 10 classes", 100, jobs) for jobs in (10, 100, 1000)),
    Workload("100 queues of 1,000 jobs, 1,000 classes", 100, 1000, classes=1000),
    *(Workload(f"1,000 queues of {jobs} jobs", 1000, jobs) for jobs in (10, 100)),
    *(Workload(f"100 arrays of {size:,}", 100, 1, size=size) for size in (100, 1000, 10_000)),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one workload; times are CPU seconds."""

    name: str
    waiting: int
    cycles_s: Sequence[float]
    starts: int
    survey_s: float
    survey_cycles: int
    resident: int
    """Bytes that the process grew by while it was filled and surveyed."""
    peak: int

    def milliseconds(self, percent: int) -> str:
        """What so many percent of the cycles did not exceed."""
        ordered = sorted(self.cycles_s)
        return f"{ordered[-(-len(ordered) * percent // 100) - 1] * 1000:.0f}"

    @property
    def starts_per_s(self) -> float:
        return self.starts / sum(self.cycles_s)


class Driver:
    """Jobs and Pods in a cache, and the operator's memo."""

    def __init__(self, workload: Workload, shares: int) -> None:
        self.workload = workload
        self.cache, self.memo = Cache(), Memo()
        self._decide = undisturbed(run_cycle)
        self.starts = 0
        self.cycles_s: list[float] = []
        self.profile: cProfile.Profile | None = None
        self._budget, self._shares = workload.starts, shares
        self._now, self._version, self._number = BEGIN, count(1), count()
        self._decode = decoding.job_decoder()
        self._fresh: list[PodAttempt] = []
        self._starting: list[PodAttempt] = []
        self._running: list[PodAttempt] = []
        self._final: list[str] = []
        self._ended = 0
        self._administer()
        for queue in range(workload.queues):
            for _ in range(workload.jobs):
                self._submit(queue)

    def cycle(self) -> CycleResult:
        """A cycle, timed, and what comes of it."""
        self._now += timedelta(seconds=1)
        snapshot = self.cache.snapshot(self._now, Policy(), self._budget)
        if self.profile:
            self.profile.enable()
        begun = time.process_time()
        result = self._decide(snapshot, self.memo)
        self.cycles_s.append(time.process_time() - begun)
        if self.profile:
            self.profile.disable()
        assert not result.faults, result.faults
        self._carry_out(result.mutations)
        self._replace_final(snapshot)
        return result

    def survey(self) -> tuple[float, int]:
        """Cycles until every job has been looked at once: CPU seconds, and how many cycles."""
        begun = len(self.cycles_s)
        for _ in range(CYCLES_MAX):
            if not self.cycle().has_more:
                break
        return sum(self.cycles_s[begun:]), len(self.cycles_s) - begun

    def steady(self, cycles: int) -> None:
        """Cycles in each of which attempts end and others start."""
        for _ in range(cycles):
            self.cycle()
            self._move_pods()

    def _object(self, name: str, spec: dict[str, Any], **metadata: Any) -> bytes:
        version = next(self._version)
        wire = {
            "metadata": {
                "name": name,
                "uid": f"{version:08x}-0000-4000-8000-000000000000",
                "resourceVersion": str(version),
                "generation": 1,
                "creationTimestamp": self._now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                **metadata,
            },
            "spec": spec,
        }
        return json.dumps(wire).encode()

    def _administer(self) -> None:
        """The definition, and for each queue an environment of its own, so that all have work."""
        container = {
            "name": "main",
            "image": "registry.example/work:1",
            "command": ["work", "Ref::input"],
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        }
        wire = {
            "podTemplate": {"spec": {"containers": [container]}},
            "parameters": {"input": "none"},
            "retryStrategy": {"attempts": 3},
        }
        definition = decoding.definition_decoder()(self._object("work", wire, namespace="tenant"))
        self.cache.definitions.upsert(definition)
        self.cache.revisions.upsert(
            decoding.Revision("revision", next(self._version), "tenant", "work", 1, definition.spec)
        )
        queues, environments = decoding.queue_decoder(), decoding.environment_decoder()
        vcpus = max(2, self._budget * LIFE_CYCLES // self.workload.queues)
        for number in range(self.workload.queues):
            order = [{"order": 1, "computeEnvironment": f"e{number}"}]
            spec: dict[str, Any] = {"priority": number % 10 + 1, "computeEnvironmentOrder": order}
            if self._shares:
                spec["schedulingPolicy"] = "fair"
            self.cache.queues.upsert(queues(self._object(f"q{number}", spec)))
            spec = {"type": "UNMANAGED", "maxvCpus": vcpus}
            self.cache.environments.upsert(environments(self._object(f"e{number}", spec)))
        if self._shares:
            policies = decoding.policy_decoder()
            self.cache.policies.upsert(policies(self._object("fair", {})))

    def _submit(self, queue: int) -> None:
        number = next(self._number)
        milli_cpu = 500 + number * 7919 % self.workload.classes * 1000 // self.workload.classes
        spec: dict[str, Any] = {
            "jobQueue": f"q{queue}",
            "jobDefinition": "work",
            "parameters": {"input": f"s3://bucket/{number}"},
            "containerOverrides": [{"resources": {"requests": {"cpu": f"{milli_cpu}m"}}}],
        }
        if self.workload.size:
            spec["arrayProperties"] = {"size": self.workload.size}
        if self._shares:
            spec["shareIdentifier"] = f"share-{number % self._shares}"
        self.cache.jobs.upsert(
            self._decode(self._object(f"job-{number}", spec, namespace="tenant"))
        )

    def _carry_out(self, mutations: Iterable[Mutation]) -> None:
        tables: dict[str, Any] = {
            "BatchJob": self.cache.jobs,
            "JobDefinition": self.cache.definitions,
            "JobQueue": self.cache.queues,
            "ComputeEnvironment": self.cache.environments,
            "SchedulingPolicy": self.cache.policies,
        }
        for mutation in mutations:
            match mutation:
                case StartAttempt():
                    self._start(mutation)
                case ReleasePod(pod=pod):
                    self.cache.pods.forget(pod.pod_uid)
                    self.cache.pods.remove(pod)
                case WriteStatus(status=None):
                    pass
                case WriteStatus(kind=kind, uid=uid, status=status):
                    known = tables[kind].items[uid]
                    version = next(self._version)
                    tables[kind].upsert(replace(known, status=status, resource_version=version))
                    if isinstance(status, BatchJobStatus) and status.state in FINAL:
                        self._final.append(uid)
                case _:
                    raise AssertionError(f"nothing here calls for {mutation}")

    def _replace_final(self, snapshot: Snapshot) -> None:
        """Another job for each that is over and whose Pods have been let go."""
        over = [uid for uid in self._final if uid not in snapshot.attempts]
        self._final = [uid for uid in self._final if uid in snapshot.attempts]
        for uid in over:
            job = self.cache.jobs.items[uid]
            self.cache.jobs.remove(job)
            self._submit(int(job.spec.job_queue[1:]))

    def _start(self, start: StartAttempt) -> None:
        self.starts += 1
        job = start.job
        index = None if start.array_size is None else start.index
        name = pod_name(job.name, job.uid, index, start.number)
        pod = replace(
            assumed(start, name, milli_cpu=start.plan.milli_cpu),
            pod_uid=f"pod-{name}",
            resource_version=next(self._version),
            phase=Phase.UNBOUND,
            tracked=True,
        )
        self._fresh.append(pod)
        self.cache.pods.upsert(pod)

    def _move_pods(self) -> None:
        offset = len(self.cycles_s) % LIFE_CYCLES
        for pod in self._running[offset::LIFE_CYCLES]:
            self._ended += 1
            is_bad = self._ended % FAILING == 0
            phase = Phase.FAILED if is_bad else Phase.SUCCEEDED
            self._move(
                pod, phase, stopped_at=self._now, exit_code=int(is_bad), status_reason=EXITED
            )
        del self._running[offset::LIFE_CYCLES]
        self._running += [
            self._move(pod, Phase.RUNNING, started_at=self._now) for pod in self._starting
        ]
        self._starting = [
            self._move(pod, Phase.STARTING, node_name="node", bound_at=self._now)
            for pod in self._fresh
        ]
        self._fresh = []

    def _move(self, pod: PodAttempt, phase: Phase, **fields: Any) -> PodAttempt:
        moved = replace(pod, phase=phase, resource_version=next(self._version), **fields)
        self.cache.pods.upsert(moved)
        return moved


def measure(workload: Workload, cycles: int, shares: int, *, profile: bool) -> Figures:
    """Fill, survey, let it come to its steady state, and measure that."""
    confine_collector()
    before = _resident()
    driver = Driver(workload, shares)
    survey_s, survey_cycles = driver.survey()
    gc.collect()
    resident = _resident() - before
    driver.steady(3 * LIFE_CYCLES)
    driver.starts, driver.cycles_s = 0, []
    driver.profile = cProfile.Profile() if profile else None
    driver.steady(cycles)
    if driver.profile:
        pstats.Stats(driver.profile).sort_stats("tottime").print_stats(30)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Figures(
        workload.name,
        workload.waiting,
        driver.cycles_s,
        driver.starts,
        survey_s,
        survey_cycles,
        resident,
        peak,
    )


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _apart(workload: Workload, arguments: argparse.Namespace) -> Figures:
    """The figures of a workload, measured in a process of its own."""
    command = [sys.executable, "-m", "bench.core", "--only", workload.name]
    command += ["--cycles", str(arguments.cycles), "--shares", str(arguments.shares)]
    print(f"{workload.name} …", file=sys.stderr)
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return Figures(**json.loads(printed))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-core", description=__doc__)
    parser.add_argument("--cycles", type=int, default=200, help="that are timed (default: 200)")
    parser.add_argument(
        "--shares", type=int, default=0, help="share identifiers; 0: queues are first in, first out"
    )
    parser.add_argument("--only", help="one workload by name, as JSON")
    parser.add_argument("--profile", action="store_true", help="show where the time goes as well")
    arguments = parser.parse_args()
    if arguments.only:
        workload = next(one for one in WORKLOADS if one.name == arguments.only)
        found = measure(
            workload,
            arguments.cycles,
            arguments.shares,
            profile=arguments.profile,
        )
        print("" if arguments.profile else json.dumps(asdict(found)))
        return
    _print([_apart(one, arguments) for one in WORKLOADS])


def _print(rows: Sequence[Figures]) -> None:
    print("| workload | p50 ms | p99 ms | starts/s | survey s (cycles) | bytes each | peak MiB |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for row in rows:
        cells = (
            row.name,
            row.milliseconds(50),
            row.milliseconds(99),
            f"{row.starts_per_s:,.0f}",
            f"{row.survey_s:.1f} ({row.survey_cycles})",
            f"{row.resident / row.waiting:,.0f}",
            f"{row.peak / 2**20:,.0f}",
        )
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
