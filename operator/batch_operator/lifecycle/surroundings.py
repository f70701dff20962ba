"""What a look at a job is told of its queue, its compute environments and their nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from batch_operator.api.job_queue import JobStateTimeLimitAction


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`rules` are the queue's time limits."""

    rules: Sequence[JobStateTimeLimitAction] = ()
    gone: Collection[str] = ()
    """Compute environments of its attempts that are no more."""
    going: Collection[str] = ()
    """Nodes of its attempts that are about to be taken away."""


NOWHERE = Surroundings()
