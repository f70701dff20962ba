"""Kubernetes' Job controller, for Indexed Jobs: a Pod per index, counted once, replaced or not.

Modelled are completions, parallelism, backoffLimit, backoffLimitPerIndex, podReplacementPolicy,
suspend, and success policies by index; not: NonIndexed Jobs, pod failure policies, deadlines.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.index_set import IndexSet
from batch_operator.cluster.client import JOBS, PODS, tolerating

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from batch_operator.simulator.api_server import ApiServer, Write

    Json = dict[str, Any]

SYNC_S = 0.1
"""From a change to the controller's reaction; it also gathers what happens meanwhile."""
ACTOR = "job-controller"
FINALIZER = "batch.kubernetes.io/job-tracking"
LABEL_INDEX = "batch.kubernetes.io/job-completion-index"
LABEL_JOB_NAME, LABEL_UID = "batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid"
_BACKOFF_LIMIT = 6
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class JobController:
    """Keeps each Indexed Job's Pods and status as its spec says."""

    def __init__(self, server: ApiServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._due: dict[str, tuple[str, str]] = {}
        self._pods: dict[str, dict[str, Json]] = {}
        self._made: dict[tuple[str, int], int] = {}
        self._failures: dict[tuple[str, int], int] = {}
        server.subscribe(self._see)

    @property
    def waiting(self) -> int:
        return len(self._due)

    def _see(self, write: Write) -> None:
        metadata = write.object["metadata"]
        if write.resource == JOBS:
            self._later(metadata["uid"], metadata["namespace"], metadata["name"])
        elif write.resource is PODS and (uid := _owner(write.object)) is not None:
            known = self._pods.setdefault(uid, {})
            if write.is_removal:
                known.pop(metadata["uid"], None)
            else:
                known[metadata["uid"]] = write.object
            self._later(uid, metadata["namespace"], metadata["labels"][LABEL_JOB_NAME])

    def make(self, job: Json, at_s: float) -> list[Json]:
        """Make all Pods of a new Job at once, as if they had been made then."""
        return [self._create(job, index, at_s) for index in range(job["spec"]["completions"])]

    def _later(self, uid: str, namespace: str, name: str) -> None:
        if uid not in self._due:
            self._due[uid] = (namespace, name)
            self._loop.call_later(SYNC_S, self._sync, uid)

    def _sync(self, uid: str) -> None:
        namespace, name = self._due.pop(uid)
        job = self._server.find(JOBS, namespace, name)
        pods = list(self._pods.get(uid, {}).values())
        if job is None or job["metadata"]["uid"] != uid or "deletionTimestamp" in job["metadata"]:
            for pod in pods:  # garbage collection deletes them; nobody counts them any more
                if "deletionTimestamp" in pod["metadata"]:
                    self._release(pod)
            return
        if job["spec"].get("completionMode") == "Indexed":
            self._sync_job(job, pods)

    def _sync_job(self, job: Json, pods: list[Json]) -> None:
        status = self._counted(job, pods)
        over = [one for one in pods if _phase(one) in {"Succeeded", "Failed"}]
        alive = [one for one in pods if _phase(one) not in {"Succeeded", "Failed"}]
        ending = _ending(job, status)
        is_over = ending is not None or _has_ended(status)
        wanted: list[int] = []
        if is_over or job["spec"].get("suspend"):
            for pod in alive:
                self._delete(pod)
        else:
            wanted = _wanted(job, status, alive)
            for index in wanted:
                self._create(job, index)
        terminating = sum(1 for one in alive if "deletionTimestamp" in one["metadata"])
        status["active"] = len(alive) - terminating + len(wanted) if not is_over else 0
        status["terminating"] = terminating
        if ending is not None and not alive:
            kind, reason = ending
            condition = {
                "type": kind,
                "status": "True",
                "reason": reason,
                "lastTransitionTime": self._server.timestamp(),
            }
            status["conditions"] = [*status.get("conditions", ()), condition]
            if kind == "Complete":
                status["completionTime"] = self._server.timestamp()
        status.setdefault("startTime", self._server.timestamp())
        metadata = job["metadata"]
        self._server.update_status(
            JOBS, metadata["namespace"], metadata["name"], lambda _: status, ACTOR
        )
        for pod in over:  # counted in the status that has just been written
            self._release(pod)

    def _counted(self, job: Json, pods: list[Json]) -> Json:
        """The stored status, with every Pod counted that has ended and still has our finalizer."""
        status: Json = dict(job.get("status") or {})
        completed = IndexSet.parse(status.get("completedIndexes"))
        lost = IndexSet.parse(status.get("failedIndexes"))
        failed = status.get("failed", 0)
        limit = job["spec"].get("backoffLimitPerIndex")
        for pod in pods:
            if FINALIZER not in pod["metadata"].get("finalizers", ()):
                continue
            index = _index(pod)
            if _phase(pod) == "Succeeded":
                completed |= IndexSet.of([index])
            elif _phase(pod) == "Failed":
                failed += 1
                key = job["metadata"]["uid"], index
                self._failures[key] = self._failures.get(key, 0) + 1
                if limit is not None and self._failures[key] > limit:
                    lost |= IndexSet.of([index])
        counts = {"succeeded": len(completed), "failed": failed, "completedIndexes": str(completed)}
        return {**status, **counts, **({"failedIndexes": str(lost)} if lost else {})}

    def _create(self, job: Json, index: int, at_s: float | None = None) -> Json:
        metadata, template = job["metadata"], job["spec"]["template"]
        uid = metadata["uid"]
        number = self._made[uid, index] = self._made.get((uid, index), 0) + 1
        digest = hashlib.blake2b(f"{uid}:{index}:{number}".encode(), digest_size=5).digest()
        suffix = "".join(_ALPHABET[one % len(_ALPHABET)] for one in digest)
        template_meta = template.get("metadata") or {}
        variable = {"name": "JOB_COMPLETION_INDEX", "value": str(index)}
        containers = [
            {**one, "env": [*one.get("env", ()), variable]}
            for one in template["spec"]["containers"]
        ]
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{metadata['name']}-{index}-{suffix}",
                "labels": {
                    **template_meta.get("labels", {}),
                    LABEL_INDEX: str(index),
                    LABEL_JOB_NAME: metadata["name"],
                    LABEL_UID: uid,
                },
                "annotations": {**template_meta.get("annotations", {}), LABEL_INDEX: str(index)},
                "finalizers": [*template_meta.get("finalizers", ()), FINALIZER],
                "ownerReferences": [
                    {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "name": metadata["name"],
                        "uid": uid,
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": {
                **template["spec"],
                "hostname": f"{metadata['name']}-{index}",
                "containers": containers,
            },
        }
        return self._server.create(PODS, metadata["namespace"], body, ACTOR, at_s=at_s).object

    def _delete(self, pod: Json) -> None:
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            return
        self._server.delete(
            PODS, metadata["namespace"], metadata["name"], ACTOR, uid=metadata["uid"]
        )

    def _release(self, pod: Json) -> None:
        """Take the tracking finalizer off."""

        def released(old: Json) -> Json:
            left = [one for one in old["metadata"].get("finalizers", ()) if one != FINALIZER]
            return {**old, "metadata": {**old["metadata"], "finalizers": left}}

        metadata = pod["metadata"]
        if FINALIZER not in metadata.get("finalizers", ()):
            return
        with tolerating(404):
            self._server.update(PODS, metadata["namespace"], metadata["name"], released, ACTOR)


def node_of(pod: Mapping[str, Any]) -> int | None:
    """The index of the node that a Pod of a multi-node job is; None for any other Pod."""
    metadata = pod["metadata"]
    place = metadata.get("labels", {}).get(LABEL_INDEX)
    if place is None:
        return None
    nodes = list(IndexSet.parse(metadata.get("annotations", {}).get(meta.ANNOTATION_NODES)))
    return nodes[int(place)] if int(place) < len(nodes) else int(place)


def _owner(pod: Json) -> str | None:
    for one in pod["metadata"].get("ownerReferences", ()):
        if one.get("controller") and one["kind"] == "Job":
            uid: str = one["uid"]
            return uid
    return None


def _phase(pod: Json) -> str:
    """A Pod that is deleted before a node has it is over, as the real controller has it."""
    phase: str = pod["status"].get("phase", "Pending")
    if phase == "Pending" and "deletionTimestamp" in pod["metadata"]:
        return phase if pod["spec"].get("nodeName") else "Failed"
    return phase


def _index(pod: Json) -> int:
    return int(pod["metadata"]["labels"][LABEL_INDEX])


def _has_ended(status: Json) -> bool:
    return any(one["type"] in {"Complete", "Failed"} for one in status.get("conditions", ()))


def _ending(job: Json, status: Json) -> tuple[str, str] | None:
    """How the Job ends, if it does now."""
    if _has_ended(status):
        return None
    spec = job["spec"]
    completed = IndexSet.parse(status["completedIndexes"])
    failed = IndexSet.parse(status.get("failedIndexes"))
    if len(completed) == spec["completions"]:
        return "Complete", "CompletionsReached"
    for rule in (spec.get("successPolicy") or {}).get("rules", ()):
        wanted = IndexSet.range(spec["completions"])
        if "succeededIndexes" in rule:
            wanted = IndexSet.parse(rule["succeededIndexes"])
        if len(completed & wanted) >= rule.get("succeededCount", len(wanted)):
            return "Complete", "SuccessPolicy"
    per_index = spec.get("backoffLimitPerIndex")
    if per_index is not None:
        if len(completed | failed) == spec["completions"]:
            return "Failed", "FailedIndexes"
    elif status["failed"] > spec.get("backoffLimit", _BACKOFF_LIMIT):
        return "Failed", "BackoffLimitExceeded"
    return None


def _wanted(job: Json, status: Json, alive: list[Json]) -> list[int]:
    """Indexes that need a Pod now, lowest first, as many as parallelism lets."""
    spec = job["spec"]
    replaces_early = spec.get("podReplacementPolicy", "TerminatingOrFailed") != "Failed"
    taken = [
        _index(one)
        for one in alive
        if not (replaces_early and "deletionTimestamp" in one["metadata"])
    ]
    done = IndexSet.parse(status["completedIndexes"]) | IndexSet.parse(status.get("failedIndexes"))
    free = IndexSet.range(spec["completions"]) - done - IndexSet.of(taken)
    return free.first(max(0, spec.get("parallelism", 1) - len(taken)))
