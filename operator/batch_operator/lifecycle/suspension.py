"""Attempts of a suspended job that no node has: each is ended, for it would start by itself.

A Pod that waits for a node, and a gang that is still being put together, give back the room that
they hold. The mark that says why goes onto them in a write before the one that ends them, or in the
same, so they count as requeued after any restart: that costs no try. What a node has goes on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.gang import MAIN_GROUP
from batch_operator.lifecycle.outcomes import SUSPENDED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.api.index_set import IndexSet
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.stops import Review

MARK = f"{SUSPENDED}: spec.suspend was set before a node had it"


def with_suspended(reviewed: Review, attempts: Iterable[PodAttempt], pinned: IndexSet) -> Review:
    """The review with the attempts that are requeued because their job is suspended.

    Args:
        reviewed: what else becomes of them, which goes before this.
        attempts: those that decide over the job: of a gang, what stands for it.
        pinned: children that have been requeued too often: they keep their Pods.
    """
    settled = {
        *(one.pod_uid for one in reviewed.to_stop),
        *(one.pod_uid for one, _ in reviewed.to_move),
        *reviewed.verdicts,
    }
    found = tuple(
        (one, MARK)
        for one in attempts
        if _waits(one) and one.index not in pinned and one.pod_uid not in settled
    )
    return replace(reviewed, to_move=(*reviewed.to_move, *found)) if found else reviewed


def _waits(one: PodAttempt) -> bool:
    """Whether it is there and no node has it. Only a main node can be marked for its gang."""
    if one.phase > Phase.UNBOUND or one.is_on_its_way or one.deleting:
        return False
    return one.node_group in {None, MAIN_GROUP}
