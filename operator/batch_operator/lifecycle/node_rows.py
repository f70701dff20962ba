"""A multi-node job's status, range by range: its nodes by state, in the attempt that counts now."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from batch_operator.api.job import JobState, NodeRangeStatus
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.states import FINAL

if TYPE_CHECKING:
    from batch_operator.lifecycle.evaluate import Evaluation

_STATES = {
    Phase.ASSUMED: JobState.RUNNABLE,
    Phase.UNBOUND: JobState.RUNNABLE,
    Phase.STARTING: JobState.STARTING,
    Phase.RUNNING: JobState.RUNNING,
    Phase.SUCCEEDED: JobState.SUCCEEDED,
    Phase.FAILED: JobState.FAILED,
}

_RANK = tuple(JobState)


def node_rows(look: Evaluation, state: JobState) -> list[NodeRangeStatus]:
    """One row for each range of the definition.

    AWS: a node's record ends by its own exit code. The row is written last when the job ends, which
    is with its main node: of nodes that are still being stopped then it says that they failed, as
    most of them do, for another write would be needed to tell. A node without a Pod is where the
    job is, in `state`.
    """
    groups = look.plan.groups if look.plan else ()
    if not groups:
        return list(look.job.status.nodes)
    number = look.children.counted.used(0) + 1
    pods = {
        (one.node_group, one.member): one
        for gang in look.gangs
        if gang.number == number or look.ending
        for one in gang.pods
    }
    counts: dict[str, Counter[JobState]] = defaultdict(Counter)
    for place, group in enumerate(groups):
        for member in range(len(group.nodes)):
            pod = pods.get((place, member))
            found = _STATES[pod.phase] if pod else min(state, JobState.RUNNABLE, key=_RANK.index)
            if look.ending and found not in FINAL:
                found = JobState.FAILED
            counts[group.target_nodes][found] += 1
    return [
        NodeRangeStatus(
            target_nodes=text,
            state=_overall(those),
            status_summary={state: those[state] for state in JobState if those[state]},
        )
        for text, those in sorted(counts.items(), key=lambda one: _first(one[0]))
    ]


def _overall(counts: Counter[JobState]) -> JobState:
    still = [state for state in JobState if counts[state] and state not in FINAL]
    if still:
        return still[-1]
    return JobState.FAILED if counts[JobState.FAILED] else JobState.SUCCEEDED


def _first(target_nodes: str) -> tuple[int, str]:
    return int(target_nodes.partition(":")[0] or "0"), target_nodes
