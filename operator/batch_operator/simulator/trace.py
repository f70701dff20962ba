"""Every change of state of every job and array child, from what the API server accepted.

A parent's states are those of `status.state`. The states of a single job or of a child follow from
the stored status and the attempt's Pod together: the Pod shows at once what a status, which is
written at most once a second, would leave out; the status says what has been counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job import JobState
from batch_operator.cluster.client import BATCH_JOBS, PODS
from batch_operator.simulator.job_controller import node_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batch_operator.simulator.api_server import Write

    Json = dict[str, Any]

FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED})
_RANK = {state: number for number, state in enumerate(JobState)}
_BEFORE_START = (JobState.SUBMITTED, JobState.PENDING, JobState.RUNNABLE)
_STARTED = (JobState.STARTING, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the trace. `index` is None for a job itself; `before` for its first line."""

    at_s: float
    namespace: str
    job: str
    job_uid: str
    index: int | None
    attempt: int | None
    before: JobState | None
    after: JobState
    reason: str | None
    environment: str | None
    is_parent: bool = False
    node: int | None = None
    """Set for one node of a multi-node job."""

    def to_json(self) -> Json:
        """The line as the contract has it."""
        return {
            "t": round(self.at_s, 3),
            "namespace": self.namespace,
            "job": self.job,
            "index": self.index,
            "node": self.node,
            "attempt": self.attempt,
            "from": self.before,
            "to": self.after,
            "reason": self.reason,
            "computeEnvironment": self.environment,
        }


@dataclass(slots=True)
class _Unit:
    """A single job or one child: where it is, in which attempt."""

    state: JobState
    attempt: int | None = None
    environment: str | None = None
    outcome: str | None = None
    """What the attempt's Pod says about its end."""
    is_new: bool = True
    """It had not started before the trace began."""
    waited_s: float | None = None
    """From its submission, or the trace's begin, to its first start."""


@dataclass(slots=True)
class _Job:
    namespace: str
    name: str
    uid: str
    queue: str
    submitted_s: float
    parent_state: JobState | None
    units: dict[int, _Unit]
    members: IndexSet
    stored: dict[JobState, IndexSet] = field(default_factory=dict)
    used: dict[int, IndexSet] = field(default_factory=dict)
    is_deleted: bool = False
    nodes: dict[int, _Unit] = field(default_factory=dict)
    """The nodes of a multi-node job, once there are Pods for them."""

    @property
    def is_array(self) -> bool:
        return self.parent_state is not None


