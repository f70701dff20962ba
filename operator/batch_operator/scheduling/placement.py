"""Where an attempt may run: a queue's compute environments in order, and the room in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import EnvironmentState
from batch_operator.api.job_queue import QueueState, TimeLimitAction
from batch_operator.lifecycle.holds import Hold, Reason, capacity_reason
from batch_operator.lifecycle.unsupported import unsupported_in_environment, unsupported_in_queue
from batch_operator.scheduling.consumables import is_used_up
from batch_operator.scheduling.shares import overlap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_operator.api.job import BatchJobSpec
    from batch_operator.api.job_queue import JobStateTimeLimitAction
    from batch_operator.api.scheduling_policy import FairsharePolicy
    from batch_operator.scheduling.dispatch import Blocked
    from batch_operator.scheduling.snapshot import Consumable, Environment, Queue, SharePolicy


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


def fair_policy(queue: Queue, policies: Mapping[str, SharePolicy]) -> FairsharePolicy | None:
    """The fair share of a queue that has a scheduling policy which can be used."""
    policy = policies.get(queue.spec.scheduling_policy or "")
    if policy is None or policy.deleting or policy_problem(policy):
        return None
    return policy.spec.fairshare_policy


def missing_policy(queue: Queue, policies: Mapping[str, SharePolicy]) -> str | None:
    """What is wrong with the policy that a queue names."""
    name = queue.spec.scheduling_policy
    if name is None or fair_policy(queue, policies) is not None:
        return None
    policy = policies.get(name)
    if policy is None or policy.deleting:
        return (
            f"there is no SchedulingPolicy {name}: apply it, or name another in "
            f"spec.schedulingPolicy"
        )
    return f"SchedulingPolicy {name}: {policy_problem(policy)}"


def policy_problem(policy: SharePolicy) -> str | None:
    """What is wrong with a SchedulingPolicy, and what to write instead."""
    found = overlap(policy.spec.fairshare_policy.share_distribution)
    if found is None:
        return None
    prefix, other = found
    return (
        f"shareDistribution has {prefix} and {other}, and a share identifier could be in both: "
        f"take one of them out"
    )


def share_hold(queue: Queue, spec: BatchJobSpec) -> Hold | None:
    """AWS: a share identifier is required where there is fair share, and refused elsewhere."""
    is_fair = queue.spec.scheduling_policy is not None
    if is_fair and spec.share_identifier is None:
        return Hold(
            Reason.SHARE_IDENTIFIER_MISSING,
            f"JobQueue {queue.name} shares its capacity between share identifiers: submit the job "
            f"again with spec.shareIdentifier",
            stalled=True,
        )
    if not is_fair and spec.share_identifier is not None:
        return Hold(
            Reason.SHARE_IDENTIFIER_NOT_USED,
            f"JobQueue {queue.name} has no scheduling policy, so spec.shareIdentifier has no "
            f"meaning in it: submit the job again without it, or to another queue",
            stalled=True,
        )
    return None


def queue_hold(
    name: str,
    queue: Queue | None,
    namespace: str,
    environments: Mapping[str, Environment],
    policies: Mapping[str, SharePolicy],
) -> Hold | None:
    """Why a queue takes nothing from a namespace now; None when it does."""
    if queue is None or queue.deleting:
        return Hold(
            Reason.JOB_QUEUE_NOT_FOUND,
            f"there is no JobQueue {name}: apply it, or name one of `kubectl get jobqueues`",
            stalled=True,
        )
    problem = unsupported_in_queue(queue.spec) or missing_policy(queue, policies)
    if problem:
        return Hold(Reason.JOB_QUEUE_NOT_READY, f"JobQueue {name}: {problem}", stalled=True)
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


def capacity_hold(blocked: Blocked, resources: Mapping[str, Consumable]) -> Hold:
    """The sentence for a job at the head of its queue for which there is no room now."""
    ask = blocked.ask
    for (name, quantity), (_, free) in zip(ask.units, blocked.units, strict=True):
        if free < quantity:
            return _units_hold(name, quantity, free, resources.get(name))
    names = tuple(one.name for one, _ in blocked.free[:3])
    room = ", ".join(
        f"{one.name} has {vcpus(free)} of {one.spec.max_vcpus} free"
        for one, free in blocked.free[:3]
    )
    return Hold(
        Reason.INSUFFICIENT_CAPACITY,
        f"needs {vcpus(ask.milli_cpu)} vCPUs: {room}",
        blocked_by=names,
        position=1,
        status_reason=capacity_reason(", ".join(names)),
    )


def _units_hold(name: str, quantity: int, free: int, resource: Consumable | None) -> Hold:
    total = resource.spec.total_quantity if resource is not None else 0
    message = f"needs {quantity} units of ConsumableResource {name}: {max(0, free)} of {total} are"
    is_spent = resource is not None and is_used_up(resource)
    return Hold(
        Reason.INSUFFICIENT_CONSUMABLE_RESOURCE,
        f"{message} left, and none comes back: raise its spec.totalQuantity"
        if is_spent
        else f"{message} free",
        blocked_by=(name,),
        position=1,
        stalled=is_spent,
    )


def time_limits(
    queue: Queue, environments: Mapping[str, Environment]
) -> list[JobStateTimeLimitAction]:
    """The queue's time limits, without moves where there is only one environment to go to."""
    rules = queue.spec.job_state_time_limit_actions
    if rules and len(usable_environments(queue, environments)) < 2:
        move = TimeLimitAction.NEXT_COMPUTE_ENVIRONMENT
        return [one for one in rules if one.action is not move]
    return rules


def rotated(environments: Sequence[Environment], moves: int) -> Sequence[Environment]:
    """The environments, beginning behind those that a job was moved on from."""
    if not moves or not environments:
        return environments
    first = moves % len(environments)
    return [*environments[first:], *environments[:first]]


def vcpus(milli_cpu: int) -> str:
    """Milli-CPU as a decimal number of vCPUs: 1500 is `1.5`."""
    whole, thousandths = divmod(milli_cpu, 1000)
    return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".")
