"""States change along AWS Batch's graph, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.job import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from batch_operator.simulator.trace import Transition

_S = JobState
LEGAL: Mapping[JobState | None, AbstractSet[JobState]] = {
    None: {_S.SUBMITTED},
    _S.SUBMITTED: {_S.PENDING, _S.RUNNABLE, _S.FAILED},
    _S.PENDING: {_S.RUNNABLE, _S.FAILED},
    _S.RUNNABLE: {_S.STARTING, _S.FAILED},
    # AWS: a very short job may be seen to go from STARTING to its end.
    _S.STARTING: {_S.RUNNING, _S.RUNNABLE, _S.SUCCEEDED, _S.FAILED},
    _S.RUNNING: {_S.RUNNABLE, _S.SUCCEEDED, _S.FAILED},
    _S.SUCCEEDED: set(),
    _S.FAILED: set(),
}
LEGAL_FOR_PARENTS: Mapping[JobState | None, AbstractSet[JobState]] = {
    None: {_S.SUBMITTED},
    _S.SUBMITTED: {_S.PENDING, _S.FAILED},
    _S.PENDING: {_S.SUCCEEDED, _S.FAILED},
    _S.SUCCEEDED: set(),
    _S.FAILED: set(),
}
_NOTHING_TO_RERUN = "nothing failed in "
"""So begins the status reason of a rerunFailedOf that has no children; it may end at once."""


class LegalTransitions:
    """Reads the trace; an array's parent knows only four of the seven states."""

    name = "legal_transitions"

    def see(self, transition: Transition) -> Iterable[str]:
        if transition.node is not None:
            return  # a node's states follow its Pods, anew in each attempt of the job
        graph = LEGAL_FOR_PARENTS if transition.is_parent else LEGAL
        allowed = graph.get(transition.before, set())
        if (transition.reason or "").startswith(_NOTHING_TO_RERUN) and transition.is_parent:
            allowed = {_S.SUCCEEDED} if allowed else set()
        if transition.after not in allowed:
            child = "" if transition.index is None else f" index {transition.index}"
            yield (
                f"BatchJob {transition.namespace}/{transition.job}{child} went from "
                f"{transition.before} to {transition.after}"
            )
