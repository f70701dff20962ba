"""Pods that kube-scheduler leaves waiting although a node has room for them, as far as is known.

A plan goes by CPU, memory, GPUs, instance type and capacity type. kube-scheduler knows more: zones,
volumes, affinity, ports, and Pods of others. So a node that could have had a Pod of a job for
`REFUSED_AFTER`, and did not get it, is no place for that job. It is not kept for it, and another
one is ordered in its stead, in case the node was to blame. Once that has not helped nothing is
ordered for the job for `LEFT_ALONE`, longer each time, and it says what the scheduler says.

How long something has been so is counted anew after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.provisioning.packing import demand_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.provisioning.packing import Place

REFUSED_AFTER = timedelta(minutes=2)
UNTRIED_AFTER = timedelta(minutes=10)
"""The same where nothing shows that the scheduler has tried: it tries everything again after five
minutes at the latest, but says nothing if it finds the same as before."""
LEFT_ALONE = timedelta(minutes=30)
LEFT_ALONE_MAX = timedelta(days=1)
NODES_MAX = 2
"""So many nodes are tried for a job."""
_JOBS_MAX = 100
"""So many jobs are judged at a time: a bound on what a plan costs."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Since when a node could have had a Pod, and what the scheduler said of the Pod then."""

    since: datetime
    said: str


@dataclass(slots=True)
class Misfit:
    """What is known of one job's Pods in one environment, by uids of nodes."""

    could_be_on: dict[str, Seen] = field(default_factory=dict)
    refused_by: dict[str, str] = field(default_factory=dict)
    """The names of the nodes."""
    said: str = ""
    """What the scheduler said of the Pod when the last of them was found to be no place for it."""
    until: datetime | None = None
    """When the nodes that refused it are forgotten."""
    times_given_up: int = 0

    @property
    def is_given_up(self) -> bool:
        """Whether no more nodes are ordered for it."""
        return len(self.refused_by) >= NODES_MAX

    def times(self) -> Iterator[datetime]:
        """When something may be otherwise."""
        if self.until is not None:
            yield self.until
        for one in self.could_be_on.values():
            yield one.since + REFUSED_AFTER
            yield one.since + UNTRIED_AFTER


def note_misfits(
    misfits: dict[str, Misfit],
    attempts: Iterable[PodAttempt],
    places: Sequence[Place],
    now: datetime,
) -> tuple[list[str], datetime | None]:
    """Bring `misfits` up to date.

    Returns the jobs of which there is something else to say, and when more may follow by time.
    `places` are the nodes of the environment that take Pods, with what is left on them.
    """
    waiting: dict[str, PodAttempt] = {}
    bound: dict[str, dict[str, datetime]] = {}
    last_bound: datetime | None = None
    for one in attempts:
        if one.phase is Phase.UNBOUND and one.unschedulable and not (one.gated or one.is_job):
            waiting.setdefault(one.job_uid, one)
        if one.node_name is not None and one.bound_at is not None:
            last_bound = max(one.bound_at, last_bound or one.bound_at)
            of_job = bound.setdefault(one.job_uid, {})
            of_job[one.node_name] = max(one.bound_at, of_job.get(one.node_name, one.bound_at))
    turned: list[str] = []
    for uid, misfit in list(misfits.items()):
        is_tried_again = misfit.until is not None and now >= misfit.until
        if uid not in waiting or is_tried_again:
            turned += [uid] if misfit.is_given_up else []
            del misfits[uid]
        if uid in waiting and is_tried_again:
            misfits[uid] = Misfit(times_given_up=misfit.times_given_up)
    given_up = {uid for uid, misfit in misfits.items() if misfit.is_given_up}
    for uid in islice(sorted(waiting.keys() - given_up), _JOBS_MAX):
        misfit = misfits.setdefault(uid, Misfit())
        _note(misfit, waiting[uid], places, bound.get(uid, {}), last_bound, now)
        turned += [uid] if misfit.is_given_up else []
    times = (at for one in misfits.values() for at in one.times())
    return turned, min((at for at in times if at > now), default=None)


def _note(
    misfit: Misfit,
    one: PodAttempt,
    places: Sequence[Place],
    bound: Mapping[str, datetime],
    last_bound: datetime | None,
    now: datetime,
) -> None:
    """What is new of one job, of whose Pods `one` waits. `bound`: by node, the last one there."""
    said, demand = one.unschedulable or "", demand_of(one)
    seen: dict[str, Seen] = {}
    for place in places:
        node = place.node
        if node is None or node.uid in misfit.refused_by or not place.count_of(demand):
            continue
        known = misfit.could_be_on.get(node.uid)
        if known is None or bound.get(node.name, known.since) > known.since:
            known = Seen(now, said)
        is_tried = known.said != said or (last_bound is not None and last_bound > known.since)
        if now >= known.since + (REFUSED_AFTER if is_tried else UNTRIED_AFTER):
            misfit.refused_by[node.uid] = node.name
            misfit.said, misfit.until = said, now + left_alone(misfit.times_given_up)
            misfit.times_given_up += misfit.is_given_up
        else:
            seen[node.uid] = known
    misfit.could_be_on = seen


def left_alone(times: int) -> timedelta:
    """For how long nothing is tried for a job that has been given up so many times before."""
    return min(LEFT_ALONE * (1 << min(times, 8)), LEFT_ALONE_MAX)


def misfit_hold(misfit: Misfit, attempt: PodAttempt) -> Hold:
    """Why nothing is ordered for a job any more, in the scheduler's words."""
    assert misfit.until is not None  # it was set with the first node that refused it
    names = " and ".join(sorted(misfit.refused_by.values())[:NODES_MAX])
    return Hold(
        Reason.UNSCHEDULABLE,
        f"nodes {names} had room for what Pod {attempt.pod_name} requests, and kube-scheduler "
        f"did not put it there: {misfit.said.rstrip('.')}; no more nodes are ordered for it before "
        f"{misfit.until:%H:%M}Z: see its template's nodeSelector, affinity, volumes and ports",
        stalled=True,
    )
