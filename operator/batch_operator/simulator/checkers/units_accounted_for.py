"""Nobody holds more units than there are, and nothing is used up that was not granted before."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.index_set import IndexSet
from batch_operator.cluster.client import (
    BATCH_JOBS,
    CONSUMABLE_RESOURCES,
    CONTROLLER_REVISIONS,
    PODS,
)
from batch_operator.simulator.checkers.checker import AttemptPod, End, attempt_pod, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from batch_operator.simulator.api_server import Write

Child = tuple[str, int]
_FINAL = frozenset({"SUCCEEDED", "FAILED"})


class UnitsAccountedFor:
    """Each attempt of a child holds its units; what a job says of them hides its definition's.

    AWS gives units back when a job is over, so a Pod that still ends then holds none. Of what is
    used up, a child's grant has to be stored before its first Pod, in the resource that there is
    then; and what has been granted once, in whatever row, never becomes less. `notice_s` is how
    long the operator may take to learn of a smaller total.
    """

    name = "units_accounted_for"

    def __init__(self, notice_s: float) -> None:
        self._notice_s = notice_s
        self._resources: dict[str, Mapping[str, Any]] = {}
        self._totals: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self._used_up: dict[str, int] = {}
        self._jobs: dict[str, Mapping[str, Any]] = {}
        self._revisions: dict[tuple[str, str, str], Mapping[str, Any]] = {}
        self._needs: dict[Child, Mapping[str, int]] = {}
        self._holders: dict[str, Child] = {}
        """By uid of a live Pod: whose units it keeps from others."""
        self._started: dict[str, dict[Child, int]] = defaultdict(dict)
        """By uid of a resource that is used up: children that have started, and their units."""

    def see(self, write: Write) -> Iterable[str]:
        value = write.object
        if write.resource is CONSUMABLE_RESOURCES:
            yield from self._see_resource(write)
        elif write.resource is BATCH_JOBS:
            self._see_job(write)
        elif write.resource is CONTROLLER_REVISIONS and write.is_creation:
            metadata = value["metadata"]
            definition = metadata.get("labels", {}).get(meta.LABEL_JOB_DEFINITION, "")
            key = metadata["namespace"], definition, str(value["revision"])
            self._revisions[key] = value.get("data", {})
        elif write.resource is PODS and (pod := attempt_pod(value)) is not None:
            if write.is_removal or not pod.is_live:
                self._holders.pop(pod.uid, None)
            elif write.is_creation and pod.job_uid in self._jobs:
                yield from self._start(write, pod)

    def _see_resource(self, write: Write) -> Iterable[str]:
        name, uid = write.object["metadata"]["name"], write.object["metadata"]["uid"]
        if write.is_removal:
            self._resources.pop(name, None)
            self._totals.pop(name, None)
            return
        self._resources[name] = write.object
        self._totals[name].append((write.at_s, write.object["spec"]["totalQuantity"]))
        now = _used_up(write.object)
        before = self._used_up.get(uid, 0)
        self._used_up[uid] = now
        if now < before:
            yield f"{title(write.object)}: {before} units were used up, and now {now}"

    def _see_job(self, write: Write) -> None:
        uid = write.object["metadata"]["uid"]
        self._jobs[uid] = write.object
        if write.is_removal:
            del self._jobs[uid]
        if write.is_removal or write.object.get("status", {}).get("state") in _FINAL:
            for pod in [pod for pod, child in self._holders.items() if child[0] == uid]:
                del self._holders[pod]

    def _start(self, write: Write, pod: AttemptPod) -> Iterable[str]:
        """A Pod was made: its attempt may hold units from now on."""
        job = self._jobs[pod.job_uid]
        needs = self._needs_of(job, write.object)
        if not needs:
            return
        self._needs[pod.child] = needs
        self._holders[pod.uid] = pod.child
        for name, quantity in needs.items():
            resource = self._resources.get(name)
            if resource is None:
                yield f"Pod {pod.name} was created without ConsumableResource {name}"
            elif resource["spec"].get("resourceType") == "NON_REPLENISHABLE":
                yield from self._use_up(pod, quantity, resource)
            else:
                those = set(self._holders.values())
                held = sum(self._needs[one].get(name, 0) for one in those)
                total = self._total(name, write.at_s)
                if held > total:
                    yield f"with Pod {pod.name} attempts hold {held} {name}, of {total}"

    def _needs_of(self, job: Mapping[str, Any], pod: Mapping[str, Any]) -> Mapping[str, int]:
        """Units of one child, all its nodes together."""
        labels = pod["metadata"]["labels"]
        definition = job["spec"]["jobDefinition"].partition(":")[0]
        key = job["metadata"]["namespace"], definition, labels.get(meta.LABEL_REVISION, "")
        revision = self._revisions.get(key, {})
        nodes = (revision.get("nodeProperties") or {}).get("numNodes", 1)
        nodes = (job["spec"].get("nodeOverrides") or {}).get("numNodes") or nodes
        asked = job["spec"].get("consumableResources") or revision.get("consumableResources") or []
        return {one["name"]: one["quantity"] * nodes for one in asked}

    def _use_up(self, pod: AttemptPod, quantity: int, resource: Mapping[str, Any]) -> Iterable[str]:
        started = self._started[resource["metadata"]["uid"]]
        if pod.child in started:
            return
        started[pod.child] = quantity
        if pod.index not in _granted_to(pod.job_uid, resource):
            yield f"Pod {pod.name} was created, and {title(resource)} has no grant for it"
        used, needed = _used_up(resource), sum(started.values())
        if used < needed:
            yield f"{title(resource)}: {needed} units have been needed, but {used} are used up"

    def _total(self, name: str, at_s: float) -> int:
        """The largest total that was valid lately."""
        known = self._totals[name]
        valid = [total for since_s, total in known if since_s >= at_s - self._notice_s]
        before = [total for since_s, total in known if since_s < at_s - self._notice_s]
        return max([*valid, *before[-1:]], default=0)

    def finish(self, end: End) -> Iterable[str]:
        """Nothing was granted beyond the total, and what was is spent when its job is over."""
        totals = {
            resource["metadata"]["uid"]: max(total for _, total in self._totals[name])
            for name, resource in self._resources.items()
        }
        for resource in self._resources.values():
            uid = resource["metadata"]["uid"]
            if self._used_up[uid] > totals[uid]:
                yield f"{title(resource)}: {self._used_up[uid]} are used up, of {totals[uid]}"
            if end.is_settled:
                yield from self._left_over(resource)

    def _left_over(self, resource: Mapping[str, Any]) -> Iterable[str]:
        open_: AbstractSet[str] = {
            uid
            for uid, job in self._jobs.items()
            if job.get("status", {}).get("state") not in _FINAL
        }
        for one in _grants(resource):
            if one["jobUid"] not in open_:
                yield f"{title(resource)} still has a grant for job {one['jobUid']}, which is over"


def _grants(resource: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return resource.get("status", {}).get("grants") or ()


def _granted_to(job_uid: str, resource: Mapping[str, Any]) -> IndexSet:
    rows = (one["indexes"] for one in _grants(resource) if one["jobUid"] == job_uid)
    return IndexSet.parse(next(iter(rows), ""))


def _used_up(resource: Mapping[str, Any]) -> int:
    """Units that jobs that are over have used up, and that others were granted."""
    used: int = resource.get("status", {}).get("spentQuantity", 0)
    for one in _grants(resource):
        used += one["quantity"] * len(IndexSet.parse(one["indexes"]))
    return used
