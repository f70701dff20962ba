"""A cluster in a few dictionaries: enough to run the core against, step by step.

It stores objects, carries out mutations at once and in order, and lets a test move Pods along. What
it keeps is what the API server would keep, so dropping everything else is a restart.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from batch_operator.api.names import gang_job_name, pod_name
from batch_operator.cluster.applier import assumed
from batch_operator.cluster.cache import Cache
from batch_operator.lifecycle.array_parameters import Source
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import (
    CreateRevision,
    DeleteJob,
    DeletePod,
    DeleteRevision,
    Mutation,
    OpenGate,
    ReadConfigMap,
    ReleasePod,
    StartAttempt,
    StartGang,
    StopPod,
    WriteStatus,
)
from support.builders import START, definition, environment, queue

if TYPE_CHECKING:
    from batch_operator.lifecycle.array_parameters import Lines, SourceKey
    from batch_operator.scheduling.snapshot import Job, SharePolicy


class CrashError(Exception):
    """The operator has died, right before a write."""


class World:
    """Stored objects, and an operator (cache and memo) that can be thrown away."""

    def __init__(self, *, max_vcpus: int = 4) -> None:
        self.now: datetime = START
        self.jobs: dict[str, Job] = {}
        self.pods: dict[str, PodAttempt] = {}
        self.gang_jobs: dict[str, PodAttempt] = {}
        self.queues = [queue()]
        self.environments = [environment(maxvCpus=max_vcpus)]
        self.definitions = [definition()]
        self.policies: list[SharePolicy] = []
        self.written_kinds = {"BatchJob"}
        """Kinds whose statuses are stored."""
        self.starts: list[tuple[str, int, int]] = []
        self.started: list[StartAttempt] = []
        self.config_maps: dict[SourceKey, Lines] = {}
        self.reads: list[SourceKey] = []
        self.opened: list[tuple[int, int | None, dict[str, str]]] = []
        self.peak_milli = 0
        self.writes = 0
        self.crash_before: int | None = None
        self.goes_on = False
        """The last cycle asked for the next at once."""
        self.wake_at: datetime | None = None
        """When to go on even if nothing happens, by the last cycle."""
        self._version = 100
        self.restart()

    def restart(self) -> None:
        """A new operator that has listed everything and remembers nothing."""
        self.cache, self.memo = Cache(), Memo()
        self.cache.jobs.replace(list(self.jobs.values()), self._version)
        self.cache.pods.replace([one for one in self.pods.values() if one.tracked], self._version)
        self.cache.gang_jobs.replace(list(self.gang_jobs.values()), self._version)
        self.cache.queues.replace(self.queues, self._version)
        self.cache.environments.replace(self.environments, self._version)
        self.cache.policies.replace(self.policies, self._version)
        for one in self.definitions:
            assert one.object is not None
            self.cache.definitions.upsert(one.object)
            self.cache._definitions[one.object.key] = one

    def submit(self, job: Job) -> None:
        self._version += 1
        stored = replace(job, resource_version=self._version)
        self.jobs[job.uid] = stored
        self.cache.jobs.upsert(stored)

    def cycle(self) -> tuple[Mutation, ...]:
        """One cycle, carried out completely (or up to the crash)."""
        result = run_cycle(self.cache.snapshot(self.now, Policy(), 1000), self.memo)
        assert not result.faults, result.faults
        self.goes_on = result.wake_at is not None and result.wake_at <= self.now
        self.wake_at = result.wake_at
        self.carry_out(*result.mutations)
        return result.mutations

    def carry_out(self, *mutations: Mutation) -> None:
        """Write what was decided, but for statuses of kinds that do not matter here."""
        for mutation in mutations:
            if not isinstance(mutation, WriteStatus) or (
                mutation.status is not None and mutation.kind in self.written_kinds
            ):
                self._write(mutation)

    def settle(self) -> None:
        """Cycles until one has nothing to write, and asks for no other at once."""
        for _ in range(1000):
            before = self.writes
            self.cycle()
            if self.writes == before and not self.goes_on:
                return
        raise AssertionError("the operator never comes to rest")

    def move(self, pod: PodAttempt, phase: Phase, **fields: Any) -> None:
        """Let a Pod reach a phase."""
        self._version += 1
        if phase >= Phase.RUNNING:
            fields.setdefault("started_at", pod.started_at or self.now)
        if phase.ended:
            fields.setdefault("stopped_at", self.now)
            fields.setdefault("exit_code", 0 if phase is Phase.SUCCEEDED else 1)
            fields.setdefault("status_reason", "Essential container in task exited")
        moved = replace(pod, phase=phase, resource_version=self._version, **fields)
        self.pods[pod.pod_name] = moved
        self.cache.pods.upsert(moved)

    def make_nodes(self) -> None:
        """Play the Job controller: every Job makes the Pods that it has not made, gated."""
        for made_by in self.gang_jobs.values():
            for member in range(made_by.members if made_by.phase is Phase.ASSUMED else 0):
                name = f"{made_by.pod_name}-{member}-xyz"
                if name in self.pods:
                    continue
                self._version += 1
                pod = replace(
                    made_by,
                    pod_name=name,
                    pod_uid=f"pod-{name}",
                    resource_version=self._version,
                    milli_cpu=made_by.milli_cpu // made_by.members,
                    phase=Phase.UNBOUND,
                    member=member,
                    members=0,
                    gated=True,
                )
                self.pods[name] = pod
                self.cache.pods.upsert(pod)

    def live(self) -> list[PodAttempt]:
        return [one for one in self.pods.values() if not one.phase.ended]

    def tick(self, seconds: float = 1) -> None:
        self.now += timedelta(seconds=seconds)

    def state(self, name: str) -> str:
        return next(one.status.state for one in self.jobs.values() if one.name == name)

    def _write(self, mutation: Mutation) -> None:
        for group in mutation.groups if isinstance(mutation, StartGang) else ():
            self._count_write()
            self._start_group(mutation.start, group)
        if isinstance(mutation, StartGang):
            return
        self._count_write()
        if isinstance(mutation, OpenGate | ReleasePod | StopPod | DeletePod):
            self._change_pod(mutation)
            return
        match mutation:
            case StartAttempt():
                self._start(mutation)
            case WriteStatus(kind="JobQueue"):
                self._write_queue(mutation)
            case WriteStatus():
                job = self.jobs[mutation.uid]
                stored: Any = replace(job, status=mutation.status, resource_version=self._version)
                self.jobs[mutation.uid] = stored
                self.cache.jobs.upsert(stored)
            case ReadConfigMap(source=source):
                self.reads.append(source)
                self.cache.keep_source(source, self._read(source))
            case DeleteJob(uid=uid):
                self.cache.jobs.remove(self.jobs.pop(uid))
            case CreateRevision() | DeleteRevision():
                raise AssertionError("definitions of this world are recorded already")

    def _read(self, source: SourceKey) -> Source:
        """The lines of a ConfigMap, or that there is none; it may be asked for again in 5 s."""
        lines = self.config_maps.get(source)
        problem = "" if lines is not None else f"there is no ConfigMap {source[1]}"
        again_at = self.now + timedelta(seconds=5)
        return Source(lines, again_at, problem, stalled=lines is None)

    def _write_queue(self, mutation: WriteStatus) -> None:
        for number, one in enumerate(self.queues):
            if one.uid == mutation.uid:
                stored: Any = replace(one, status=mutation.status, resource_version=self._version)
                self.queues[number] = stored
                self.cache.queues.upsert(stored)

    def _change_pod(self, mutation: OpenGate | ReleasePod | StopPod | DeletePod) -> None:
        match mutation:
            case ReleasePod(pod=pod) | StopPod(pod=pod) if pod.is_job:
                self._end_group(mutation)
            case OpenGate(pod=pod):
                assert self.pods[pod.pod_name].gated
                self.move(pod, Phase.UNBOUND, gated=False)
                self.opened.append((pod.number, pod.node_group, dict(mutation.annotations)))
            case ReleasePod(pod=pod):
                self.pods[pod.pod_name] = replace(self.pods[pod.pod_name], tracked=False)
                self.cache.pods.forget(pod.pod_uid)
            case DeletePod(pod=pod):
                self.move(pod, Phase.FAILED, deleting=True)
            case StopPod(pod=pod, requeue=mark) if mark and pod.node_name is None:
                self.move(pod, pod.phase, requeued=mark)
            case StopPod(pod=pod, requeue=mark):
                on_node = pod.node_name is not None
                how = {"deadline_exceeded": True} if on_node else {"deleting": True}
                mark = mark or pod.requeued
                self.move(pod, Phase.FAILED, exit_code=143, requeued=mark, **how)

    def _end_group(self, mutation: ReleasePod | StopPod) -> None:
        made_by = mutation.pod
        if isinstance(mutation, ReleasePod):
            del self.gang_jobs[made_by.pod_name]
            self.cache.gang_jobs.forget(made_by.pod_uid)
            return
        over = replace(
            made_by,
            phase=Phase.FAILED,
            deleting=True,
            stopped_at=self.now,
            requeued=mutation.requeue or made_by.requeued,
        )
        self.gang_jobs[made_by.pod_name] = replace(over, resource_version=self._version)
        self.cache.gang_jobs.upsert(self.gang_jobs[made_by.pod_name])

    def _count_write(self) -> None:
        if self.crash_before is not None and self.writes >= self.crash_before:
            raise CrashError
        self.writes += 1
        self._version += 1

    def _start_group(self, start: StartAttempt, group: int) -> None:
        job, nodes = start.job, start.plan.groups[group]
        name = gang_job_name(job.name, job.uid, start.number, group)
        assert name not in self.gang_jobs, f"{name} is made twice"
        if group == 0:
            self.starts.append((job.name, start.index, start.number))
        made = replace(
            assumed(start, name, milli_cpu=nodes.milli_cpu),
            pod_uid=f"job-{name}",
            resource_version=self._version,
            tracked=True,
            created_at=self.now,
            node_group=group,
            members=len(nodes.nodes),
        )
        self.gang_jobs[name] = made
        self.cache.gang_jobs.upsert(made)

    def _start(self, start: StartAttempt) -> None:
        index = None if start.array_size is None else start.index
        name = pod_name(start.job.name, start.job.uid, index, start.number)
        assert name not in self.pods, f"{name} runs twice"
        self.started.append(start)
        self.starts.append((start.job.name, start.index, start.number))
        pod = replace(
            assumed(start, name, milli_cpu=start.plan.milli_cpu),
            pod_uid=f"pod-{name}",
            resource_version=self._version,
            phase=Phase.UNBOUND,
            tracked=True,
            created_at=self.now,
        )
        self.pods[name] = pod
        self.cache.pods.upsert(pod)
        self.peak_milli = max(self.peak_milli, sum(one.milli_cpu for one in self.live()))