class Trace:
    """Turns writes into transitions and hands each to `tell`, in order."""

    def __init__(self, tell: Callable[[Transition], None]) -> None:
        self._tell = tell
        self._jobs: dict[str, _Job] = {}

    def waits(self) -> dict[str, tuple[list[float], int]]:
        """By queue: how long single jobs and children waited to start; how many still do."""
        found: dict[str, tuple[list[float], int]] = {}
        for job in self._jobs.values():
            known, left = found.get(job.queue, ([], 0))
            units = job.units.values()
            known += [one.waited_s for one in units if one.waited_s is not None]
            if not job.is_deleted:
                waiting = (one for one in units if one.is_new and one.waited_s is None)
                left += sum(one.state in _BEFORE_START for one in waiting)
            found[job.queue] = known, left
        return found

    def see(self, write: Write) -> None:
        """Take one accepted write."""
        if write.resource is BATCH_JOBS:
            if write.is_removal:
                self._jobs[write.object["metadata"]["uid"]].is_deleted = True
            elif write.is_creation:
                self._submitted(write)
            else:
                self._status_written(write)
        elif write.resource is PODS and not write.is_removal:
            self._pod_written(write)

    def _submitted(self, write: Write) -> None:
        metadata = write.object["metadata"]
        members = members_of(write.object)
        job = _Job(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            queue=write.object["spec"]["jobQueue"],
            submitted_s=write.at_s,
            parent_state=JobState.SUBMITTED if members is not None else None,
            units={},
            members=IndexSet(),
        )
        self._jobs[job.uid] = job
        known = IndexSet.range(1) if members is None else members
        if write.object["status"]["state"] != JobState.SUBMITTED:
            job.members = known
            job.units = {index: _Unit(JobState.SUBMITTED) for index in known}
            _restore(job, write.object["status"])
            return
        if job.is_array:
            self._emit(write, job, None, None, JobState.SUBMITTED)
        self._begin(write, job, known)

    def _begin(self, write: Write, job: _Job, members: IndexSet) -> None:
        """Children become known: at once, or of a `rerunFailedOf` once they are recorded."""
        job.members = members
        for index in members:
            job.units[index] = _Unit(JobState.SUBMITTED)
            self._emit(write, job, index if job.is_array else None, None, JobState.SUBMITTED)

    def _emit(
        self,
        write: Write,
        job: _Job,
        index: int | None,
        before: JobState | None,
        after: JobState,
        reason: str | None = None,
    ) -> None:
        is_parent = job.is_array and index is None
        unit = None if is_parent else job.units[index or 0]
        self._tell(
            Transition(
                at_s=write.at_s,
                namespace=job.namespace,
                job=job.name,
                job_uid=job.uid,
                index=index,
                attempt=unit.attempt if unit else None,
                before=before,
                after=after,
                reason=reason,
                environment=unit.environment if unit else None,
                is_parent=is_parent,
            )
        )

    def _move(
        self, write: Write, job: _Job, index: int, after: JobState, reason: str | None
    ) -> None:
        unit = job.units[index]
        if unit.state is after or unit.state in FINAL:
            return
        before, unit.state = unit.state, after
        if unit.is_new and unit.waited_s is None and after in _STARTED:
            unit.waited_s = write.at_s - job.submitted_s
        self._emit(write, job, index if job.is_array else None, before, after, reason)
        if job.parent_state is JobState.SUBMITTED and after not in {JobState.PENDING, *FINAL}:
            # AWS: as soon as any child is RUNNABLE. An API server on a bad day may take the
            # parent's own status so late that it is over by then.
            job.parent_state = JobState.PENDING
            self._emit(write, job, None, JobState.SUBMITTED, JobState.PENDING)

    # Pods

    def _pod_written(self, write: Write) -> None:
        pod = write.object
        labels = pod["metadata"].get("labels", {})
        job = self._jobs.get(labels.get(meta.LABEL_JOB_UID, ""))
        if job is None or meta.LABEL_ATTEMPT not in labels:
            return
        number = int(labels[meta.LABEL_ATTEMPT])
        if (node := node_of(pod)) is not None:
            self._node_written(write, job, node, number)
            if labels.get(meta.LABEL_NODE_GROUP) != "0":
                return  # a multi-node job is in the state that its main node is in
        index = int(labels.get(meta.LABEL_ARRAY_INDEX, "0"))
        unit = job.units.get(index)
        if unit is None or unit.state in FINAL or number < (unit.attempt or 0):
            return
        after = _pod_state(pod)
        if number > (unit.attempt or 0):
            if after is None:
                return
            if unit.state not in _BEFORE_START:
                # The next attempt's Pod may come before the status that counts the last one.
                self._move(write, job, index, JobState.RUNNABLE, unit.outcome)
            unit.attempt, unit.outcome = number, None
            unit.environment = labels.get(meta.LABEL_COMPUTE_ENVIRONMENT)
        if after is None:
            unit.outcome = _outcome(pod)
        elif _RANK[after] > _RANK[unit.state]:
            reason = f"on node {pod['spec']['nodeName']}" if after is JobState.STARTING else None
            self._move(write, job, index, after, reason)

    def _node_written(self, write: Write, job: _Job, node: int, number: int) -> None:
        """A node of a multi-node job: its states are those of its Pod, attempt by attempt."""
        pod = write.object
        after = _pod_state(pod)
        if after is None:
            ended_well = pod["status"].get("phase") == "Succeeded"
            after = JobState.SUCCEEDED if ended_well else JobState.FAILED
        unit = job.nodes.get(node)
        if unit is not None and (unit.attempt or 0) >= number and unit.state in {after, *FINAL}:
            return
        before = unit.state if unit else None
        environment = pod["metadata"]["labels"].get(meta.LABEL_COMPUTE_ENVIRONMENT)
        job.nodes[node] = _Unit(after, number, environment)
        self._tell(
            Transition(
                at_s=write.at_s,
                namespace=job.namespace,
                job=job.name,
                job_uid=job.uid,
                index=None,
                attempt=number,
                before=before,
                after=after,
                reason=_outcome(pod) if after in FINAL else None,
                environment=environment,
                node=node,
            )
        )

    # Statuses

    def _status_written(self, write: Write) -> None:
        job = self._jobs[write.object["metadata"]["uid"]]
        status = write.object.get("status", {})
        if not job.is_array:
            self._single_status(write, job, status)
            return
        if not job.members:
            self._begin(write, job, members_of(write.object) or IndexSet())
        self._children_status(write, job, status)
        state = JobState(status["state"])
        if job.parent_state is not state and state is not JobState.SUBMITTED:
            before, job.parent_state = job.parent_state, state
            self._emit(write, job, None, before, state, _why(status))

    def _single_status(self, write: Write, job: _Job, status: Json) -> None:
        state = JobState(status["state"])
        unit = job.units[0]
        rows = status.get("attempts", [])
        used = sum(1 for row in rows if "stoppedAt" in row)
        if state in FINAL:
            self._move(write, job, 0, state, _why(status))
        elif unit.attempt is not None and used >= unit.attempt:
            ended = rows[used - 1]
            reason = ended.get("reason") or ended.get("statusReason") or unit.outcome
            self._back(write, job, 0, reason)
        elif unit.attempt in {None, used} and state in _BEFORE_START:
            self._move(write, job, 0, state, _why(status))

    def _back(self, write: Write, job: _Job, index: int, reason: str | None) -> None:
        """To RUNNABLE for another attempt, unless that has been seen already."""
        if job.units[index].state not in _BEFORE_START:
            self._move(write, job, index, JobState.RUNNABLE, reason)

    def _children_status(self, write: Write, job: _Job, status: Json) -> None:
        array = status.get("array")
        if array is None:
            return
        members = job.members  # what else a status names is for a checker to find
        sets = {state: those & members for state, those in _sets(array).items()}
        used = _used(array, members)
        for state in (JobState.SUCCEEDED, JobState.FAILED):
            ended = sets[state] - job.stored.get(state, IndexSet())
            failures = _failures(array) if ended and state is JobState.FAILED else []
            for index in ended:
                reason = next((reason for those, reason in failures if index in those), None)
                self._move(write, job, index, state, reason)
        for number, those in used.items():
            for index in those - job.used.get(number, IndexSet()):
                unit = job.units[index]
                if unit.attempt is not None and number >= unit.attempt:
                    self._back(write, job, index, unit.outcome)
        for state in (JobState.PENDING, JobState.RUNNABLE):
            for index in sets[state] - job.stored.get(state, IndexSet()):
                if job.units[index].attempt is None:
                    self._move(write, job, index, state, None)
        job.stored, job.used = sets, used


