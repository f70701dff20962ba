"""A cluster as it was at one moment, to go on from in virtual time.

A snapshot is what `batch-operator snapshot`, or kubectl, prints: a List of our kinds with the
revisions of definitions and the namespaces. Its moment is virtual time 0, by the calendar too.
Statuses stay as they are: the operator goes on from them, as after a restart.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from batch_operator.api import meta
from batch_operator.api.job_definition import JobDefinitionSpec
from batch_operator.cluster.client import (
    BATCH_JOBS,
    BY_KIND,
    COMPUTE_ENVIRONMENTS,
    CONSUMABLE_RESOURCES,
    CONTROLLER_REVISIONS,
    JOB_DEFINITIONS,
    JOB_QUEUES,
    NAMESPACES,
    SCHEDULING_POLICIES,
    ApiError,
)
from batch_operator.simulator.admission import admitted, check_status, fresh_status
from batch_operator.simulator.scenario import InvalidInputError, Manifest
from batch_operator.simulator.virtual_time import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from batch_operator.cluster.client import Resource

    Json = dict[str, Any]
    DefinitionKey = tuple[str, str]

KINDS = (
    NAMESPACES,
    COMPUTE_ENVIRONMENTS,
    SCHEDULING_POLICIES,
    CONSUMABLE_RESOURCES,
    JOB_QUEUES,
    CONTROLLER_REVISIONS,
    JOB_DEFINITIONS,
    BATCH_JOBS,
)
"""What a snapshot holds, in the order in which it is restored."""
HOW_TO_TAKE = (
    "`batch-operator snapshot` or "
    "`kubectl get batch-operator,controllerrevisions,namespaces -A -o yaml`"
)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z")
_IDENTITY = ("name", "namespace", "uid", "generation", "creationTimestamp", "labels")
"""Of metadata. Owners and finalizers are others': nobody here would ever take them off."""
_CREATED = "creationTimestamp"
_REQUIRED = ("name", "uid", _CREATED)
_HAPPENED = frozenset(
    {
        "at",
        "cameAt",
        _CREATED,
        "frontUpdatedAt",
        "interruptedAt",
        "lastTransitionTime",
        "overdueAt",
        "refusedAt",
        "settledAt",
        "since",
        "startedAt",
        "stoppedAt",
        "time",
        "waitingSince",
    }
)
"""Times of what has happened; any other may be of what is expected. `time` is of managedFields."""
_SPAN_MAX = timedelta(days=100 * 366)
"""So far apart the times of one snapshot may be: no calendar might hold what follows else."""
_OVER = frozenset({"SUCCEEDED", "FAILED"})


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long an attempt of a definition runs, and how many attempts say so."""

    seconds: float
    count: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A snapshot: when it was taken, its objects, and what it tells of run times."""

    moment: datetime
    """In whole seconds."""
    objects: tuple[Manifest, ...]
    run_times: Mapping[DefinitionKey, RunTime]
    """By namespace and name of the definition; none where nothing is known."""

    def of_kind(self, resource: Resource) -> Iterator[Manifest]:
        return (one for one in self.objects if one.resource is resource)


