"""On what terms queues take jobs: worked out once in a cycle, however many jobs ask.

They follow from the queue, its environments and its policy, which do not change within a cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batch_operator.api.meta import LABEL_NAMESPACE_NAME
from batch_operator.scheduling.environments import fair_policy, usable_environments
from batch_operator.scheduling.obstacles import queue_hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_operator.api.scheduling_policy import FairsharePolicy
    from batch_operator.lifecycle.holds import Hold
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Job, Queue, Snapshot


@dataclass(frozen=True, slots=True)
class Offer:
    """What a queue has to offer: its usable environments in order, and how they are shared."""

    environments: Sequence[Environment]
    policy: FairsharePolicy | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a queue says to jobs of one namespace. `hold`: why it takes nothing from it now."""

    hold: Hold | None
    environments: Sequence[Environment]


@dataclass(slots=True)
class TermsOfCycle:
    """What has been worked out in this cycle, by queue and namespace; offers are made to all."""

    offers: dict[str, Offer] = field(default_factory=dict)
    terms: dict[tuple[str, str], Terms] = field(default_factory=dict)

    def clear(self) -> None:
        self.offers.clear()
        self.terms.clear()


_NOTHING = Offer((), None)


def offer_of(snapshot: Snapshot, memo: Memo, queue: Queue) -> Offer:
    known = memo.terms.offers.get(queue.name)
    if known is None:
        known = memo.terms.offers[queue.name] = Offer(
            usable_environments(queue, snapshot.environments),
            fair_policy(queue, snapshot.policies),
        )
    return known


def terms_of(snapshot: Snapshot, memo: Memo, job: Job) -> Terms:
    name = job.spec.job_queue
    known = memo.terms.terms.get((name, job.namespace))
    if known is None:
        queue, only_name = snapshot.queues.get(name), {LABEL_NAMESPACE_NAME: job.namespace}
        labels = snapshot.namespaces.get(job.namespace, only_name)
        known = memo.terms.terms[name, job.namespace] = Terms(
            queue_hold(
                name, queue, job.namespace, labels, snapshot.environments, snapshot.policies
            ),
            (offer_of(snapshot, memo, queue) if queue is not None else _NOTHING).environments,
        )
    return known
