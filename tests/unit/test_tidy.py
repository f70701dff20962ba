"""House rules that no linter checks."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from batch_operator.api.crd import custom_resource_definitions

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted((ROOT / "operator").rglob("*.py")) + sorted((ROOT / "hack").rglob("*.py"))
APPLY_ANNOTATION_MAX = 262_144


def test_operator_is_no_package() -> None:
    """It would shadow the standard library's `operator` for everything run from the root."""
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    functions = (
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )

    assert text.count("\n") <= 520
    assert [one.name for one in functions if (one.end_lineno or 0) - one.lineno > 75] == []


@pytest.mark.parametrize("name", custom_resource_definitions())
def test_a_crd_fits_into_the_annotation_of_kubectl_apply(name: str) -> None:
    assert len(json.dumps(custom_resource_definitions()[name])) < APPLY_ANNOTATION_MAX


def _nodes(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, value in schema.get("properties", {}).items():
        if name != "podTemplate":  # Kubernetes' own schema, with Kubernetes' own bounds
            found += _nodes(value, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += _nodes(schema[key], f"{path}[]")
    return found


@pytest.mark.parametrize("name", custom_resource_definitions())
def test_every_field_is_described_and_bounded(name: str) -> None:
    """`kubectl explain` prints the descriptions; CEL's cost and etcd need the bounds."""
    root = custom_resource_definitions()[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    problems = []
    for part in ("spec", "status"):
        for path, node in _nodes(root["properties"][part], part):
            if not path.endswith("[]") and not node.get("description"):
                problems.append(f"{path} has no description")
            if node.get("type") == "string" and not (
                "maxLength" in node or "enum" in node or node.get("format") == "date-time"
            ):
                problems.append(f"{path} has no maxLength")
            if node.get("type") == "integer" and not ("maximum" in node or path.endswith(
                "observedGeneration")):  # fmt: skip
                problems.append(f"{path} has no maximum")
            if node.get("type") == "array" and "maxItems" not in node:
                problems.append(f"{path} has no maxItems")
            if isinstance(node.get("additionalProperties"), dict) and "maxProperties" not in node:
                problems.append(f"{path} has no maxProperties")

    assert problems == []
