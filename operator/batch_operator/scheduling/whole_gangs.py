"""Gangs for whose nodes an autoscaler is asked as a whole, where it would see Pods one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.gang import gangs_of
from batch_operator.provisioning.followers import provisioning_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.gang import Gang
    from batch_operator.lifecycle.multi_node import NodeGroup
    from batch_operator.lifecycle.plan import Plan
    from batch_operator.scheduling.snapshot import Environment, Snapshot


def whole_gangs(
    environment: Environment,
    attempts: Iterable[PodAttempt],
    snapshot: Snapshot,
    plans: Mapping[str, Plan],
) -> tuple[Gang, ...]:
    """Those among an environment's `attempts` that are complete and have not begun to run.

    Whoever may create Jobs can have one look like ours, and what is asked for is asked with the
    operator's rights. So each of a gang's Jobs has to be what its job's plan says, and where.
    """
    if provisioning_class(environment.spec) is None or environment.deleting:
        return ()
    found: list[Gang] = []
    for uid in sorted({one.job_uid for one in attempts if one.is_job}):
        job, plan = snapshot.jobs.get(uid), plans.get(uid)
        if job is None or plan is None:
            continue
        found += [
            gang
            for gang in gangs_of(snapshot.attempts[uid].values())
            if _waits(gang, plan.groups)
            and all(
                one.environment == environment.name and one.namespace == job.namespace
                for one in gang.jobs.values()
            )
        ]
    return tuple(found)


def _waits(gang: Gang, groups: tuple[NodeGroup, ...]) -> bool:
    is_complete = gang.jobs.keys() == set(range(len(groups)))
    return (
        is_complete
        and all(_is_planned(gang.jobs[number], group) for number, group in enumerate(groups))
        and not any(one.phase >= Phase.RUNNING for one in gang.pods)
    )


def _is_planned(job: PodAttempt, group: NodeGroup) -> bool:
    """Whether a Job stands, and asks for no more than the nodes of its group."""
    asked, planned = job.amounts, group.each
    is_small = asked.milli_cpu <= planned.milli_cpu and asked.gpus <= planned.gpus
    return (
        bool(job.pod_uid) and not job.phase.ended and job.members == len(group.nodes) and is_small
    )
