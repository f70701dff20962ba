"""Kubernetes' structural schemas: what is wrong with one, and what it finds wrong with a value.

As much of the API server's rules as CustomResourceDefinitions of this project use; see "Specifying
a structural schema" in Kubernetes' documentation of custom resources.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema = dict[str, Any]
TYPES = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}
KEYWORDS = frozenset(
    {
        "additionalProperties",
        "anyOf",
        "default",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "nullable",
        "pattern",
        "properties",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    }
)
INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
SCALARS = {"boolean", "integer", "number", "string"}


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every node of a schema with its path, parents first."""
    yield path, schema
    for name, value in schema.get("properties", {}).items():
        yield from nodes(value, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def flaws(schema: Schema, path: str) -> list[str]:
    """Why the API server would not take the schema."""
    return [f"{where}: {flaw}" for where, node in nodes(schema, path) for flaw in _flaws(node)]


def _flaws(node: Schema) -> Iterator[str]:
    for keyword in sorted(node.keys() - KEYWORDS):
        yield f"{keyword} is no keyword of a structural schema"
    if node.get("x-kubernetes-int-or-string"):
        if "type" in node or node.get("anyOf") != INT_OR_STRING:
            yield "int-or-string goes without a type and with one form of anyOf"
    elif node.get("type") not in TYPES or "anyOf" in node:
        yield f"needs one type, has {node.get('type')}"
    if node.get("type") == "array" and not isinstance(node.get("items"), dict):
        yield "an array needs one schema for its items"
    if "pattern" in node:
        re.compile(node["pattern"])
    if "default" in node:
        yield from (f"default: {one}" for one in problems(node, node["default"]))
    yield from _bound_flaws(node)
    yield from _object_flaws(node)
    yield from _list_flaws(node)


def _bound_flaws(node: Schema) -> Iterator[str]:
    if None in node.get("enum", ()):
        yield "null in enum"
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if not isinstance(node.get(bound, False), bool):
            yield f"{bound} is a boolean beside the bound in OpenAPI 3.0"


def _object_flaws(node: Schema) -> Iterator[str]:
    if "properties" in node and "additionalProperties" in node:
        yield "has both properties and additionalProperties"
    if node.get("additionalProperties") is False:
        yield "additionalProperties: false is implied and not allowed"
    missing = set(node.get("required", ())) - node.get("properties", {}).keys()
    if missing:
        yield f"requires {sorted(missing)}, which it does not have"


def _list_flaws(node: Schema) -> Iterator[str]:
    kind = node.get("x-kubernetes-list-type")
    if kind is None:
        return
    items = node.get("items", {})
    if node.get("type") != "array":
        yield "a list type on what is no list"
    if kind == "set" and items.get("type") not in SCALARS:
        yield "the items of a set are scalars"
    if kind != "map":
        return
    for key in node.get("x-kubernetes-list-map-keys") or ["(none)"]:
        field = items.get("properties", {}).get(key)
        if field is None or field.get("type") not in SCALARS:
            yield f"its key {key} is no scalar field of the items"
        elif key not in items.get("required", ()) and "default" not in field:
            yield f"its key {key} is neither required nor has a default"


def problems(schema: Schema, value: Any, path: str = "") -> list[str]:
    """Why the API server would not take the value, unknown fields included (CEL rules are not)."""
    return [f"{where or 'value'}: {problem}" for where, problem in _problems(schema, value, path)]


def _problems(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield path, f"{value!r} is neither integer nor string"
            return
    else:
        kind = schema["type"]
        if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
            yield path, f"{value!r} is no {kind}"
            return
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"{value!r} is none of {schema['enum']}"
    match value:
        case str():
            yield from ((path, one) for one in _text_problems(schema, value))
        case bool():
            pass
        case int() | float():
            yield from ((path, one) for one in _number_problems(schema, value))
        case list():
            yield from _array_problems(schema, value, path)
        case dict():
            yield from _object_problems(schema, value, path)


def _text_problems(schema: Schema, value: str) -> Iterator[str]:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"a length of {len(value)} is out of bounds"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{value!r} does not match {schema['pattern']}"
    if schema.get("format") == "date-time" and not re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value
    ):
        yield f"{value!r} is no time in Kubernetes' form"


def _number_problems(schema: Schema, value: float) -> Iterator[str]:
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    if not low <= value <= high:
        yield f"{value} is out of bounds"
    if (schema.get("exclusiveMinimum") and value == low) or (
        schema.get("exclusiveMaximum") and value == high
    ):
        yield f"{value} is on an exclusive bound"


def _array_problems(schema: Schema, value: list[Any], path: str) -> Iterator[tuple[str, str]]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield path, f"{len(value)} items are out of bounds"
    keys = schema.get("x-kubernetes-list-map-keys")
    if keys:
        found = [tuple(one.get(key) for key in keys) for one in value]
        if len(set(found)) < len(found):
            yield path, f"{keys} is not unique"
    for number, one in enumerate(value):
        yield from _problems(schema["items"], one, f"{path}[{number}]")


def _object_problems(
    schema: Schema, value: Mapping[str, Any], path: str
) -> Iterator[tuple[str, str]]:
    if len(value) > schema.get("maxProperties", len(value)):
        yield path, f"{len(value)} entries are too many"
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}", "is required"
    for name, one in value.items():
        child = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        if child:
            yield from _problems(child, one, f"{path}.{name}")
        elif "properties" in schema:
            yield f"{path}.{name}", "is no field"


def unused(schema: Schema, values: list[Any], path: str = "") -> list[str]:
    """Fields of the schema that none of the values uses."""
    found: list[str] = []
    objects = [one for one in values if isinstance(one, dict)]
    for name, child in schema.get("properties", {}).items():
        given = [one[name] for one in objects if name in one]
        found += unused(child, given, f"{path}.{name}") if given else [f"{path}.{name}"]
    if schema.get("type") == "array":
        items = [item for one in values for item in one]
        found += unused(schema["items"], items, f"{path}[]")
    return found
