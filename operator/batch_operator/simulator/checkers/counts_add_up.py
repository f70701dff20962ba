"""An array's counts sum to its size, and every index is in exactly one set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState
from batch_operator.cluster.client import BATCH_JOBS
from batch_operator.simulator.checkers.checker import End, title
from batch_operator.simulator.trace import members_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from batch_operator.simulator.api_server import Write


class CountsAddUp:
    """Children that are SUBMITTED are counted but not listed."""

    name = "counts_add_up"

    def see(self, write: Write) -> Iterable[str]:
        if write.resource is not BATCH_JOBS or write.is_removal:
            return
        job = write.object
        array = job.get("status", {}).get("array")
        members = members_of(job)
        if array is None:
            return
        if members is None:
            yield f"{title(job)} is no array, but has status.array"
            return
        for sentence in _problems(array, members):
            yield f"{title(job)}: {sentence}"

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()


def _problems(array: Mapping[str, Any], members: IndexSet) -> Iterable[str]:
    counts = array.get("statusSummary", {})
    if not sum(counts.values()) == array["size"] == len(members):
        yield f"{len(members)} children, size {array['size']}, counts {counts}"
    seen = IndexSet()
    for state in JobState:
        those = IndexSet.parse((array.get("indexes") or {}).get(state.lower()))
        if state is not JobState.SUBMITTED and len(those) != counts.get(state, 0):
            yield f"{counts.get(state, 0)} are {state}, but the indexes are {those}"
        if twice := those & seen:
            yield f"indexes {twice} are {state} and something else"
        seen |= those
    if strangers := seen - members:
        yield f"indexes {strangers} are none of its own"
