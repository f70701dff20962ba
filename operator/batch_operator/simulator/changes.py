"""What a what-if changes: fields by `--set`, and manifests over those of a snapshot.

`KIND/NAME.FIELD=VALUE`: the kind as kubectl takes it (singular, plural or short name), the field's
path below `spec`, the value as YAML. Whatever leads nowhere is a sentence that says what there is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from batch_operator.api.crd import KINDS, structural
from batch_operator.api.sentences import listed
from batch_operator.cluster.client import BY_KIND, ApiError
from batch_operator.simulator.admission import admitted
from batch_operator.simulator.scenario import InvalidInputError, Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_operator.api.crd import Kind
    from batch_operator.simulator.scenario import Scenario

    Json = dict[str, Any]

_FORM = "write KIND/NAME.FIELD=VALUE, such as computeenvironment/spot.maxvCpus=512"
_NAMED_MAX = 20
"""A sentence names so many; more would not be read."""


def changed(scenario: Scenario, sets: Sequence[str]) -> Scenario:
    """The scenario with the fields set, in that order, and its manifests checked as changes.

    Raises:
        InvalidInputError: with a sentence about the first that leads nowhere or is refused.
    """
    assert scenario.recorded is not None  # fields are set on what a snapshot holds
    before = {_key(one): one for one in scenario.recorded.objects}
    now = dict(before)
    touched: dict[Any, Manifest] = {}
    for one in scenario.manifests:
        old = before.get(_key(one))
        body = {**old.body, "spec": one.body.get("spec") or {}} if old else one.body
        now[_key(one)] = touched[_key(one)] = _checked(replace(one, body=body), old, one.where)
    for text in sets:
        where = f"--set {text}"
        target, path, value = _parsed(text, where, list(now.values()))
        spec = _with(target.body["spec"], path, value, where)
        body = {**target.body, "spec": spec}
        key = _key(target)
        now[key] = touched[key] = _checked(replace(target, body=body), before.get(key), where)
    return replace(scenario, manifests=tuple(touched.values()))


def _key(one: Manifest) -> tuple[str, str | None, str]:
    return one.resource.kind, one.namespace, one.name


def _checked(one: Manifest, old: Manifest | None, where: str) -> Manifest:
    """What the API server would make of it."""
    try:
        body = admitted(one.resource.kind, dict(one.body), dict(old.body) if old else None)
    except ApiError as error:
        raise InvalidInputError(f"{where}: {error.message}") from None
    return replace(one, body=body)


def _parsed(
    text: str, where: str, objects: Sequence[Manifest]
) -> tuple[Manifest, tuple[str, ...], Any]:
    """Object, path below spec, and value."""
    what, equals, value = text.partition("=")
    kind_and_name, dot, path = what.partition(".")
    kind_text, slash, name = kind_and_name.partition("/")
    if not (equals and dot and slash and kind_text and name and all(path.split("."))):
        raise InvalidInputError(f"{where}: {_FORM}")
    kind = _kind(kind_text, where)
    target = _found(kind, name, where, [one for one in objects if one.resource.kind == kind.kind])
    steps = tuple(path.split("."))
    _check_path(kind, steps, where)
    try:
        return target, steps, yaml.safe_load(value)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise InvalidInputError(f"{where}: the value is no YAML: {problem}") from None


def _kind(text: str, where: str) -> Kind:
    for kind in KINDS:
        if text.lower() in {kind.kind.lower(), kind.plural, kind.short}:
            return kind
    names = ", ".join(f"{kind.kind.lower()} ({kind.short})" for kind in KINDS)
    raise InvalidInputError(f"{where}: there is no kind {text}: write one of {names}")


def _found(kind: Kind, name: str, where: str, objects: Sequence[Manifest]) -> Manifest:
    """The object of that name; NAMESPACE/NAME tells those of the same name apart."""
    namespace, slash, own_name = name.rpartition("/")
    found = [
        one for one in objects if one.name == own_name and (not slash or one.namespace == namespace)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = (f"{kind.kind.lower()}/{one.namespace}/{one.name}" for one in found)
        named = listed(names, _NAMED_MAX)
        raise InvalidInputError(f"{where}: several have that name: write one of {named}")
    there = listed(sorted(map(_full_name, objects)), _NAMED_MAX) or "none"
    raise InvalidInputError(f"{where}: there is no {kind.kind} {name}; there is: {there}")


def _full_name(one: Manifest) -> str:
    return f"{one.namespace}/{one.name}" if BY_KIND[one.resource.kind].namespaced else one.name


def _check_path(kind: Kind, path: Sequence[str], where: str) -> None:
    """Refuse a field that the kind does not have, and say which it has there."""
    schema: Mapping[str, Any] = structural(kind.spec)
    for depth, step in enumerate(path):
        place = ".".join(("spec", *path[:depth]))
        if "items" in schema:
            if not step.isdecimal():
                raise InvalidInputError(f"{where}: {place} is a list: write a number from 0")
            schema = schema["items"]
        elif step in schema.get("properties", {}):
            schema = schema["properties"][step]
        elif isinstance(schema.get("additionalProperties"), dict):
            schema = schema["additionalProperties"]
        elif schema.get("x-kubernetes-preserve-unknown-fields"):
            return
        else:
            known = ", ".join(schema.get("properties", ())) or "none at all"
            raise InvalidInputError(f"{where}: {place} has no field {step}; it has {known}")


def _with(value: Any, path: Sequence[str], new: Any, where: str) -> Any:
    """The value with what the path leads to replaced; null takes a field away."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, list):
        if int(step) >= len(value):
            raise InvalidInputError(f"{where}: the list has {len(value)} entries, from 0")
        items = list(value)
        items[int(step)] = _with(items[int(step)], rest, new, where)
        return items
    fields = dict(value or {})
    made = _with(fields.get(step), rest, new, where)
    if made is None:
        fields.pop(step, None)
    else:
        fields[step] = made
    return fields
