"""The CRDs by Kubernetes' own rules, and that what they point at exists."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import Field

from batch_operator.api.common import Model
from batch_operator.api.crd import custom_resource_definitions, structural
from support.structural import Schema, flaws, nodes, problems

CRDS = {one["spec"]["names"]["kind"]: one for one in custom_resource_definitions().values()}

KINDS: dict[str, tuple[str, str, str]] = {
    "BatchJob": ("batchjobs", "bj", "Namespaced"),
    "JobDefinition": ("jobdefinitions", "jd", "Namespaced"),
    "JobQueue": ("jobqueues", "jq", "Cluster"),
    "ComputeEnvironment": ("computeenvironments", "ce", "Cluster"),
    "SchedulingPolicy": ("schedulingpolicies", "sp", "Cluster"),
    "ConsumableResource": ("consumableresources", "conr", "Cluster"),
}


def root(kind: str) -> Schema:
    version = CRDS[kind]["spec"]["versions"][0]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def at(schema: Schema, path: str) -> Schema | None:
    """The node that a JSON path such as `.spec.jobQueue` leads to."""
    for step in re.findall(r"\.(\w+)|(\[\?\(.*?\)\])", path):
        name, is_filter = step
        if is_filter:
            schema = schema["items"]
        elif name in schema.get("properties", {}):
            schema = schema["properties"][name]
        elif "additionalProperties" in schema:
            schema = schema["additionalProperties"]
        else:
            return None
    return schema


def test_there_is_a_crd_for_every_kind() -> None:
    assert {
        kind: (
            one["spec"]["names"]["plural"],
            *one["spec"]["names"]["shortNames"],
            one["spec"]["scope"],
        )
        for kind, one in CRDS.items()
    } == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_crd_is_named_as_kubernetes_demands(kind: str) -> None:
    crd = CRDS[kind]

    assert crd["metadata"]["name"] == f"{KINDS[kind][0]}.batch-operator.io"
    assert [one["name"] for one in crd["spec"]["versions"] if one["storage"]] == ["v1alpha1"]
    assert crd["spec"]["names"]["categories"] == ["batch-operator"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_schema_is_structural(kind: str) -> None:
    """Defaults that are no valid values count as flaws too."""
    assert flaws(root(kind), kind) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_says_nothing_of_metadata(kind: str) -> None:
    """The API server takes no more than a type there; the name is bounded by a CEL rule."""
    assert root(kind)["properties"]["metadata"] == {"type": "object"}


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_has_looked_at_a_fresh_object(kind: str) -> None:
    """Without an observedGeneration, kstatus would take such an object for ready."""
    status = root(kind)["properties"]["status"]

    assert status["default"]["observedGeneration"] == -1
    assert problems(status, status["default"]) == []


def test_a_fresh_job_is_submitted() -> None:
    assert root("BatchJob")["properties"]["status"]["default"]["state"] == "SUBMITTED"


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_fits_into_no_label_is_refused(kind: str) -> None:
    rules = [one["rule"] for one in root(kind)["x-kubernetes-validations"]]

    assert "size(self.metadata.name) <= 63" in rules


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_with_a_dot_is_refused_of_new_objects_only(kind: str) -> None:
    """Everything that refers to an object of ours takes names without; what is stored goes on."""
    rules = [one for one in root(kind)["x-kubernetes-validations"] if "'.'" in one["rule"]]

    assert [one["rule"] for one in rules] == [
        "oldSelf.hasValue() || !self.metadata.name.contains('.')"
    ]
    assert all(one["optionalOldSelf"] for one in rules)


def test_what_stops_a_job_waits_for_an_hour_at_most() -> None:
    """Or a template could sit out its timeout, terminate, preemption and its queue's limits."""
    graces = [
        one
        for path, one in nodes(root("JobDefinition"), "")
        if path.endswith(".terminationGracePeriodSeconds")
    ]

    assert graces
    assert all(one["maximum"] == 3600 for one in graces)
    assert all("3600 at most" in one["description"] for one in graces)


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_shows_a_field_that_exists(kind: str) -> None:
    for column in CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]:
        node = at(root(kind), column["jsonPath"])
        if column["jsonPath"] == ".metadata.creationTimestamp":
            continue

        assert node is not None, column
        assert node["type"] == column["type"], column


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_of_the_usual_columns_is_the_age(kind: str) -> None:
    columns = CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]

    assert [one["name"] for one in columns if not one.get("priority")][-1] == "Age"


@pytest.mark.parametrize("kind", KINDS)
def test_every_selectable_field_is_a_scalar_that_exists(kind: str) -> None:
    fields = CRDS[kind]["spec"]["versions"][0].get("selectableFields", [])

    assert len(fields) <= 8
    for field in fields:
        node = at(root(kind), field["jsonPath"])

        assert node is not None, field
        assert node["type"] in {"boolean", "integer", "string"}, field


