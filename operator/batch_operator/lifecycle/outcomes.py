"""How and why a Pod has ended.

The words are AWS Batch's own, because users match them in `evaluateOnExit` (`Host EC2*`,
`CannotPullContainerError*`): `statusReason` says why the attempt is over, `reason` carries the
container's detail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.api.objects import (
        Condition,
        ContainerStateTerminated,
        ContainerStatus,
        Pod,
    )

EXITED = "Essential container in task exited"
FAILED_TO_START = "Task failed to start"
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
HOST_LOST = "Host EC2"
CANNOT_CREATE = "CannotCreateContainerError"
CANNOT_START = "CannotStartContainerError"
PREEMPTED = "Preempted"
MOVED = "Moved to the next compute environment"
REJECTED = "Rejected by its node"
SUSPENDED = "Suspended"
REASON_LENGTH_MAX = 255
"""AWS's bound on a container's `reason`."""

_NEVER_STARTED = frozenset({"ContainerCannotRun", "StartError"})
"""With these a runtime ends a container whose program it could not even begin; the exit code is
the runtime's own."""
# Pod-level reasons with which kubelet or the control plane says that the node was the cause.
_HOST_REASONS = frozenset(
    {"Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated"}
)
# Kubelet evicts a Pod for two causes, and only its message tells which. These are the Pod's own:
# `Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. `, `Container main
# exceeded its local ephemeral storage limit "1Gi". `, `Usage of EmptyDir volume "x" exceeds the
# limit "1Gi". `. The node's is `The node was low on resource: memory. … Container main was using
# 5Gi, request is 1Gi, has larger consumption of memory. `, for one.
_OWN_LIMIT = re.compile(
    r"(Pod ephemeral local storage usage|Usage of EmptyDir volume .*) exceeds the |"
    r"Container .* exceeded its local ephemeral storage limit "
)
# Pod-level reasons with which kubelet turns a Pod away that has just been bound to its node, which
# is not (or not yet again) what the scheduler took it for. `OutOfcpu` and its like are such, too.
_OUT_OF = "OutOf"
_REJECTIONS = frozenset(
    {"NodeAffinity", "NodePorts", "TopologyAffinityError", "UnexpectedAdmissionError"}
)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Exit code, the container's detail, and why the attempt is over; all None while it is not."""

    exit_code: int | None = None
    reason: str | None = None
    status_reason: str | None = None


def outcome_of(pod: Pod) -> Outcome:
    """The outcome of a Pod that has ended, or that was deleted before it had a node."""
    if pod.status.phase == "Succeeded":
        return Outcome(exit_code=0, status_reason=EXITED)
    told = _cut(pod.status.message or pod.status.reason)
    if not pod.spec.node_name:  # it had no host to lose, whoever evicted it
        why = told or _told_by(disruption_of(pod)) or "Pod was deleted before it started"
        return Outcome(reason=why, status_reason=FAILED_TO_START)
    exit_code, reason = _first_failure(pod)
    if _OWN_LIMIT.match(pod.status.message):
        return Outcome(exit_code, told, EXITED)
    if _host_lost(pod):
        return Outcome(exit_code, told or reason, host_lost(pod.spec.node_name))
    if exit_code is None:
        if _is_rejected(pod):
            detail = pod.status.message.removeprefix("Pod was rejected: ")
            told = _cut(f"{REJECTED}: {pod.status.reason}: {detail}".rstrip(": "))
        return Outcome(None, reason or told, FAILED_TO_START)
    if reason is None and pod.metadata.deletion_timestamp:
        reason = "Pod was deleted"
    return Outcome(exit_code, reason, EXITED)


def host_lost(node_name: str | None) -> str:
    """What AWS says of it, and users match by `Host EC2*`; here a node is the instance."""
    return f"{HOST_LOST} (instance {node_name or 'unknown'}) terminated."


def disruption_of(pod: Pod) -> Condition | None:
    """The condition with which the control plane ends a Pod (eviction, a lost node)."""
    conditions = pod.status.conditions
    return next(
        (one for one in conditions if one.type == "DisruptionTarget" and one.status == "True"), None
    )


def _first_failure(pod: Pod) -> tuple[int | None, str | None]:
    """Exit code and reason of the container that failed the Pod: of several, that which did first.

    The job's own containers are asked first: when an init container failed, none of them has
    ended; and a sidecar, which counts among the init containers, is killed after they have. When
    no container reports a failure (the kubelet refused the Pod, say), there is no exit code.
    """
    status = pod.status
    failures = _failures(status.container_statuses) or _failures(status.init_container_statuses)
    if not failures:
        return None, None
    ended = min(failures, key=lambda one: one.finished_at or _NEVER)
    if ended.reason == "OOMKilled":
        return ended.exit_code, OUT_OF_MEMORY
    if ended.reason in {"Error", ""}:
        return ended.exit_code, None
    if ended.reason in _NEVER_STARTED:
        return None, _cut(f"{CANNOT_START}: {ended.message}".rstrip(": "))
    return ended.exit_code, _cut(f"{ended.reason}: {ended.message}".rstrip(": "))


def _failures(containers: Iterable[ContainerStatus]) -> list[ContainerStateTerminated]:
    ended = (one.state.terminated for one in containers)
    return [one for one in ended if one is not None and one.exit_code != 0]


def _host_lost(pod: Pod) -> bool:
    return pod.status.reason in _HOST_REASONS or disruption_of(pod) is not None


def _is_rejected(pod: Pod) -> bool:
    """Whether the kubelet would not have the Pod: no container of it has begun."""
    status = pod.status
    states = (one.state for one in (*status.init_container_statuses, *status.container_statuses))
    if any(one.running or one.terminated for one in states):
        return False
    return status.reason.startswith(_OUT_OF) or status.reason in _REJECTIONS


def _told_by(condition: Condition | None) -> str | None:
    return _cut(condition.message or condition.reason) if condition is not None else None


def _cut(text: str) -> str | None:
    return text[:REASON_LENGTH_MAX] or None
