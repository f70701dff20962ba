"""What one Pod tells about one attempt: its phase, its times, what it holds, why it waits."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import IntEnum, auto
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.amounts import Amounts, gpus_of
from batch_operator.api.compute_environment import LABEL_INSTANCE_TYPE, CapacityType
from batch_operator.api.index_set import MAX_INDEX
from batch_operator.api.names import gang_job_suffix, pod_suffix
from batch_operator.api.quantity import LARGEST, memory_bytes, milli_cpu, total_request
from batch_operator.lifecycle.outcomes import (
    CANNOT_CREATE,
    CANNOT_START,
    FAILED_TO_START,
    HOST_LOST,
    MOVED,
    OUT_OF_MEMORY,
    PREEMPTED,
    REASON_LENGTH_MAX,
    REJECTED,
    SUSPENDED,
    Outcome,
    disruption_of,
    outcome_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.objects import (
        ContainerStatus,
        Job,
        Metadata,
        Pod,
        PodSpec,
    )

# Reasons for which kubelet keeps a container waiting although it cannot start as it stands, and
# AWS's word for each. Those in _HOPELESS cannot be mended by waiting for a registry or a secret.
_START_ERRORS = {
    "CreateContainerConfigError": CANNOT_CREATE,
    "CreateContainerError": CANNOT_CREATE,
    "ErrImageNeverPull": "CannotPullContainerError",
    "ErrImagePull": "CannotPullContainerError",
    "ImageInspectError": "CannotPullContainerError",
    "ImagePullBackOff": "CannotPullContainerError",
    "InvalidImageName": "CannotPullContainerError",
    "RegistryUnavailable": "CannotPullContainerError",
    "RunContainerError": CANNOT_START,
}
_HOPELESS = frozenset({"ErrImageNeverPull", "InvalidImageName"})
# With these words kube-scheduler says of each of 3 nodes that a Pod would not fit if others were
# gone: `preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.`
_NOTHING_HELPS = re.compile(
    r"preemption: 0/(\d+) nodes are available: \1 Preemption is not helpful for scheduling"
)
STOP_DEADLINE_S = 1
"""A running Pod is stopped by this `activeDeadlineSeconds`: unlike a deletion it leaves the Pod and
its log to be read. The kubelet sends SIGTERM and, when the grace period is over, SIGKILL."""
LABEL_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
"""Kubernetes' own, on the Pods of an Indexed Job."""
REQUEUED_LENGTH_MAX = 1024
NODES_MAX, GROUPS_MAX = 1000, 100
NUMBER_MAX = 1000
"""The highest number of an attempt that a status can hold."""


class Phase(IntEnum):
    """How far an attempt has come. The order is the order of life; the last two are final."""

    ASSUMED = auto()  # the create is on its way: no Pod has been seen, capacity is taken
    UNBOUND = auto()  # the Pod waits for a node
    STARTING = auto()  # on a node: pulling images, init containers
    RUNNING = auto()
    SUCCEEDED = auto()
    FAILED = auto()

    @property
    def ended(self) -> bool:
        return self >= Phase.SUCCEEDED


