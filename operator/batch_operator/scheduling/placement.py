"""Where an attempt may run: a queue's compute environments in order, and the room in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import EnvironmentState
from batch_operator.api.job_queue import QueueState
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.unsupported import unsupported_in_environment, unsupported_in_queue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.scheduling.snapshot import Environment, Queue


def usable_environments(queue: Queue, environments: Mapping[str, Environment]) -> list[Environment]:
    """The queue's environments that take new work, in `computeEnvironmentOrder`."""
    ordered = sorted(queue.spec.compute_environment_order, key=lambda one: one.order)
    found = (environments.get(one.compute_environment) for one in ordered)
    return [
        one
        for one in found
        if one is not None
        and not one.deleting
        and one.spec.state is EnvironmentState.ENABLED
        and unsupported_in_environment(one.spec) is None
    ]


def capacity_milli(environment: Environment) -> int:
    """What attempts in the environment may hold together, in milli-CPU."""
    return environment.spec.max_vcpus * 1000


def node_selector(environment: Environment) -> Mapping[str, str]:
    """Which nodes belong to the environment: those labelled with its name unless it says else."""
    selector = environment.spec.node_selector
    if selector is not None:
        return selector
    return {meta.LABEL_COMPUTE_ENVIRONMENT: environment.name}


def queue_hold(
    name: str, queue: Queue | None, namespace: str, environments: Mapping[str, Environment]
) -> Hold | None:
    """Why a queue takes nothing from a namespace now; None when it does."""
    if queue is None or queue.deleting:
        return Hold(
            Reason.JOB_QUEUE_NOT_FOUND,
            f"there is no JobQueue {name}: apply it, or name one of `kubectl get jobqueues`",
            stalled=True,
        )
    if unsupported := unsupported_in_queue(queue.spec):
        return Hold(Reason.JOB_QUEUE_NOT_READY, f"JobQueue {name}: {unsupported}", stalled=True)
    allowed = queue.spec.allowed_namespaces
    if allowed is not None and namespace not in allowed.names:
        return Hold(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"JobQueue {name} takes no jobs from namespace {namespace}: add it to the queue's "
            f"spec.allowedNamespaces.names, or use another queue",
            stalled=True,
        )
    if queue.spec.state is QueueState.DISABLED:
        return Hold(
            Reason.JOB_QUEUE_DISABLED, f"JobQueue {name} is DISABLED: it starts nothing new"
        )
    if not usable_environments(queue, environments):
        return Hold(
            Reason.NO_COMPUTE_ENVIRONMENT,
            f"none of the compute environments of JobQueue {name} takes work: see "
            f"`kubectl get computeenvironments`",
            stalled=True,
            status_reason="ACTION_REQUIRED - CE(s) associated with the job queue are invalid.",
        )
    return None


def never_fits_hold(
    queue: Queue, environments: Mapping[str, Environment], milli_cpu: int
) -> Hold | None:
    """A request above every environment's maxvCpus.

    DEVIATION: AWS leaves such a job at the head of its queue, blocking all behind it. Here it
    waits beside the queue, so that no job's mistake stops the others.
    """
    usable = usable_environments(queue, environments)
    if any(milli_cpu <= capacity_milli(one) for one in usable):
        return None
    largest = max(one.spec.max_vcpus for one in usable)
    return Hold(
        Reason.COMPUTE_ENVIRONMENT_MAX_RESOURCE,
        f"needs {vcpus(milli_cpu)} vCPUs, but no compute environment of JobQueue {queue.name} "
        f"has a maxvCpus above {largest}: request less, or raise maxvCpus",
        stalled=True,
        status_reason="MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated "
        "with the job queue cannot meet the CPU requirement of the job.",
    )


def capacity_hold(usable: list[Environment], used: Mapping[str, int], milli_cpu: int) -> Hold:
    """The sentence for a job at the head of its queue for which there is no room now."""
    room = ", ".join(
        f"{one.name} has {vcpus(max(0, capacity_milli(one) - used.get(one.name, 0)))} of "
        f"{one.spec.max_vcpus} free"
        for one in usable[:3]
    )
    return Hold(
        Reason.INSUFFICIENT_CAPACITY,
        f"needs {vcpus(milli_cpu)} vCPUs: {room}",
        blocked_by=tuple(one.name for one in usable[:3]),
        position=1,
    )


def vcpus(milli_cpu: int) -> str:
    """Milli-CPU as a decimal number of vCPUs: 1500 is `1.5`."""
    whole, thousandths = divmod(milli_cpu, 1000)
    return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".")
