"""Nothing starts before what it depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api.index_set import IndexSet
from batch_operator.cluster.client import BATCH_JOBS, PODS
from batch_operator.simulator.checkers.checker import End, attempt_pod, title
from batch_operator.simulator.trace import members_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.simulator.api_server import Write

_WANTED = {
    None: frozenset({"SUCCEEDED"}),
    "N_TO_N": frozenset({"SUCCEEDED"}),
    "SEQUENTIAL": frozenset({"SUCCEEDED"}),
    "AFTER_ANY": frozenset({"SUCCEEDED", "FAILED"}),
    "AFTER_FAILED": frozenset({"FAILED"}),
}
_PAST = ("RUNNABLE", "STARTING", "RUNNING")


class DependenciesBeforeStart:
    """Reads the last stored status of every job, also of those that have been deleted since.

    A child is judged once: when a stored status has it past its dependencies, or when its Pod is
    made before that. What was let through stays so, whatever becomes of the dependency then.
    """

    name = "dependencies_before_start"

    def __init__(self) -> None:
        self._by_uid: dict[str, Mapping[str, Any]] = {}
        self._by_name: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._past: dict[str, IndexSet] = {}
        """Children that have been judged, or were past their dependencies when the job came."""

    def see(self, write: Write) -> Iterable[str]:
        value = write.object
        if write.resource is BATCH_JOBS:
            metadata = value["metadata"]
            self._by_uid[metadata["uid"]] = value
            self._by_name[metadata["namespace"], metadata["name"]] = value
            past = _past(value.get("status", {}))
            if write.is_creation:
                self._past[metadata["uid"]] = past
            yield from self._let_through(value, past)
        elif write.resource is PODS and write.is_creation:
            pod = attempt_pod(value)
            job = self._by_uid.get(pod.job_uid) if pod else None
            if pod is not None and job is not None:
                yield from self._let_through(job, IndexSet.of([pod.index]))

    def _let_through(self, job: Mapping[str, Any], indexes: IndexSet) -> Iterable[str]:
        uid = job["metadata"]["uid"]
        new = indexes - self._past[uid]
        self._past[uid] |= new
        for one in job["spec"].get("dependsOn", ()):
            for index in new:
                yield from self._check(job, index, one)

    def _check(
        self, job: Mapping[str, Any], index: int, dependency: Mapping[str, Any]
    ) -> Iterable[str]:
        kind = dependency.get("type")
        wanted = _WANTED[kind]
        if kind == "SEQUENTIAL":
            members = members_of(job) or IndexSet()
            target, child = job, max((one for one in members if one < index), default=None)
            if child is None:
                return
        else:
            namespace = job["metadata"]["namespace"]
            found = self._by_name.get((namespace, dependency["job"]))
            if found is None:
                yield f"{title(job)} may start although {dependency['job']} does not exist"
                return
            target = found
            child = index if kind == "N_TO_N" else dependency.get("index")
            if "rerunFailedOf" in target["spec"].get("arrayProperties", {}):
                again = members_of(target)
                if not again:
                    child = None  # of nothing: as a whole it stands for children that it never had
                elif kind == "N_TO_N" and index not in again:
                    return  # it has succeeded before
        state = _state(target, child)
        if state not in wanted:
            of = "" if child is None else f" index {child} of"
            yield (
                f"{title(job)} index {index} may start, but{of} {title(target)} is {state}, "
                f"not {' or '.join(sorted(wanted))}"
            )

    def finish(self, end: End) -> Iterable[str]:
        del end
        return ()


def _past(status: Mapping[str, Any]) -> IndexSet:
    if "array" not in status:
        return IndexSet.range(1) if status.get("state") in _PAST else IndexSet()
    indexes = status["array"].get("indexes") or {}
    return IndexSet.of(
        index for state in _PAST for index in IndexSet.parse(indexes.get(state.lower()))
    )


def _state(job: Mapping[str, Any], child: int | None) -> str:
    status = job.get("status", {})
    if child is None:
        return str(status.get("state"))
    indexes = (status.get("array") or {}).get("indexes") or {}
    for outcome in ("succeeded", "failed"):
        if child in IndexSet.parse(indexes.get(outcome)):
            return outcome.upper()
    return "not over"
