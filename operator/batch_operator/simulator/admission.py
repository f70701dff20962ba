"""What an API server with our CRDs does to an object before it is stored: defaults and refusals.

Types, bounds and required fields are checked with the wire models, unknown fields, defaults and CEL
rules with the CRDs' own schemas.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from batch_operator.api import meta
from batch_operator.api.crd import KINDS, structural
from batch_operator.cluster.client import NAMESPACES, ApiError
from batch_operator.simulator.cel import rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batch_operator.api.crd import Kind

    Json = dict[str, Any]

_BY_KIND: Mapping[str, Kind] = {kind.kind: kind for kind in KINDS}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
NAME_MAX, LABEL_MAX = 253, 63
_RULES = "x-kubernetes-validations"


def admitted(kind: str, body: Json, before: Json | None) -> Json:
    """The object as it would be stored, `status` untouched.

    Args:
        kind: one of ours, or Kubernetes' own, of which only names and labels are checked.
        body: the object as asked for, metadata included.
        before: what is stored now, for an update.

    Raises:
        ApiError: 422 Invalid, with a sentence that names the field.
    """
    problem = _metadata_problem(body.get("metadata") or {})
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


def _metadata_problem(metadata: Mapping[str, Any]) -> str | None:
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        return "metadata.name: required"
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        return "metadata.name: write lower case letters, digits, '-' and '.'"
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
    return next(_broken_rules(body, before, _rules(kind), ""), None)


def _sentence(root: str, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    path = root + "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in first["loc"])
    return f"{path}: {first['msg']}"


def _broken_rules(value: Any, before: Any, rules: Json, path: str) -> Iterator[str]:
    """What rules have against a value, those about the whole of it before those about its parts.

    A rule about a change judges nothing that is new. No rule of ours is about changes in lists.
    """
    for one in rules.get(_RULES, ()):
        is_about_change = "oldSelf" in one["rule"] and not one.get("optionalOldSelf")
        if (before is not None or not is_about_change) and not rule(one["rule"])(value, before):
            yield f"{path}: {one['message']}".removeprefix(": ")
    for name, inner in rules.get("properties", {}).items():
        if name in value:
            where = f"{path}.{name}".removeprefix(".")
            yield from _broken_rules(value[name], (before or {}).get(name), inner, where)
    if inner := rules.get("items"):
        for number, item in enumerate(value):
            yield from _broken_rules(item, None, inner, f"{path}[{number}]")


@cache
def _rules(kind: str) -> Json:
    own = _BY_KIND[kind]
    return _rules_in({_RULES: own.all_rules, "properties": {"spec": _schema(kind)}})


def _rules_in(schema: Mapping[str, Any]) -> Json:
    """What is left of a schema when all is taken out that leads to no rule."""
    properties = {name: _rules_in(one) for name, one in schema.get("properties", {}).items()}
    parts = {
        _RULES: schema.get(_RULES),
        "properties": {name: one for name, one in properties.items() if one},
        "items": _rules_in(schema.get("items", {})) if "items" in schema else None,
    }
    return {name: one for name, one in parts.items() if one}


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
