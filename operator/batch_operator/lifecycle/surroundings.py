"""What a look at a job is told of its queue, its compute environments and their nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from batch_operator.api.job_queue import JobStateTimeLimitAction


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`rules` are the queue's time limits."""

    rules: Sequence[JobStateTimeLimitAction] = ()
    max_waits: Mapping[str, int] = field(default_factory=dict)
    """By compute environment with others behind it: for how many seconds a Pod waits for a node."""
    moves_max: int = 0
    """So often a child is moved on by these: after that it has been offered to all of them."""
    served: Collection[str] = ()
    """Compute environments that get nodes: who waits for one there does not lack capacity."""
    closed: Collection[str] = ()
    """Those of its attempts that take no more work, where others do that suit it."""
    ending: Collection[str] = ()
    """Those of its attempts that are being deleted."""
    gone: Collection[str] = ()
    """Compute environments of its attempts that are no more."""
    going: Collection[str] = ()
    """Nodes of its attempts that are about to be taken away."""


NOWHERE = Surroundings()
