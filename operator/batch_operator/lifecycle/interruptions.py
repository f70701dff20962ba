"""Attempts on nodes that are about to be taken away: each is ended while there is time.

Nobody waits for the node's death: the containers get SIGTERM and their grace period, and what
follows is what follows a lost host (AWS: `Host EC2 (instance …) terminated.`). It uses up a try, as
AWS has it. The mark that says so goes onto the Pod in the write that ends it, so it counts as that
after any restart. Of a gang every node is told for itself, and the main node's end decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batch_operator.lifecycle.outcomes import host_lost

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.stops import Review


def with_interrupted(
    reviewed: Review, attempts: Iterable[PodAttempt], going: Collection[str]
) -> Review:
    """The review with the live attempts that `going` nodes have; what ends anyway is left alone."""
    if not going:
        return reviewed
    spared = {one.pod_uid for one in reviewed.to_stop} | reviewed.verdicts.keys()
    found = {
        one.pod_uid: (one, host_lost(one.node_name))
        for one in attempts
        if one.node_name in going and _is_live(one) and one.pod_uid not in spared
    }
    if not found:
        return reviewed
    moves = {one.pod_uid: (one, mark) for one, mark in reviewed.to_move}
    return replace(reviewed, to_move=tuple({**moves, **found}.values()))


def _is_live(one: PodAttempt) -> bool:
    return not (one.phase.ended or one.deleting or one.stopping)
