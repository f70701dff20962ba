"""The small world again, where writes take their time or get lost, and Pods take theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from batch_operator.api.job import BatchJobSpec, BatchJobStatus
from batch_operator.api.names import pod_name
from batch_operator.cluster.applier import assumed
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.outcomes import EXITED, FAILED_TO_START
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.mutations import (
    DeletePod,
    Mutation,
    ReleasePod,
    StartAttempt,
    StopPod,
    WriteStatus,
)
from support.reference import Outcome
from support.world import World

if TYPE_CHECKING:
    from batch_operator.scheduling.mutations import OpenGate

M = TypeVar("M")
HOST_LOST = "Host EC2 (instance node) terminated."


class SlowWorld(World):
    """What has been sent is `under_way` until it arrives; each write is there once."""

    def __init__(self, *, max_vcpus: int) -> None:
        super().__init__(max_vcpus=max_vcpus)
        self.under_way: dict[str, Mutation] = {}
        self.written: list[tuple[BatchJobStatus, BatchJobStatus]] = []
        """Every status of a job that was stored, with the one before."""

    def change(self, name: str, **fields: Any) -> BatchJobSpec:
        """Somebody edits a job's spec."""
        stored = self.jobs[f"uid-{name}"]
        spec = BatchJobSpec.model_validate({**stored.spec.to_wire(), **fields})
        self.submit(replace(stored, spec=spec, generation=stored.generation + 1))
        return spec

    def decide(self) -> list[Mutation]:
        """One cycle; what it wants that is not under way already."""
        result = run_cycle(self.cache.snapshot(self.now, Policy(), 1000), self.memo)
        assert not result.faults, result.faults
        return [
            one
            for one in result.mutations
            if _key(one) not in self.under_way
            and not (isinstance(one, WriteStatus) and (one.kind != "BatchJob" or not one.status))
        ]

    def send(self, mutation: Mutation) -> None:
        if isinstance(mutation, StartAttempt):
            self.cache.assume(_assumed(mutation))
        self.under_way[_key(mutation)] = mutation

    def end(self, mutation: Mutation, *, arrives: bool) -> bool:
        """What was sent arrives or is lost. Whether it counts.

        But for a status that is stored its job is looked at again, whatever has become of it.
        """
        del self.under_way[_key(mutation)]
        counts = arrives and self._is_accepted(mutation)
        if isinstance(mutation, WriteStatus) and counts:
            assert isinstance(mutation.status, BatchJobStatus)
            self.written.append((self.jobs[mutation.uid].status, mutation.status))
        if counts:
            self._write(mutation)
        uid = _job_uid(mutation)
        if isinstance(mutation, StartAttempt):
            self.cache.unassume(uid, _assumed(mutation).pod_name)
        if not (isinstance(mutation, WriteStatus) and counts):
            self.cache.touch(uid)
        return counts

    def sent(self, kind: type[M]) -> list[M]:
        return [one for one in self.under_way.values() if isinstance(one, kind)]

    def _is_accepted(self, mutation: Mutation) -> bool:
        """Whether what a write was decided on is still so, where that is a condition of it."""
        if isinstance(mutation, WriteStatus):
            return self.jobs[mutation.uid].resource_version == mutation.decided_on
        if isinstance(mutation, StopPod) and mutation.pod.node_name is None:
            stored = self.pods[mutation.pod.pod_name]
            if mutation.requeue:
                return not stored.phase.ended
            return stored.resource_version == mutation.pod.resource_version
        return True

    def _change_pod(self, mutation: OpenGate | ReleasePod | StopPod | DeletePod) -> None:
        pod = self.pods[mutation.pod.pod_name]
        if isinstance(mutation, StopPod) and mutation.requeue:
            self.move(pod, pod.phase, requeued=mutation.requeue)
        elif isinstance(mutation, StopPod) and pod.node_name is not None:
            if not pod.phase.ended:
                self.move(pod, pod.phase, stopping=True)
        elif isinstance(mutation, StopPod | DeletePod):
            self.delete(pod)
        else:
            super()._change_pod(mutation)

    def delete(self, pod: PodAttempt) -> Outcome | None:
        """A Pod on a node is asked to end; one on none is over at once."""
        if pod.node_name is not None or pod.phase.ended:
            self.move(pod, pod.phase, deleting=True)
            return None
        outcome = Outcome(None, FAILED_TO_START, "Pod was deleted before it started")
        self.over(pod, outcome, deleting=True)
        return outcome

    def over(self, pod: PodAttempt, outcome: Outcome, **fields: Any) -> None:
        self.move(
            self.pods[pod.pod_name],
            Phase.SUCCEEDED if outcome.exit_code == 0 else Phase.FAILED,
            started_at=pod.started_at,
            exit_code=outcome.exit_code,
            reason=outcome.reason,
            status_reason=outcome.status_reason,
            **fields,
        )

    def run_on(self, pod: PodAttempt, exit_code: int) -> Outcome | None:
        """A Pod goes one step on in its life; how it ended, when that was the last."""
        if pod.phase is Phase.UNBOUND:
            self.move(pod, Phase.STARTING, node_name="node", bound_at=self.now)
            return None
        is_killed = pod.stopping and exit_code != 0
        if pod.phase is Phase.STARTING and not (pod.deleting or is_killed):
            if not pod.start_error:
                self.move(pod, Phase.RUNNING)
            return None
        if pod.phase is Phase.STARTING:
            outcome = Outcome(None, FAILED_TO_START, is_stopped=is_killed)
        elif pod.deleting and not is_killed:
            outcome = Outcome(143, EXITED, "Pod was deleted")
        else:
            outcome = Outcome(143 if is_killed else exit_code, EXITED, is_stopped=is_killed)
        self.over(pod, outcome, deadline_exceeded=is_killed)
        return outcome


def _job_uid(mutation: Mutation) -> str:
    match mutation:
        case StartAttempt(job=job):
            return job.uid
        case WriteStatus(uid=uid):
            return uid
        case ReleasePod(pod=pod) | StopPod(pod=pod) | DeletePod(pod=pod):
            return pod.job_uid
        case _:
            raise AssertionError(f"nothing in this world calls for {mutation}")


def _key(mutation: Mutation) -> str:
    match mutation:
        case StartAttempt():
            return f"create {_assumed(mutation).pod_name}"
        case ReleasePod(pod=pod) | StopPod(pod=pod) | DeletePod(pod=pod):
            return f"{type(mutation).__name__} {pod.pod_uid}"
        case _:
            return f"{type(mutation).__name__} {getattr(mutation, 'uid', '')}"


def _assumed(start: StartAttempt) -> PodAttempt:
    """The create as it counts while it is on its way."""
    job, index = start.job, None if start.array_size is None else start.index
    name = pod_name(job.name, job.uid, index, start.number)
    return assumed(start, name, milli_cpu=start.plan.milli_cpu)
