"""A queue's compute environments and scheduling policy: which can be used, and in what order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.api.compute_environment import CapacityType, EnvironmentState, EnvironmentStatus
from batch_operator.api.job_queue import TimeLimitAction
from batch_operator.provisioning.pools import is_managed
from batch_operator.provisioning.serverless import rounded, serverless_of
from batch_operator.scheduling.shares import overlap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batch_operator.api.job_queue import JobStateTimeLimitAction
    from batch_operator.api.scheduling_policy import FairsharePolicy
    from batch_operator.scheduling.snapshot import Environment, Queue, SharePolicy
    from batch_operator.scheduling.suitability import Needs


def usable_environments(queue: Queue, environments: Mapping[str, Environment]) -> list[Environment]:
    """The queue's environments that take new work, in `computeEnvironmentOrder`.

    AWS: those that are ENABLED and not INVALID; one that is UPDATING has new nodes for new work.
    """
    ordered = sorted(queue.spec.compute_environment_order, key=lambda one: one.order)
    found = (environments.get(one.compute_environment) for one in ordered)
    return [one for one in found if one is not None and takes_work(one)]


def takes_work(environment: Environment) -> bool:
    """Whether anything new may be placed in the environment."""
    return (
        not environment.deleting
        and environment.spec.state is EnvironmentState.ENABLED
        and not is_invalid(environment)
    )


def is_invalid(environment: Environment) -> bool:
    """Whether it was found, as it is written now, that the environment cannot work."""
    status = environment.status
    return (
        status.status is EnvironmentStatus.INVALID
        and status.observed_generation == environment.generation
    )


def shared_target(environment: Environment, others: Iterable[Environment]) -> str | None:
    """Why an environment may not scale its objects: an older one scales one of them. Or None.

    Two that set the replicas of one object would take each other's machines away.
    """
    own = _targets(environment)
    mine = (environment.created_at, environment.uid)
    for other in sorted(others, key=lambda one: one.name):
        if (other.created_at, other.uid) < mine and (shared := own & _targets(other)):
            _, resource, namespace, name = min(shared)
            return (
                f"{resource} {namespace}/{name} is scaled for compute environment {other.name}: "
                f"name another object in spec.provisioner.scale.targets"
            )
    return None


def _targets(environment: Environment) -> set[tuple[str, str, str, str]]:
    """Group, resource, namespace and name of the objects that are scaled for an environment."""
    provisioner = environment.spec.provisioner
    scale = provisioner.scale if provisioner is not None and is_managed(environment.spec) else None
    return {
        (one.api_version.rpartition("/")[0], one.resource, one.namespace, one.name)
        for one in (scale.targets if scale is not None else ())
    }


def has_nodes(environment: Environment) -> bool:
    """Whether there are nodes to see to: where each Pod brings its capacity there are none."""
    return is_managed(environment.spec) and serverless_of(environment.spec) is None


def is_planned(environment: Environment) -> bool:
    """Whether it is known which nodes an environment may have."""
    return is_managed(environment.spec) and bool(environment.spec.instance_types)


def has_spot(environment: Environment) -> bool:
    return CapacityType.SPOT in environment.spec.capacity_types


def capacity_milli(environment: Environment) -> int:
    """What attempts in the environment may hold together, in milli-CPU."""
    return environment.spec.max_vcpus * 1000


def held_milli(milli_cpu: int, needs: Needs, environment: Environment) -> int:
    """What a start that asks for so much holds of an environment, in milli-CPU.

    Where capacity comes with each Pod that is its size, rounded up.
    """
    section = serverless_of(environment.spec)
    if section is None:
        return milli_cpu
    sizes = [rounded(one.amounts, section) for one in needs]
    return sum(one.milli_cpu for one in sizes if one is not None) or milli_cpu


def node_selector(environment: Environment) -> Mapping[str, str]:
    """Which nodes belong to the environment: those labelled with its name unless it says else."""
    section = serverless_of(environment.spec)
    if section is not None:
        return section.node_selector
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


def large_enough(
    environments: Iterable[Environment], milli_cpu: int, needs: Needs = ()
) -> list[Environment]:
    """Those that would have room for a request if nothing else ran in them."""
    return [one for one in environments if held_milli(milli_cpu, needs, one) <= capacity_milli(one)]


def rotated(environments: Sequence[Environment], moves: int) -> Sequence[Environment]:
    """The environments, beginning behind those that a job was moved on from."""
    if not moves or not environments:
        return environments
    first = moves % len(environments)
    return [*environments[first:], *environments[:first]]


def time_limits(queue: Queue, could_hold: Sequence[Environment]) -> list[JobStateTimeLimitAction]:
    """The queue's time limits for a job, without moves where there is nowhere else to go.

    `could_hold` are the environments that could ever run it, in order.
    """
    rules = queue.spec.job_state_time_limit_actions
    if rules and len(could_hold) < 2:
        move = TimeLimitAction.NEXT_COMPUTE_ENVIRONMENT
        return [one for one in rules if one.action is not move]
    return rules


def max_waits(queue: Queue, could_hold: Sequence[Environment]) -> dict[str, int]:
    """For how many seconds a Pod waits for a node, by environment with another behind it."""
    given = {
        one.compute_environment: one.max_wait_seconds
        for one in queue.spec.compute_environment_order
        if one.max_wait_seconds is not None
    }
    return {one.name: given[one.name] for one in could_hold[:-1] if one.name in given}


def vcpus(milli_cpu: int) -> str:
    """Milli-CPU as a decimal number of vCPUs: 1500 is `1.5`."""
    whole, thousandths = divmod(milli_cpu, 1000)
    return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".")
