"""Attempts that no node takes give way to jobs that can use their vCPUs.

What is placed holds its part of an environment's maxvCpus also while no node has it. As long as
nobody else could use that it waits, and a node that comes has it at once. But one mistake in a
nodeSelector must not keep a queue from its capacity for ever. So an attempt gives way to the job
at the head of a queue (`scheduling.preemption`)

- in a MANAGED environment once no more nodes are ordered for its job (`scheduling.misfits`);
- elsewhere once it has waited for `PATIENCE`, and kube-scheduler says that no node would suit it if
  it were empty. Who only waits for others to end keeps its vCPUs, or large jobs never got room.

An attempt of which a sibling has a node there stays: that job can run. The kind of job that gave
way, of one definition and with the same requests, is kept out of the environment for a while,
longer each time, and goes on elsewhere or says why it does not. Until a Pod of that kind has had a
node there nothing that runs is ended for it. (Kueue's `waitForPodsReady` takes back whatever does
not run in time.)

Which kinds are kept out is not stored: after a restart they are tried again at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.clocks import later
from batch_operator.lifecycle.holds import REQUIREMENT_REASON, Hold, Reason
from batch_operator.scheduling.environments import is_planned
from batch_operator.scheduling.misfits import left_alone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from batch_operator.api.amounts import Amounts
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.evaluate import Evaluation, Job
    from batch_operator.lifecycle.plan import Plan
    from batch_operator.scheduling.nodes_memo import Capacity
    from batch_operator.scheduling.snapshot import Environment

    Requests = tuple[tuple[Amounts, int], ...]
    """By kind of Pod, with how many there are."""

PATIENCE = timedelta(minutes=15)
"""As long as cluster-autoscaler waits for nodes that it has asked for (max-node-provision-time)."""


Kind = tuple[str, str, "Requests"]
"""Namespace, definition with its revision, and what the Pods ask for: no node takes one of these
jobs that would not take another."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A kind is kept out of an environment. `times`: so often by now; `said`: by kube-scheduler."""

    until: datetime
    times: int
    said: str


class Unplaced:
    """The attempts that give way, and the kinds of jobs that are kept out."""

    def __init__(self) -> None:
        self.by_job: dict[str, frozenset[str]] = {}
        """Uids of Pods that give way, those included that are on their way out for it."""
        self._bars: dict[Kind, dict[str, Bar]] = {}
        """Also those that are over, until a Pod of the kind has had a node there."""

    def note(
        self,
        look: Evaluation,
        environments: Mapping[str, Environment],
        capacities: Mapping[str, Capacity],
        now: datetime,
    ) -> tuple[datetime | None, bool]:
        """Note what a look at a job found.

        Returns when more of its attempts give way; and whether its kind is not kept out any more.
        """
        uid, live = look.job.uid, look.children.live
        self.by_job.pop(uid, None)
        waiting = [one for one in live if one.unschedulable and one.phase is Phase.UNBOUND]
        bars = self._bars.get(kind_of(look.job, look.plan), {}) if self._bars and look.plan else {}
        if not (waiting or bars):
            return None, False
        taken_in = {one.environment for one in live if one.phase > Phase.UNBOUND}
        mended = taken_in & bars.keys()
        for name in mended:
            del bars[name]
        times = {
            one.pod_uid: at
            for one in waiting
            if one.environment not in taken_in
            and (at := _gives_way_at(one, environments, capacities, now)) is not None
        }
        found = frozenset(pod_uid for pod_uid, at in times.items() if at <= now)
        if found:
            self.by_job[uid] = found
        return min((at for at in times.values() if at > now), default=None), bool(mended)

    def keep_out(self, attempt: PodAttempt, kind: Kind, now: datetime) -> bool:
        """An attempt gives way: keep its kind out of its environment; False if it is already."""
        bars = self._bars.setdefault(kind, {})
        known = bars.get(attempt.environment)
        if known is not None and known.until > now:
            return False
        times = known.times if known is not None else 0
        until = later(now, left_alone(times))
        bars[attempt.environment] = Bar(until, times + 1, attempt.unschedulable or "")
        return True

    def kept_out_of(self, kind: Kind, now: datetime) -> Mapping[str, Bar]:
        """The environments that a kind is kept out of now."""
        bars = self._bars.get(kind) if self._bars else None
        return {name: one for name, one in bars.items() if one.until > now} if bars else {}

    def is_doubted(self, kind: Kind, environment: str) -> bool:
        """Whether no node of an environment has taken a Pod of the kind, and some did not."""
        return environment in self._bars.get(kind, ())

    def forget(self, uid: str) -> None:
        """The job is over."""
        self.by_job.pop(uid, None)

    def forget_definition(self, namespace: str, name: str) -> None:
        """No job of the definition is left."""
        for kind in [*self._bars]:
            if (kind[0], kind[1].partition(":")[0]) == (namespace, name):
                del self._bars[kind]


def kind_of(job: Job, plan: Plan) -> Kind:
    return job.namespace, plan.definition, plan.pods


def _gives_way_at(
    attempt: PodAttempt,
    environments: Mapping[str, Environment],
    capacities: Mapping[str, Capacity],
    now: datetime,
) -> datetime | None:
    environment = environments.get(attempt.environment)
    if environment is None or attempt.created_at is None:
        return None
    if is_planned(environment):
        known = capacities.get(environment.name)
        misfit = known.misfits.get(attempt.job_uid) if known is not None else None
        return now if misfit is not None and misfit.is_given_up else None
    return later(attempt.created_at, PATIENCE) if attempt.unplaceable else None


def kept_out_hold(bars: Mapping[str, Bar], places: Iterable[Environment]) -> Hold | None:
    """Why a job starts nowhere that is kept out of environments; None if another is left.

    `places` are those that could hold it.
    """
    if not bars:
        return None
    names = [one.name for one in places]
    if not names or any(one not in bars for one in names):
        return None
    name = min(names, key=lambda one: (bars[one].until, one))
    bar = bars[name]
    return Hold(
        Reason.UNSCHEDULABLE,
        f"no node of ComputeEnvironment {name} took its Pod ({bar.said.rstrip('.')}), and others "
        f"can use its vCPUs: it is tried again at {bar.until:%H:%M}Z; see its template's "
        f"nodeSelector, tolerations, affinity, volumes and requests",
        blocked_by=(name,),
        stalled=True,
        status_reason=REQUIREMENT_REASON,
        look_again_at=bar.until,
    )