def parsed(text: str, where: str) -> list[Any]:
    """The documents of a snapshot, JSON or YAML."""
    try:
        if text.lstrip().startswith("{"):
            return [json.loads(text)]
        # kubectl's YAML of a large cluster takes minutes without libyaml.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return list(yaml.load_all(text, loader))
    except (ValueError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise InvalidInputError(f"{where}: neither JSON nor YAML: {problem}") from None


def read_recorded(documents: Iterable[Any], where: str) -> Recorded:
    """Check a snapshot.

    Raises:
        InvalidInputError: with a sentence about the first mistake.
    """
    documents = list(documents)
    items = [item for one in documents for item in _items(one, where)]
    ours = [(resource, item) for item in items if (resource := _resource(item)) is not None]
    if not any(resource.group == meta.GROUP for resource, _ in ours):
        raise InvalidInputError(f"{where}: nothing of batch-operator is in it: take {HOW_TO_TAKE}")
    moment = _moment(documents, items, where)
    objects = [_object(resource, item, where) for resource, item in ours]
    kept = [one for one in objects if one is not None]
    _check_identities(kept)
    kept.sort(key=lambda one: (KINDS.index(one.resource), _age(one)))
    _check_revisions(kept, where)
    _check_namespaces(kept, where)
    return Recorded(moment, tuple(kept), dict(_run_times(kept)))


def _items(document: Any, where: str) -> list[Json]:
    """The objects of a List; anything else is an object by itself."""
    if not isinstance(document, dict) or "kind" not in document:
        raise InvalidInputError(f"{where}: no snapshot: take {HOW_TO_TAKE}")
    items = document.get("items") if str(document["kind"]).endswith("List") else [document]
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
        raise InvalidInputError(f"{where}: items: write a list of objects")
    return items


def _resource(item: Mapping[str, Any]) -> Resource | None:
    """The kind of an object, if it is one of ours, a revision of ours, or a Namespace."""
    resource = {**BY_KIND, NAMESPACES.kind: NAMESPACES}.get(str(item.get("kind")))
    if resource is None and item.get("kind") == CONTROLLER_REVISIONS.kind:
        labels = (item.get("metadata") or {}).get("labels") or {}
        is_ours = labels.get(meta.LABEL_MANAGED_BY) == meta.MANAGED_BY
        is_named = meta.LABEL_JOB_DEFINITION in labels
        resource = CONTROLLER_REVISIONS if is_ours and is_named else None
    return resource if resource and resource.api_version == item.get("apiVersion") else None


def _moment(documents: Iterable[Any], items: Iterable[Json], where: str) -> datetime:
    """When the snapshot was taken: as it says itself, but not before what has happened in it."""
    moments: list[tuple[datetime, str]] = []
    for one in documents:
        annotations = (one.get("metadata") or {}).get("annotations") or {}
        taken_at = _times(annotations.get(meta.ANNOTATION_TAKEN_AT))
        moments += [(at, meta.ANNOTATION_TAKEN_AT) for at in taken_at]
    for item in items:
        metadata = item.get("metadata") or {}
        title = f"{item.get('kind')} {metadata.get('name')!r}"
        written = {one: metadata.get(one) for one in (_CREATED, "managedFields")}
        told = [*_happened(written), *_happened(item.get("status"))]
        moments += [(at, title) for at in told]
    first, _ = min([*moments, (EPOCH, "")])
    last, last_of = max(moments, default=(EPOCH, ""))
    if last - first > _SPAN_MAX:
        raise InvalidInputError(
            f"{where}: {last_of} has a time more than 100 years after the first in the snapshot, "
            f"or after {EPOCH.year}: some clock was wrong, so write the time that is meant"
        )
    return last.replace(microsecond=0)


def _times(value: Any) -> Iterator[datetime]:
    """The time that a value is; none where it is something else."""
    if isinstance(value, str) and _TIME.fullmatch(value):
        yield datetime.fromisoformat(value)
    elif isinstance(value, datetime):
        yield value.replace(tzinfo=value.tzinfo or UTC)


def _happened(value: Any) -> Iterator[datetime]:
    """Every time within a value at which something has happened."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _times(one) if name in _HAPPENED else _happened(one)
    elif isinstance(value, list):
        for one in value:
            yield from _happened(one)


def _written(value: Any) -> Any:
    """The value with its times as text, as which YAML without quotes does not leave them."""
    if isinstance(value, datetime):
        return next(_times(value)).isoformat()
    if isinstance(value, dict):
        return {name: _written(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_written(one) for one in value]
    return value


def _object(resource: Resource, item: Json, where: str) -> Manifest | None:
    """One object as it is restored; None for one that is being deleted."""
    metadata = item.get("metadata") or {}
    where = f"{where}: {resource.kind} {metadata.get('name')!r}"
    for field in (*_REQUIRED, *(["namespace"] if resource.namespaced else [])):
        is_there = metadata.get(field) and (field != _CREATED or [*_times(metadata[field])])
        if not is_there:
            raise InvalidInputError(
                f"{where} has no metadata.{field}, so it is from no cluster: take {HOW_TO_TAKE}; "
                f"manifests are given as PATH"
            )
    if "deletionTimestamp" in metadata:
        return None
    body = {
        **item,
        "metadata": {
            "generation": 1,
            **_written({one: metadata[one] for one in _IDENTITY if one in metadata}),
        },
    }
    if status := item.get("status") or fresh_status(resource.kind):
        body["status"] = _written(status)
    try:
        body = admitted(resource.kind, body, None)
        check_status(resource.kind, body.get("status") or {})
        if resource is CONTROLLER_REVISIONS:
            JobDefinitionSpec.model_validate(body.get("data"))
    except (ApiError, ValidationError) as error:
        message = (
            error.message if isinstance(error, ApiError) else "data is no JobDefinition's spec"
        )
        raise InvalidInputError(f"{where}: {message}") from None
    return Manifest(resource, metadata.get("namespace"), metadata["name"], body, where)


def _age(one: Manifest) -> tuple[datetime, str]:
    metadata = one.body["metadata"]
    return datetime.fromisoformat(metadata["creationTimestamp"]), metadata["uid"]


def _check_identities(objects: Iterable[Manifest]) -> None:
    names, uids = set(), set()
    for one in objects:
        name, uid = (one.resource, one.namespace, one.name), one.body["metadata"]["uid"]
        if name in names or uid in uids:
            raise InvalidInputError(f"{one.where} is there twice, or its metadata.uid is")
        names.add(name)
        uids.add(uid)


def _check_revisions(objects: Sequence[Manifest], where: str) -> None:
    """Jobs run revisions of definitions: without any the snapshot was taken of too few kinds."""
    if any(one.resource is CONTROLLER_REVISIONS for one in objects):
        return
    for one in objects:
        status = one.body.get("status") or {}
        given = status.get("jobDefinition")
        if one.resource is BATCH_JOBS and given and status.get("state") not in _OVER:
            raise InvalidInputError(
                f"{where}: BatchJob {one.name!r} runs revision {given}, but no ControllerRevision "
                f"is in the snapshot: take {HOW_TO_TAKE}"
            )


def _check_namespaces(objects: Sequence[Manifest], where: str) -> None:
    """Queues may choose namespaces by labels: without these nothing would start in them."""
    if any(one.resource is NAMESPACES for one in objects):
        return
    for one in objects:
        if one.resource is JOB_QUEUES and "selector" in one.body["spec"].get(
            "allowedNamespaces", {}
        ):
            raise InvalidInputError(
                f"{where}: JobQueue {one.name!r} selects namespaces by their labels, but no "
                f"Namespace is in the snapshot: take {HOW_TO_TAKE}"
            )


def _run_times(objects: Iterable[Manifest]) -> Iterator[tuple[DefinitionKey, RunTime]]:
    """What is known of run times: a definition's own record, else its jobs' attempts."""
    seen: dict[DefinitionKey, list[float]] = defaultdict(list)
    for one in objects:
        if one.resource is BATCH_JOBS:
            seen[definition_of(one.body)] += _durations(one.body.get("status") or {})
    for key, durations in seen.items():
        if durations:
            yield key, RunTime(median(durations), len(durations))
    for one in objects:
        if one.resource is JOB_DEFINITIONS:
            record = (one.body.get("status") or {}).get("runTimes") or {}
            if record.get("count"):
                yield (
                    (one.body["metadata"]["namespace"], one.name),
                    RunTime(float(record["p50Seconds"]), record["count"]),
                )


def definition_of(job: Mapping[str, Any]) -> DefinitionKey:
    """Namespace and name of the definition that a job runs."""
    namespace: str = job["metadata"].get("namespace", "default")
    return namespace, job["spec"]["jobDefinition"].partition(":")[0]


def _durations(status: Mapping[str, Any]) -> Iterator[float]:
    """How long a job's attempts ran that ended well."""
    for row in status.get("attempts", ()):
        if row.get("exitCode") == 0 and "startedAt" in row and "stoppedAt" in row:
            started, stopped = map(datetime.fromisoformat, (row["startedAt"], row["stoppedAt"]))
            yield (stopped - started).total_seconds()
