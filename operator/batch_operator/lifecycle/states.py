"""The states of a job and every step between them, as one table.

AWS Batch's seven words. A status is written less often than Pods change, so what is seen of a job
may leave states out; it never shows a step that no path of this table leads along.
"""

from __future__ import annotations

from dataclasses import dataclass

from batch_operator.api.job import JobState

S = JobState
FINAL = frozenset({S.SUCCEEDED, S.FAILED})


@dataclass(frozen=True, slots=True)
class Transition:
    """One step. `trigger` is what happens; `reason` what the status then says, in AWS's words."""

    source: JobState
    target: JobState
    trigger: str
    reason: str = ""


_CANCELED = "Canceled (or Terminated) by JobStateTimeLimit action …"
_NOTHING_FAILED = "its rerunFailedOf is over and nothing failed in it"
_NOTHING_TO_RERUN = "nothing failed in …: nothing to run again"
_TERMINATED = "Terminated by JobStateTimeLimit action …"

TRANSITIONS = (
    Transition(S.SUBMITTED, S.PENDING, "it has a dependency that is not over"),
    Transition(S.SUBMITTED, S.RUNNABLE, "it waits for no dependency"),
    Transition(S.SUBMITTED, S.SUCCEEDED, _NOTHING_FAILED, _NOTHING_TO_RERUN),
    Transition(S.SUBMITTED, S.FAILED, "cancel or terminate", "the request's reason"),
    Transition(S.SUBMITTED, S.FAILED, "it can never run as it was written", "Invalid job: …"),
    Transition(S.SUBMITTED, S.FAILED, "a time limit of its queue", _CANCELED),
    Transition(S.PENDING, S.RUNNABLE, "its dependencies are met"),
    Transition(S.PENDING, S.SUCCEEDED, _NOTHING_FAILED, _NOTHING_TO_RERUN),
    Transition(S.PENDING, S.FAILED, "a dependency failed", "Dependent Job failed"),
    Transition(S.PENDING, S.FAILED, "cancel or terminate", "the request's reason"),
    Transition(S.PENDING, S.FAILED, "a time limit of its queue", _CANCELED),
    Transition(S.RUNNABLE, S.STARTING, "a node has its Pod"),
    Transition(S.RUNNABLE, S.FAILED, "cancel or terminate", "the request's reason"),
    Transition(S.RUNNABLE, S.FAILED, "the API server refused its Pod for good", "Invalid job: …"),
    Transition(S.RUNNABLE, S.FAILED, "a time limit of its queue", _CANCELED),
    Transition(S.STARTING, S.RUNNING, "its containers run"),
    Transition(S.STARTING, S.RUNNABLE, "the attempt failed to start and is retried"),
    Transition(S.STARTING, S.RUNNABLE, "it is preempted or moved", "Preempted: …, Moved …"),
    Transition(S.STARTING, S.RUNNABLE, "it was suspended before a node had it", "Suspended: …"),
    Transition(S.STARTING, S.RUNNABLE, "its node rejects it", "Task failed to start"),
    Transition(S.STARTING, S.FAILED, "the attempt failed to start", "Task failed to start"),
    Transition(S.STARTING, S.FAILED, "terminate", "the request's reason"),
    Transition(S.STARTING, S.FAILED, "a time limit of its queue", _TERMINATED),
    Transition(S.RUNNING, S.SUCCEEDED, "exit code 0", "Essential container in task exited"),
    Transition(S.RUNNING, S.RUNNABLE, "the attempt failed and is retried"),
    Transition(S.RUNNING, S.RUNNABLE, "it is preempted", "Preempted: …"),
    Transition(S.RUNNING, S.FAILED, "the last attempt failed", "why the attempt failed"),
    Transition(S.RUNNING, S.FAILED, "timeout", "Job attempt duration exceeded timeout"),
    Transition(S.RUNNING, S.FAILED, "terminate", "the request's reason"),
    Transition(S.RUNNING, S.FAILED, "a time limit of its queue", _TERMINATED),
)


def _reachable() -> dict[JobState, frozenset[JobState]]:
    steps = {state: {one.target for one in TRANSITIONS if one.source is state} for state in S}
    found: dict[JobState, frozenset[JobState]] = {}
    for state in S:
        seen: set[JobState] = set()
        left = [state]
        while left:
            for target in steps[left.pop()] - seen:
                seen.add(target)
                left.append(target)
        found[state] = frozenset(seen)
    return found


_REACHABLE = _reachable()


def may_follow(before: JobState, after: JobState) -> bool:
    """Whether a job that was seen in one state may be seen in the other next."""
    return before is after or after in _REACHABLE[before]


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> SUBMITTED: accepted by the API server"]
    pairs = dict.fromkeys((one.source, one.target) for one in TRANSITIONS)
    for source, target in pairs:
        triggers = [
            one.trigger for one in TRANSITIONS if (one.source, one.target) == (source, target)
        ]
        lines.append(f"    {source} --> {target}: {', or '.join(triggers)}")
    lines += [f"    {state} --> [*]" for state in sorted(FINAL)]
    return "\n".join(lines) + "\n"