@dataclass(frozen=True, slots=True)
class StartError:
    """Why a container on a node cannot start. `hopeless` when waiting longer cannot help.

    `is_slow`: it may pass by itself after minutes, as when a volume moves from another node.
    `since`: when it was its turn, if containers came before it; an init container may take hours.
    """

    reason: str
    message: str
    hopeless: bool
    is_slow: bool = False
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PodAttempt:
    """One attempt of one job or array child, as its Pod shows it (or as it was just asked for).

    `index` is 0 for a job that is no array. `number` counts from 1, as AWS_BATCH_JOB_ATTEMPT.
    `tracked` says that the Pod still carries our finalizer: its outcome has not been settled.
    """

    namespace: str
    pod_name: str
    pod_uid: str
    resource_version: int
    job_uid: str
    index: int
    number: int
    revision: int
    environment: str
    milli_cpu: int
    phase: Phase
    tracked: bool = False
    deleting: bool = False
    gone_by: datetime | None = None
    """When it is being deleted: the end of its grace period."""
    stopping: bool = False
    """We have asked its kubelet to end it."""
    deadline_exceeded: bool = False
    """Its kubelet ended it: because we asked, or by a deadline of the template's own."""
    retryable: bool = True
    """False once it has been judged cancelled, terminated or timed out: AWS never retries these."""
    node_name: str | None = None
    created_at: datetime | None = None
    bound_at: datetime | None = None
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    exit_code: int | None = None
    reason: str | None = None
    status_reason: str | None = None
    start_error: StartError | None = None
    is_set_up: bool = False
    """Its node has its volumes and its network ready for containers."""
    unschedulable: str | None = None
    unplaceable: bool = False
    """kube-scheduler has tried it, and says of every node that nothing which could end there would
    help: no node has what it asks for."""
    node_group: int | None = None
    """Of a multi-node job: which group of its nodes; 0 is the main node, alone in its group."""
    member: int = 0
    """Its place in its group."""
    members: int = 0
    """Not 0: this is no Pod, but the Job that makes so many; it stands in for those to come."""
    gated: bool = False
    """The operator keeps the Pod from being scheduled until it is its turn."""
    memory: int = 0
    """Bytes that it asks for; of a stand-in for Pods, those of each."""
    gpus: int = 0
    on_demand: bool = False
    """It goes to on-demand nodes only."""
    spot: bool = False
    """It goes to spot nodes only."""
    instance_type: str | None = None
    """It goes to nodes of this type only."""
    requeued: str | None = None
    """Why we end it, which becomes its statusReason. It costs no try, unless its host is lost."""
    pod_ip: str | None = None

    @property
    def amounts(self) -> Amounts:
        """What it asks of a node; of a stand-in for Pods, what each of them asks."""
        return Amounts(self.milli_cpu // max(1, self.members), self.memory, self.gpus)

    @property
    def is_job(self) -> bool:
        return self.members > 0

    @property
    def is_on_its_way(self) -> bool:
        """Only asked for: there is nothing yet that could be stopped."""
        return self.phase is Phase.ASSUMED and (self.node_group is None or not self.pod_uid)

    @property
    def uid(self) -> str:
        return self.pod_uid

    @property
    def ran_out_of_memory(self) -> bool:
        return (self.reason or "").startswith(OUT_OF_MEMORY)

    @property
    def lost_its_host(self) -> bool:
        return (self.status_reason or "").startswith(HOST_LOST)

    @property
    def was_preempted(self) -> bool:
        return (self.status_reason or "").startswith(PREEMPTED)

    @property
    def was_rejected(self) -> bool:
        return (self.reason or "").startswith(REJECTED)

    @property
    def was_moved(self) -> bool:
        return (self.status_reason or "").startswith(MOVED)

    @property
    def was_suspended(self) -> bool:
        return (self.status_reason or "").startswith(SUSPENDED)


def observed_attempt(pod: Pod) -> PodAttempt:
    """The attempt that a Pod with our labels stands for.

    Raises:
        KeyError, ValueError: the labels are not those that we write; the Pod is not ours to judge.
    """
    labels = pod.metadata.labels
    index = labels.get(meta.LABEL_ARRAY_INDEX)
    array_index = None if index is None else _number(index, 0, MAX_INDEX)
    number = _number(labels[meta.LABEL_ATTEMPT], 1, NUMBER_MAX)
    group, member = _place_in_gang(labels)
    job_uid = _owner(pod, array_index, number) if group is None else _gang_owner(pod, number)
    is_gated = any(one.name == meta.GATE_GANG for one in pod.spec.scheduling_gates)
    phase = _phase(pod)
    outcome = outcome_of(pod) if phase.ended else Outcome()
    holds = requested(pod.spec)
    started_at, stopped_at = _times(pod.status.container_statuses)
    stopping = bool(pod.spec.node_name) and pod.spec.active_deadline_seconds == STOP_DEADLINE_S
    deadline_exceeded = pod.status.reason == "DeadlineExceeded"
    if stopping and deadline_exceeded and outcome.exit_code is None:
        outcome = replace(outcome, reason=None)  # the deadline is how we stop it, and not why
    is_rejected = (outcome.reason or "").startswith(REJECTED)
    # A Pod that ran no container has no end of its own: of one that was turned away, or never had a
    # node, it is known when that was; of others nobody says it.
    stopped_at = (
        stopped_at
        or _disrupted_at(pod)
        or pod.metadata.deletion_requested_at
        or (pod.status.start_time if is_rejected else None)
        or (None if pod.spec.node_name else pod.metadata.creation_timestamp)
    )
    told = "" if pod.spec.node_name or is_gated else _told_by_scheduler(pod)
    return PodAttempt(
        namespace=pod.metadata.namespace,
        pod_name=pod.metadata.name,
        pod_uid=pod.metadata.uid,
        resource_version=int(pod.metadata.resource_version),
        job_uid=job_uid,
        index=array_index or 0,
        number=number,
        revision=_number(labels[meta.LABEL_REVISION], 1, LARGEST),
        environment=labels[meta.LABEL_COMPUTE_ENVIRONMENT],
        milli_cpu=holds.milli_cpu,
        phase=phase,
        tracked=meta.FINALIZER_TRACKING in pod.metadata.finalizers,
        deleting=pod.metadata.deletion_timestamp is not None,
        gone_by=pod.metadata.deletion_timestamp,
        stopping=stopping,
        deadline_exceeded=deadline_exceeded,
        node_name=pod.spec.node_name or None,
        created_at=pod.metadata.creation_timestamp,
        bound_at=_bound_at(pod),
        started_at=started_at,
        stopped_at=stopped_at if phase.ended else None,
        exit_code=outcome.exit_code,
        reason=outcome.reason,
        status_reason=outcome.status_reason,
        start_error=None if phase.ended else _start_error(pod),
        is_set_up=any(
            one.type == "PodReadyToStartContainers" and one.status == "True"
            for one in pod.status.conditions
        ),
        unschedulable=_in_short(told) or None,
        unplaceable=_NOTHING_HELPS.search(told) is not None,
        node_group=group,
        member=member,
        gated=is_gated,
        pod_ip=pod.status.pod_ip or None,
        requeued=_requeued(pod.metadata),
        memory=holds.memory,
        gpus=holds.gpus,
        **_where(pod.spec),
    )


def _requeued(metadata: Metadata) -> str | None:
    """Our mark; what somebody else may have written there in its place is none."""
    mark = metadata.annotations.get(meta.ANNOTATION_REQUEUED, "")
    is_ours = mark.startswith((PREEMPTED, MOVED, HOST_LOST, SUSPENDED))
    return mark[:REQUEUED_LENGTH_MAX] if is_ours else None


def observed_group(job: Job) -> PodAttempt:
    """The stand-in for the Pods that a Job of ours makes, or is still to make.

    One that is suspended makes none any more: that is how we end it before it has.

    Raises:
        KeyError, ValueError: the Job is not ours to judge.
    """
    metadata, labels = job.metadata, job.metadata.labels
    number = _number(labels[meta.LABEL_ATTEMPT], 1, NUMBER_MAX)
    group = _number(labels[meta.LABEL_NODE_GROUP], 0, GROUPS_MAX)
    job_uid = labels[meta.LABEL_JOB_UID]
    _check_controller(metadata, "BatchJob", job_uid)
    if not metadata.name.endswith(gang_job_suffix(job_uid, number, group)):
        raise ValueError(f"Job {metadata.name} is not named as its labels say")
    is_over = job.spec.suspend or metadata.deletion_timestamp is not None
    each = requested(job.spec.template.spec)
    return PodAttempt(
        namespace=metadata.namespace,
        pod_name=metadata.name,
        pod_uid=metadata.uid,
        resource_version=int(metadata.resource_version),
        job_uid=job_uid,
        index=0,
        number=number,
        revision=_number(labels[meta.LABEL_REVISION], 1, LARGEST),
        environment=labels[meta.LABEL_COMPUTE_ENVIRONMENT],
        milli_cpu=min(LARGEST, job.spec.completions * each.milli_cpu),
        phase=Phase.FAILED if is_over else Phase.ASSUMED,
        tracked=True,
        created_at=metadata.creation_timestamp,
        deleting=is_over,
        stopped_at=metadata.creation_timestamp if is_over else None,
        reason="its Job was suspended or deleted" if is_over else None,
        status_reason=FAILED_TO_START if is_over else None,
        node_group=group,
        members=_number(str(job.spec.completions), 1, NODES_MAX),
        requeued=_requeued(metadata),
        memory=each.memory,
        gpus=each.gpus,
        **_where(job.spec.template.spec),
    )


def _number(text: str, low: int, high: int) -> int:
    """A number from a label: whoever may patch Pods can write anything there."""
    number = int(text)
    if not low <= number <= high:
        raise ValueError(f"{number} is not within {low} to {high}")
    return number


def _owner(pod: Pod, index: int | None, number: int) -> str:
    """The uid of the job that the Pod belongs to.

    A label can be put on any Pod by whoever may change it, so it has to agree with what cannot be
    changed, the Pod's name, and with the owner that garbage collection goes by.
    """
    uid = pod.metadata.labels[meta.LABEL_JOB_UID]
    _check_controller(pod.metadata, "BatchJob", uid)
    if not pod.metadata.name.endswith(pod_suffix(uid, index, number)):
        raise ValueError(f"Pod {pod.metadata.name} is not named as its labels say")
    return uid


def _check_controller(metadata: Metadata, kind: str, uid: str) -> None:
    owners = metadata.owner_references
    if not any(one.controller and one.kind == kind and one.uid == uid for one in owners):
        raise ValueError(f"{metadata.name} says that it is of job {uid}, its owner does not")


def _place_in_gang(labels: Mapping[str, str]) -> tuple[int | None, int]:
    """Group and place in it of a node of a multi-node job; no group for any other Pod."""
    group = labels.get(meta.LABEL_NODE_GROUP)
    if group is None:
        return None, 0
    return _number(group, 0, GROUPS_MAX), _number(labels[LABEL_COMPLETION_INDEX], 0, NODES_MAX - 1)


def _gang_owner(pod: Pod, number: int) -> str:
    """The uid of the multi-node job that the Pod is a node of.

    Its controller is a Job, whose name says of which job, attempt and group it is; the Pod's own
    name begins with that, which cannot be changed.
    """
    metadata, labels = pod.metadata, pod.metadata.labels
    uid = labels[meta.LABEL_JOB_UID]
    group, member = _place_in_gang(labels)
    assert group is not None  # or it would not have been taken for a node
    owner = next((one for one in metadata.owner_references if one.controller), None)
    if owner is None or owner.kind != "Job" or meta.LABEL_ARRAY_INDEX in labels:
        raise ValueError(f"Pod {metadata.name} says that it is a node of job {uid}, and is none")
    is_named = owner.name.endswith(gang_job_suffix(uid, number, group))
    if not is_named or not metadata.name.startswith(f"{owner.name}-{member}-"):
        raise ValueError(f"Pod {metadata.name} is not named as its labels say")
    return uid


def requested(spec: PodSpec) -> Amounts:
    """What a Pod holds, or will hold that is made of a template."""

    def total(read: Callable[[Mapping[str, str]], int]) -> int:
        return read(spec.overhead) + total_request(
            [read(one.resources.asked) for one in spec.containers],
            [
                (one.restart_policy == "Always", read(one.resources.asked))
                for one in spec.init_containers
            ],
            read(spec.resources.asked),
        )

    return Amounts(
        total(lambda requests: milli_cpu(requests.get("cpu", "0"))),
        total(lambda requests: memory_bytes(requests.get("memory", "0"))),
        total(gpus_of),
    )


def _where(spec: PodSpec) -> dict[str, Any]:
    """Which of a compute environment's nodes its selector allows."""
    selector = spec.node_selector
    return {
        "on_demand": selector.get(meta.LABEL_CAPACITY_TYPE) == CapacityType.ON_DEMAND,
        "spot": selector.get(meta.LABEL_CAPACITY_TYPE) == CapacityType.SPOT,
        "instance_type": selector.get(LABEL_INSTANCE_TYPE),
    }


def _phase(pod: Pod) -> Phase:
    match pod.status.phase:
        case "Succeeded":
            return Phase.SUCCEEDED
        case "Failed":
            return Phase.FAILED
        case "Running":
            return Phase.RUNNING
    if pod.spec.node_name:
        return Phase.STARTING
    # No node will ever report on a Pod that is deleted before it was bound: it is over now.
    return Phase.FAILED if pod.metadata.deletion_timestamp else Phase.UNBOUND


def _disrupted_at(pod: Pod) -> datetime | None:
    """When its node was given up; nobody is left there who could say when its containers ended."""
    condition = disruption_of(pod)
    return condition.last_transition_time if condition is not None else None


def _times(containers: Sequence[ContainerStatus]) -> tuple[datetime | None, datetime | None]:
    """When the last of the job's own containers began, and when the last of them ended.

    AWS: an attempt is RUNNING when all are up, and STARTING as long as one is still pulled, which
    does not count toward its timeout. Init containers do not count either.
    """
    started: list[datetime] = []
    stopped: list[datetime] = []
    for container in containers:
        begun = container.state.running or container.state.terminated
        if begun and begun.started_at:
            started.append(begun.started_at)
        ended = container.state.terminated
        if ended and ended.finished_at:
            stopped.append(ended.finished_at)
    all_began = len(started) == len(containers)
    return max(started, default=None) if all_began else None, max(stopped, default=None)


def _bound_at(pod: Pod) -> datetime | None:
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "True":
            return condition.last_transition_time
    return pod.status.start_time


def _start_error(pod: Pod) -> StartError | None:
    for container in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        waiting = container.state.waiting
        if waiting and waiting.reason in _START_ERRORS:
            detail = waiting.message or waiting.reason
            return StartError(
                reason=f"{_START_ERRORS[waiting.reason]}: {detail}"[:REASON_LENGTH_MAX],
                message=f"container {container.name}: {waiting.reason}: {detail}",
                hopeless=waiting.reason in _HOPELESS,
                since=_last_initialized_at(pod),
            )
    return None


def _last_initialized_at(pod: Pod) -> datetime | None:
    """When the last of the init containers that are over was: they run one after the other."""
    times = [
        one.last_transition_time
        for one in pod.status.conditions
        if one.type == "Initialized" and one.status == "True"
    ]
    ended = (one.state.terminated for one in pod.status.init_container_statuses)
    times += [one.finished_at for one in ended if one is not None]
    return max((one for one in times if one is not None), default=None)


def _told_by_scheduler(pod: Pod) -> str:
    """What kube-scheduler says of a Pod that has no node."""
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled":
            return condition.message or condition.reason
    return ""


def _in_short(told: str) -> str:
    """Without the scheduler's account of claims and preemption."""
    return told.partition(" no new claims")[0].partition(" preemption:")[0]