FIELD = re.compile(r"\b(?:self|oldSelf)(\.[a-z]\w*(?:\.[a-z]\w*)*)(?!\w*\()")
"""A field in a CEL rule; `self.all(` is a function, and metadata is the API server's."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_has_a_message_and_speaks_of_fields_that_exist(kind: str) -> None:
    for path, node in nodes(root(kind), kind):
        for rule in node.get("x-kubernetes-validations", ()):
            fields = [one for one in FIELD.findall(rule["rule"]) if "metadata" not in one]

            assert rule.keys() - {"optionalOldSelf"} == {"rule", "message"}, path
            assert "optionalOldSelf" not in rule or "oldSelf.hasValue()" in rule["rule"]
            assert 10 < len(rule["message"]) <= 2048
            assert "\n" not in rule["message"]
            assert [one for one in fields if at(node, one) is None] == [], (path, rule["rule"])


CHANGEABLE = {"schedulingPriority", "suspend", "cancel", "terminate"}


def test_a_job_can_change_in_four_fields_only() -> None:
    """A field that somebody adds to the spec is fixed, or is added to this list."""
    spec = root("BatchJob")["properties"]["spec"]
    rules = [one["rule"] for one in spec["x-kubernetes-validations"]]
    fixed = {
        name
        for name in spec["properties"]
        if any(f"self.{name} == oldSelf.{name}" in rule for rule in rules)
    }

    assert spec["properties"].keys() - fixed == CHANGEABLE


def test_a_fixed_field_cannot_be_added_or_removed_either() -> None:
    spec = root("BatchJob")["properties"]["spec"]
    rules = {one["rule"] for one in spec["x-kubernetes-validations"]}
    unguarded = {
        name
        for name in spec["properties"].keys() - CHANGEABLE
        if not any(f"has(self.{name}) == has(oldSelf.{name})" in rule for rule in rules)
    }

    assert unguarded == set(spec["required"])


class Bounds(Model):
    share: float = Field(gt=0, lt=1)
    names: dict[str, str] = Field(default={}, max_length=3)


def test_bounds_take_the_form_of_openapi_three() -> None:
    properties = structural(Bounds)["properties"]

    assert properties["share"] == {
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "exclusiveMaximum": True,
    }
    assert properties["names"] == {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "maxProperties": 3,
    }


def test_an_unmanaged_environment_takes_nothing_that_is_for_managed_ones() -> None:
    spec = root("ComputeEnvironment")["properties"]["spec"]
    messages = [one["message"] for one in spec["x-kubernetes-validations"]]
    for_managed = [
        name
        for name, one in spec["properties"].items()
        if "MANAGED:" in one["description"] and "UNMANAGED:" not in one["description"]
    ]

    assert "provisioner" in for_managed
    for name in for_managed:
        assert any(one.startswith(f"{name} is for type MANAGED") for one in messages), name


def test_environments_are_listed_with_their_nodes_and_vcpus() -> None:
    [version] = CRDS["ComputeEnvironment"]["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    names = [[one["name"] for one in columns if one.get("priority", 0) == wide] for wide in (0, 1)]

    assert names == [
        ["Type", "State", "Status", "Used", "Desired", "Max", "Nodes", "Wanted", "Age"],
        ["Reason", "Degraded", "Cost", "Cost-Used", "Cost-Idle"],
    ]


class Union(Model):
    either: int | list[str]


class Anything(Model):
    whatever: Any


INEXPRESSIBLE: dict[str, tuple[type[Model], str]] = {
    "a union": (Union, "Union.either: a structural schema cannot express the union"),
    "any type": (Anything, "Anything.whatever: a structural schema needs one type"),
}


@pytest.mark.parametrize("name", INEXPRESSIBLE)
def test_what_no_structural_schema_can_say_is_refused_by_its_path(name: str) -> None:
    model, sentence = INEXPRESSIBLE[name]

    with pytest.raises(ValueError, match=sentence):
        structural(model)


FLAWED: dict[str, tuple[Schema, str]] = {
    "no type": ({"description": "x"}, "needs one type"),
    "null": ({"type": "null"}, "needs one type"),
    "a reference": ({"type": "object", "$ref": "#/x"}, "no keyword"),
    "a closed object": ({"type": "object", "additionalProperties": False}, "is implied"),
    "a list of anything": ({"type": "array"}, "one schema for its items"),
    "a default out of bounds": ({"type": "integer", "minimum": 1, "default": 0}, "default"),
    "a default of the wrong type": ({"type": "boolean", "default": "true"}, "default"),
    "a required field that is none": (
        {"type": "object", "properties": {}, "required": ["a"]},
        "which it does not have",
    ),
    "a key that may be absent": (
        {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        "neither required nor has a default",
    ),
    "deep inside": (
        {"type": "object", "properties": {"a": {"type": "array", "items": {}}}},
        r"x\.a\[\]: needs one type",
    ),
}


@pytest.mark.parametrize("name", FLAWED)
def test_the_check_of_schemas_finds_what_the_api_server_would_refuse(name: str) -> None:
    schema, flaw = FLAWED[name]

    assert re.search(flaw, "\n".join(flaws(schema, "x")))