def _restore(job: _Job, status: Json) -> None:
    """Take over where a job stands that was not submitted here; nothing of that is told."""
    state = JobState(status["state"])
    array = status.get("array")
    if not job.is_array:
        used = sum("stoppedAt" in row for row in status.get("attempts", ()))
        job.units[0] = _restored(state, used)
        return
    job.parent_state = state
    if array is None:
        return
    job.stored = {one: those & job.members for one, those in _sets(array).items()}
    job.used = _used(array, job.members)
    for one, those in job.stored.items():
        for index in those:
            used = next((times for times, tried in job.used.items() if index in tried), 0)
            job.units[index] = _restored(one, used)


def _restored(state: JobState, used: int) -> _Unit:
    has_started = state in _STARTED
    return _Unit(state, used + 1 if has_started else None, is_new=not (used or has_started))


def members_of(job: Mapping[str, Any]) -> IndexSet | None:
    """The indexes of an array, as far as they are known; None for a job that is none."""
    array = job["spec"].get("arrayProperties")
    if array is None:
        return None
    if "rerunFailedOf" in array:
        stored = job.get("status", {}).get("array") or {}
        return IndexSet.parse(stored.get("members", ""))
    if "indexes" not in array:
        return IndexSet.range(array["size"])
    try:
        return IndexSet.parse(array["indexes"])
    except ValueError:
        return IndexSet.range(1)  # it fails, and says what is wrong with them


def _sets(array: Mapping[str, Any]) -> dict[JobState, IndexSet]:
    indexes = array.get("indexes") or {}
    return {state: IndexSet.parse(indexes.get(state.lower())) for state in JobState}


def _used(array: Mapping[str, Any], members: IndexSet) -> dict[int, IndexSet]:
    """Children that are not over by the number of attempts they have used up."""
    return {
        row["attempts"]: IndexSet.parse(row["indexes"]) & members
        for row in array.get("attempts", ())
    }


def _failures(array: Mapping[str, Any]) -> list[tuple[IndexSet, str | None]]:
    """What children failed of, kind by kind."""
    return [
        (IndexSet.parse(row["indexes"]), row.get("reason") or row.get("statusReason"))
        for row in array.get("failures", ())
    ]


def _pod_state(pod: Mapping[str, Any]) -> JobState | None:
    """The state that a Pod shows its attempt to be in; None once it is over."""
    phase = pod["status"].get("phase")
    if phase in {"Succeeded", "Failed"}:
        return None
    if phase == "Running":
        return JobState.RUNNING
    if pod["spec"].get("nodeName"):
        return JobState.STARTING
    return None if "deletionTimestamp" in pod["metadata"] else JobState.RUNNABLE


def _outcome(pod: Mapping[str, Any]) -> str | None:
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "DisruptionTarget":
            return str(condition["message"])
    for container in pod["status"].get("containerStatuses", ()):
        ended = container["state"].get("terminated")
        if ended and ended["exitCode"]:
            return f"{ended['reason']}, exit code {ended['exitCode']}"
    return None


def _why(status: Mapping[str, Any]) -> str | None:
    pending = status.get("pending") or {}
    return status.get("statusReason") or pending.get("reason")
