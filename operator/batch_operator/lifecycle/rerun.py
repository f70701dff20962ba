"""An array of the indexes that failed in another (`arrayProperties.rerunFailedOf`).

Which these are is asked once, when the other job is over. Before any of them starts they are
recorded in the job's own status: a restart of the operator, or the deletion of the other job, then
changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.index_set import IndexSet
from batch_operator.lifecycle.dependencies import Gate
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.states import FINAL

if TYPE_CHECKING:
    from batch_operator.lifecycle.dependencies import Upstream


def rerun_gate(name: str, array: Upstream | None) -> Gate:
    """What lets the failed indexes of `name` run again: nothing, before they are recorded.

    As soon as the array is over, the gate says which they are.
    """
    if array is None:
        return Gate(IndexSet(), hold=_missing(name))
    if hold := _hold(name, array):
        return Gate(IndexSet(), hold=hold)
    recorded = Hold(
        Reason.WAITING_FOR_DEPENDENCIES,
        f"the {len(array.failed)} indexes that failed in {name} are being recorded",
    )
    return Gate(
        IndexSet(),
        hold=recorded,
        members=array.failed,
        lines=array.lines,
        told_size=array.told_size,
    )


def _missing(name: str) -> Hold:
    return Hold(
        Reason.DEPENDENCY_NOT_FOUND,
        f"runs the failed indexes of {name} again, which does not exist in this namespace: apply "
        f"it, or submit this job again with the indexes",
        blocked_by=(name,),
        stalled=True,
    )


def _hold(name: str, array: Upstream) -> Hold | None:
    if not array.is_array:
        return _invalid(name, "is no array: submit it again, or name an array in rerunFailedOf")
    if array.state not in FINAL:
        return Hold(
            Reason.WAITING_FOR_DEPENDENCIES,
            f"waits for {name} to end, to run its failed indexes again",
            blocked_by=(name,),
        )
    if not array.knows_members:
        return _invalid(name, "ended before it had children: name the array that it was to rerun")
    return None


def _invalid(name: str, problem: str) -> Hold:
    message = f"rerunFailedOf: {name} {problem}"
    return Hold(Reason.DEPENDENCY_INVALID, message, blocked_by=(name,), stalled=True)
