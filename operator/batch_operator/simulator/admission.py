"""What an API server with our CRDs does to an object before it is stored: defaults and refusals.

Types, bounds and required fields are checked with the wire models, unknown fields and defaults with
the CRDs' own schemas. Of the CRDs' CEL rules there are here, in Python, those that a scenario is
likely to meet; `kubectl apply` knows them all.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from batch_operator.api import meta
from batch_operator.api.crd import KINDS, name_problem, structural
from batch_operator.cluster.client import NAMESPACES, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from batch_operator.api.crd import Kind

    Json = dict[str, Any]

_BY_KIND: Mapping[str, Kind] = {kind.kind: kind for kind in KINDS}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_CHANGEABLE = frozenset({"schedulingPriority", "suspend", "cancel", "terminate"})
_WAITING = ("SUBMITTED", "PENDING", "RUNNABLE")
_LIMITED = {
    "CANCEL": _WAITING,
    "TERMINATE": (*_WAITING, "STARTING", "RUNNING"),
    "NEXT_COMPUTE_ENVIRONMENT": ("RUNNABLE", "STARTING"),
    "NOTIFY": (*_WAITING, "STARTING", "RUNNING"),
}
"""The states for which jobStateTimeLimitActions may have an action."""
_KEPT_REQUESTS = ("cancel", "terminate")
NAME_MAX, LABEL_MAX = 253, 63


def admitted(kind: str, body: Json, before: Json | None) -> Json:
    """The object as it would be stored, `status` untouched.

    Args:
        kind: one of ours, or Kubernetes' own, of which only names and labels are checked.
        body: the object as asked for, metadata included.
        before: what is stored now, for an update.

    Raises:
        ApiError: 422 Invalid, with a sentence that names the field.
    """
    problem = _metadata_problem(kind, body.get("metadata") or {})
    if problem is None and kind in _BY_KIND:
        body = {**body, "spec": _defaulted(body.get("spec") or {}, _schema(kind))}
        problem = _spec_problem(kind, body, before)
    elif problem is None and kind == "ConfigMap":
        problem = _config_map_problem(body, before)
    elif problem is None and kind == NAMESPACES.kind:
        body = {**body, "metadata": _with_name_label(body["metadata"])}
    elif problem is None and kind == "Pod":
        problem = _pod_problem(body)
        body = {**body, "spec": _with_requests(body.get("spec") or {})}
    if problem is not None:
        name = (body.get("metadata") or {}).get("name")
        raise ApiError(422, "Invalid", f"{kind} {name!r} is invalid: {problem}")
    return body


def fresh_status(kind: str) -> Json | None:
    """The status that a new object gets; None for a kind that has no default for it."""
    own = _BY_KIND.get(kind)
    return {"observedGeneration": -1, **own.fresh_status} if own else None


def check_status(kind: str, status: Json) -> None:
    """Refuse a status that the CRD would refuse."""
    own = _BY_KIND.get(kind)
    if own is None:
        return
    try:
        own.status.model_validate(status)
    except ValidationError as error:
        raise ApiError(422, "Invalid", f"{kind} is invalid: {_sentence('status', error)}") from None


def _metadata_problem(kind: str, metadata: Mapping[str, Any]) -> str | None:
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        return "metadata.name: required"
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        return "metadata.name: write lower case letters, digits, '-' and '.'"
    if kind in _BY_KIND and (problem := name_problem(name)):
        return problem
    for key, value in (metadata.get("labels") or {}).items():
        if not isinstance(value, str) or len(value) > LABEL_MAX or not _LABEL.fullmatch(value):
            return f"metadata.labels[{key}]: {value!r} is no label value"
    return None


def _spec_problem(kind: str, body: Json, before: Json | None) -> str | None:
    own = _BY_KIND[kind]
    unknown = next(_unknown(body["spec"], _schema(kind), "spec"), None)
    if unknown is not None:
        return f"{unknown}: there is no such field"
    try:
        own.spec.model_validate(body["spec"])
    except ValidationError as error:
        return _sentence("spec", error)
    return _rule_problem(kind, body) or (_change_problem(kind, body, before) if before else None)


def _sentence(root: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    path = root + "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in first["loc"])
    return f"{path}: {first['msg']}"


def _rule_problem(kind: str, body: Json) -> str | None:
    """CEL rules about one object."""
    rules = _RULES.get(kind)
    return rules(body) if rules else None


def _job_problem(job: Json) -> str | None:
    if problem := _array_problem(job):
        return problem
    for one in job["spec"].get("dependsOn", ()):
        if one.get("job") == job["metadata"]["name"]:
            return "spec.dependsOn: a job cannot depend on itself"
        if "job" not in one and one.get("type") != "SEQUENTIAL":
            return "spec.dependsOn: name the job to wait for in job"
    return None


def _array_problem(job: Json) -> str | None:
    array = job["spec"].get("arrayProperties")
    if array is None:
        return None
    if ("rerunFailedOf" in array) == ("size" in array or "indexes" in array):
        return (
            "spec.arrayProperties: give size (indexes 0 to size-1), indexes or both, or nothing "
            "but rerunFailedOf"
        )
    if array.get("rerunFailedOf") == job["metadata"]["name"]:
        return "spec.arrayProperties.rerunFailedOf: name another array"
    return None


def _definition_problem(definition: Json) -> str | None:
    spec = definition["spec"]
    wanted, other = "podTemplate", "nodeProperties"
    if spec.get("type") == "multinode":
        wanted, other = other, wanted
    if wanted not in spec or other in spec:
        return "spec: type container needs podTemplate, type multinode needs nodeProperties"
    return None


def _queue_problem(queue: Json) -> str | None:
    for field in ("order", "computeEnvironment"):
        values = [one[field] for one in queue["spec"]["computeEnvironmentOrder"]]
        if len(values) != len(set(values)):
            return f"spec.computeEnvironmentOrder: give each entry a {field} of its own"
    for rule in queue["spec"].get("jobStateTimeLimitActions", ()):
        if rule["state"] not in _LIMITED[rule["action"]]:
            states = ", ".join(_LIMITED[rule["action"]])
            return f"spec.jobStateTimeLimitActions: {rule['action']} is for {states}"
        if rule["state"] == "RUNNING" and rule["reason"] != "*":
            return "spec.jobStateTimeLimitActions: a RUNNING job waits for nothing: write '*'"
    return None


def _environment_problem(environment: Json) -> str | None:
    spec = environment["spec"]
    if spec.get("minvCpus", 0) > spec["maxvCpus"]:
        return "spec.minvCpus: must not be above maxvCpus"
    if spec.get("minvCpus", 0) and spec["type"] == "UNMANAGED":
        return "spec: minvCpus is for type MANAGED: nobody adds nodes to an UNMANAGED environment"
    provisioner = spec.get("provisioner", {}).get("type")
    if spec.get("minvCpus", 0) and provisioner in {"karpenter", "none"}:
        return "spec: minvCpus needs a provisioner that orders nodes: leave it out"
    brings_capacity = provisioner in {"serverless", "none"}
    if spec["type"] == "MANAGED" and "instanceTypes" not in spec and not brings_capacity:
        return "spec.instanceTypes: type MANAGED needs them"
    if spec["type"] == "UNMANAGED" and "provisioner" in spec:
        return "spec.provisioner: leave it out, or write type: MANAGED"
    return None


_RULES: Mapping[str, Callable[[Json], str | None]] = {
    "BatchJob": _job_problem,
    "JobDefinition": _definition_problem,
    "JobQueue": _queue_problem,
    "ComputeEnvironment": _environment_problem,
}


def _change_problem(kind: str, body: Json, before: Json) -> str | None:
    """CEL rules about what may change."""
    old, new = before["spec"], body["spec"]
    if kind == "ConsumableResource" and old["resourceType"] != new["resourceType"]:
        return "spec: resourceType cannot be changed: make another ConsumableResource"
    if kind == "ComputeEnvironment":
        return _environment_change_problem(old, new)
    if kind != "BatchJob":
        return None
    for field in sorted({*old, *new} - _CHANGEABLE):
        if old.get(field) != new.get(field):
            return f"spec.{field}: cannot be changed once the job is submitted: submit a new job"
    for field in _KEPT_REQUESTS:
        if field in old and field not in new:
            return f"spec.{field}: the request cannot be taken back: submit a new job"
    return None


def _environment_change_problem(old: Json, new: Json) -> str | None:
    another = "make another environment, and name it in the queues' computeEnvironmentOrder"
    if old["type"] != new["type"]:
        return f"spec: type cannot be changed: {another}"
    types = [one["provisioner"]["type"] for one in (old, new) if "provisioner" in one]
    if len(set(types)) > 1:
        return f"spec: provisioner.type cannot be changed: {another}"
    if (old.get("allocationStrategy") == "BEST_FIT") != (
        new.get("allocationStrategy") == "BEST_FIT"
    ):
        return f"spec: BEST_FIT can be neither set nor left by an update: {another}"
    return None


def _config_map_problem(body: Json, before: Json | None) -> str | None:
    if before is not None and before.get("immutable"):
        kept = (body.get("data") or {}) == (before.get("data") or {})
        if not (kept and body.get("immutable")):
            return "data: field is immutable when `immutable` is set"
    for key, value in (body.get("data") or {}).items():
        if not isinstance(value, str):
            return f"data[{key}]: {value!r} is no text: put it in quotes"
    return None


def _with_name_label(metadata: Json) -> Json:
    labels = {**(metadata.get("labels") or {}), meta.LABEL_NAMESPACE_NAME: metadata["name"]}
    return {**metadata, "labels": labels}


def _pod_problem(body: Json) -> str | None:
    containers = (body.get("spec") or {}).get("containers") or []
    if not containers:
        return "spec.containers: required"
    for number, container in enumerate(containers):
        for field in ("name", "image"):
            if not container.get(field):
                return f"spec.containers[{number}].{field}: required"
    return None


def _with_requests(spec: Json) -> Json:
    """Quantities as text, and requests filled in from limits, as the API server does it."""
    made = dict(spec)
    for field in ("containers", "initContainers"):
        if spec.get(field):
            made[field] = [_filled(one) for one in spec[field]]
    return _filled(made)


def _filled(owner: Json) -> Json:
    resources = owner.get("resources")
    if not resources:
        return owner
    limits = {name: str(value) for name, value in (resources.get("limits") or {}).items()}
    given = {name: str(value) for name, value in (resources.get("requests") or {}).items()}
    parts = {"requests": {**limits, **given}, "limits": limits}
    return {**owner, "resources": {**resources, **{k: v for k, v in parts.items() if v}}}


@cache
def _schema(kind: str) -> Mapping[str, Any]:
    return structural(_BY_KIND[kind].spec)


def _unknown(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Paths of fields that the schema does not know."""
    if isinstance(value, dict):
        known = schema.get("properties")
        others = schema.get("additionalProperties")
        for name, field in value.items():
            if known is not None and name in known:
                yield from _unknown(field, known[name], f"{path}.{name}")
            elif others is not None:
                yield from _unknown(field, others, f"{path}.{name}")
            elif known is not None and not schema.get("x-kubernetes-preserve-unknown-fields"):
                yield f"{path}.{name}"
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown(item, schema.get("items", {}), f"{path}[{number}]")


def _defaulted(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value with the schema's defaults where fields are absent, as structural schemas say."""
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties")
        filled = {
            name: _defaulted(field, properties.get(name, others or {}))
            for name, field in value.items()
        }
        for name, field in properties.items():
            if "default" in field and name not in filled:
                filled[name] = field["default"]
        return filled
    if isinstance(value, list):
        return [_defaulted(item, schema.get("items", {})) for item in value]
    return value
