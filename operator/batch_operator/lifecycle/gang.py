"""Multi-node jobs: what the Jobs and Pods of one attempt, its gang, mean together.

AWS: the whole gang is placed at once; the main node starts first, and the others once it runs; the
outcome is the main node's alone; when it ends the others are stopped.

A gang is asked for as one Indexed Job per group of nodes, the main node's first. A Job that we
track stands for Pods that are still to come, so nothing about a gang has to be remembered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batch_operator.api import meta
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.outcomes import FAILED_TO_START

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.children import Children
    from batch_operator.lifecycle.multi_node import NodeGroup

MAIN_GROUP = 0


@dataclass(frozen=True, slots=True)
class Gang:
    """One attempt of a multi-node job.

    `main` is what stands for it: the main node's Pod; before there is one its Job, or whatever else
    of the gang lives. None when nothing is left of it but Pods of other nodes that have ended.
    """

    number: int
    jobs: Mapping[int, PodAttempt]
    """By group."""
    pods: tuple[PodAttempt, ...]
    main: PodAttempt | None

    @property
    def held(self) -> PodAttempt | None:
        """What stands for it, while the main node has neither been let go nor lost."""
        main = self.main
        if main is None or main.phase > Phase.UNBOUND:
            return None
        return main if main.gated or main.phase is Phase.ASSUMED else None

    def seen(self, group: int) -> list[PodAttempt]:
        return [one for one in self.pods if one.node_group == group]


@dataclass(frozen=True, slots=True)
class Opening:
    """A Pod whose scheduling gate is to be taken off, and what its containers are told with it."""

    pod: PodAttempt
    annotations: Mapping[str, str]


def gangs_of(attempts: Iterable[PodAttempt]) -> tuple[Gang, ...]:
    """The gangs of a job, in order of attempt; what is no node of a multi-node job is left out."""
    by_number: dict[int, list[PodAttempt]] = defaultdict(list)
    for one in attempts:
        if one.node_group is not None:
            by_number[one.number].append(one)
    return tuple(_gang(number, by_number[number]) for number in sorted(by_number))


def _gang(number: int, those: list[PodAttempt]) -> Gang:
    jobs = {_group(one): one for one in those if one.is_job}
    pods = sorted((one for one in those if not one.is_job), key=_place)
    mains = [one for one in pods if one.node_group == MAIN_GROUP]
    # One that has ended is the outcome, whatever has been made in its place.
    main_job = jobs.get(MAIN_GROUP)
    main = min(mains, key=lambda one: not one.phase.ended, default=main_job)
    if main is not None and main_job is not None and main_job.requeued is not None:
        main = replace(main, requeued=main_job.requeued)  # made while its Job was being ended
    if main is None:
        others = [one for one in (*jobs.values(), *pods) if not one.phase.ended]
        main = replace(others[0], phase=Phase.ASSUMED, node_name=None) if others else None
    return Gang(number, jobs, tuple(pods), main)


def _place(one: PodAttempt) -> tuple[int, int, str]:
    return _group(one), one.member, one.pod_name


def _group(one: PodAttempt) -> int:
    assert one.node_group is not None  # or it would be in no gang
    return one.node_group


def failure_to_start(
    gang: Gang,
    groups: Collection[NodeGroup],
    refused: str | None,
    gone: Collection[str],
    now: datetime,
) -> PodAttempt | None:
    """The main node as it counts when its gang can never be complete, or None.

    Args:
        gang: one that has not been counted.
        groups: what it should consist of.
        refused: why the API server will never take the gang's Jobs, if so, as a status reason.
        gone: compute environments that are no more; what is missing cannot be asked for there.
        now: the time of this look.
    """
    main = gang.held
    if main is None or main.requeued is not None:
        return None
    lost = [one for one in gang.pods if one.phase.ended or not one.gated]
    if lost:
        reason = f"Pod {lost[0].pod_name} was lost before the main node started"
        ended = max((one.stopped_at for one in lost if one.stopped_at), default=now)
        at, status_reason, is_retryable = ended, FAILED_TO_START, True
    elif main.environment in gone and missing_groups(gang, groups):
        reason = f"ComputeEnvironment {main.environment} was deleted before all its Jobs were made"
        at, status_reason, is_retryable = now, FAILED_TO_START, True
    elif refused:
        reason, at, status_reason, is_retryable = None, now, refused, False
    else:
        return None
    return replace(
        main,
        phase=Phase.FAILED,
        stopped_at=at.replace(microsecond=0),
        reason=reason and reason[:255],
        status_reason=status_reason,
        retryable=is_retryable,
    )


def missing_groups(gang: Gang, groups: Collection[NodeGroup]) -> tuple[int, ...]:
    """Groups whose Jobs are still to be asked for: the operator died in between."""
    if gang.held is None:
        return ()
    return tuple(number for number in range(len(groups)) if number not in gang.jobs)


def missing_pods(gang: Gang, groups: Iterable[NodeGroup]) -> int:
    """How many of the gang's Pods are still to be made."""
    there = {(one.node_group, one.member) for one in gang.pods if not one.phase.ended}
    return sum(
        (number, member) not in there
        for number, group in enumerate(groups)
        for member in range(len(group.nodes))
    )


