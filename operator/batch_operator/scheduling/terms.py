"""On what terms queues take jobs: worked out once in a cycle, however many jobs ask.

They follow from the queue, its environments and its policy, which do not change within a cycle; an
offer stands until one of these does.
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
    follows_from: tuple[object, ...] = ()
    """The queue, its policy and its environments, as they were stored then."""


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
    last: dict[str, Offer] = field(default_factory=dict)
    """The offers of the cycle before."""

    def begin(self) -> None:
        """Another cycle begins."""
        self.last, self.offers = self.offers, {}
        self.terms.clear()


_NOTHING = Offer((), None)


def offer_of(snapshot: Snapshot, memo: Memo, queue: Queue) -> Offer:
    offers = memo.terms.offers
    known = offers.get(queue.name)
    if known is None:
        order = queue.spec.compute_environment_order
        named = (snapshot.environments.get(one.compute_environment) for one in order)
        follows_from = (queue, snapshot.policies.get(queue.spec.scheduling_policy or ""), *named)
        last = memo.terms.last.get(queue.name)
        if last is not None and last.follows_from == follows_from:
            known = offers[queue.name] = last
        else:
            known = offers[queue.name] = Offer(
                usable_environments(queue, snapshot.environments),
                fair_policy(queue, snapshot.policies),
                follows_from,
            )
    return known


def terms_of(snapshot: Snapshot, memo: Memo, job: Job) -> Terms:
    name = job.spec.job_queue
    known = memo.terms.terms.get((name, job.namespace))
    if known is None:
        queue, only_name = snapshot.queues.get(name), {LABEL_NAMESPACE_NAME: job.namespace}
        labels = snapshot.namespaces.get(job.namespace, only_name)
        offer = offer_of(snapshot, memo, queue) if queue is not None else _NOTHING
        hold = queue_hold(name, queue, job.namespace, labels, offer.environments, snapshot.policies)
        known = memo.terms.terms[name, job.namespace] = Terms(hold, offer.environments)
    return known