def openings(gang: Gang, groups: Collection[NodeGroup], *, may_begin: bool) -> list[Opening]:
    """The Pods whose turn it is: the main node's when all are there, then all others'.

    The gang is not over. AWS: the others are launched once the main node is RUNNING, in no
    particular order.
    """
    main = gang.main
    assert main is not None  # what has none is over
    if main.gated:
        if not may_begin or missing_pods(gang, groups):
            return []
        return _opening(main, groups, {})
    if main.phase is not Phase.RUNNING or main.pod_ip is None:
        return []
    address = {meta.ANNOTATION_MAIN_NODE_ADDRESS: main.pod_ip}
    return [
        opening
        for one in gang.pods
        if one.gated and not one.deleting and one.node_group != MAIN_GROUP
        for opening in _opening(one, groups, address)
    ]


def _opening(
    pod: PodAttempt, groups: Collection[NodeGroup], more: Mapping[str, str]
) -> list[Opening]:
    node = node_index(pod, groups)
    if node is None:
        return []
    return [Opening(pod, {meta.ANNOTATION_NODE_INDEX: str(node), **more})]


def node_index(pod: PodAttempt, groups: Collection[NodeGroup]) -> int | None:
    """Which node a Pod is; None for one that the job does not have."""
    group = _group(pod)
    nodes = tuple(groups)[group].nodes if group < len(groups) else ()
    return nodes[pod.member] if pod.member < len(nodes) else None


def is_over(
    gang: Gang, counted: int, verdicts: Mapping[str, PodAttempt], ending: Collection[PodAttempt]
) -> bool:
    """Whether the main node is over, or is to be: then so are the others.

    Args:
        gang: one attempt.
        counted: how many attempts have been counted.
        verdicts: attempts, by uid, that count otherwise than they show.
        ending: attempts that are to be stopped now.
    """
    main = gang.main
    if main is None or gang.number <= counted:
        return True
    is_ending = main.phase.ended or main.stopping or main.deleting
    return is_ending or main.pod_uid in verdicts or main in ending


def lingers(gang: Gang) -> bool:
    """Whether something of it runs, or may come to run."""
    return any(not one.phase.ended for one in gang.pods) or any(
        _makes_more(gang, job) for job in gang.jobs.values()
    )


def to_stop(gang: Gang) -> list[PodAttempt]:
    """What lives on of a gang whose main node is over, or is to be.

    A Job that has made all its Pods ends with them; one that has not is suspended, for it would
    make more.
    """
    pods = [
        one
        for one in gang.pods
        if one is not gang.main and not (one.phase.ended or one.deleting or one.stopping)
    ]
    return [*pods, *(job for job in gang.jobs.values() if job.pod_uid and _makes_more(gang, job))]


def _makes_more(gang: Gang, job: PodAttempt) -> bool:
    return not job.phase.ended and len(gang.seen(_group(job))) < job.members


def releasable(gang: Gang) -> tuple[PodAttempt, ...]:
    """What can be let go of a gang that has been counted: nothing before its last Pod has ended.

    The Jobs go first: without its Pods a Job would look like one that is still to make them.
    """
    if lingers(gang):
        return ()
    return tuple(gang.jobs.values()) or tuple(one for one in gang.pods if one.tracked)


def usage_of(gang: Gang) -> Counter[str]:
    """Milli-CPU that a gang holds, by compute environment.

    All of it is held until its last Pod has ended: the nodes were given to the job together, and
    nobody steps in between two attempts of it.
    """
    usage: Counter[str] = Counter()
    if not lingers(gang):
        return usage
    for group in {*map(_group, gang.pods), *gang.jobs}:
        job, live = gang.jobs.get(group), [one for one in gang.seen(group) if not one.phase.ended]
        held = sum(one.milli_cpu for one in live)
        if job is not None:
            usage[job.environment] += max(held, job.milli_cpu)
        elif live:
            usage[live[0].environment] += held
    return usage


def deciding(attempts: Sequence[PodAttempt], gangs: Sequence[Gang]) -> Sequence[PodAttempt]:
    """The attempts that decide over the job: of a gang, what stands for it."""
    if not gangs:
        return attempts
    alone = [one for one in attempts if one.node_group is None]
    return [*alone, *(gang.main for gang in gangs if gang.main is not None)]


def with_gangs(children: Children, counted: Sequence[Gang]) -> Children:
    """The children with what can be released of gangs that have been counted.

    A Pod of a gang is let go with all others of it, and a Job is never deleted.
    """
    if not counted:
        return children
    alone = tuple(one for one in children.releasable if one.node_group is None)
    return replace(
        children,
        releasable=(*alone, *(one for gang in counted for one in releasable(gang))),
        overdue=tuple(one for one in children.overdue if not one.is_job),
    )
