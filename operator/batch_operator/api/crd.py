"""CustomResourceDefinitions from the pydantic models.

Kubernetes wants *structural* schemas, which are narrower than JSON Schema: no references, a type at
every node, no `null`, no `additionalProperties: false`. What pydantic produces is rewritten to
that; what cannot be expressed is refused here, when the CRDs are generated, not by a user's API
server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.compute_environment import ComputeEnvironmentSpec, ComputeEnvironmentStatus
from batch_operator.api.consumable_resource import ConsumableResourceSpec, ConsumableResourceStatus
from batch_operator.api.job import BatchJobSpec, BatchJobStatus
from batch_operator.api.job_definition import JobDefinitionSpec, JobDefinitionStatus
from batch_operator.api.job_queue import JobQueueSpec, JobQueueStatus
from batch_operator.api.scheduling_policy import SchedulingPolicySpec, SchedulingPolicyStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_operator.api.common import Model

Column = tuple[str, str, str] | tuple[str, str, str, int]
"""Heading, type, JSON path and (optionally) priority: 1 shows with `-o wide` only."""

_AGE: Column = ("Age", "date", ".metadata.creationTimestamp")
_READY: Column = ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status")
_NAME_LENGTH_MAX = 63
_TOO_LONG = (
    f"metadata.name must be no more than {_NAME_LENGTH_MAX} characters: it becomes a label and a "
    "part of Pod names"
)
_HAS_DOTS = (
    "metadata.name must not have dots: others could not refer to it, and it becomes a part of host "
    "names"
)
_NAME_RULES: Sequence[Mapping[str, Any]] = (
    {"rule": f"size(self.metadata.name) <= {_NAME_LENGTH_MAX}", "message": _TOO_LONG},
    # What was stored before this rule goes on; a name cannot be changed.
    {
        "rule": "oldSelf.hasValue() || !self.metadata.name.contains('.')",
        "optionalOldSelf": True,
        "message": _HAS_DOTS,
    },
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a CRD says of a kind beside its schema."""

    kind: str
    plural: str
    short: str
    is_namespaced: bool
    spec: type[Model]
    status: type[Model]
    description: str
    columns: Sequence[Column]
    selectable: Sequence[str] = ()
    fresh_status: Mapping[str, Any] = field(default_factory=dict)
    rules: Sequence[Mapping[str, str]] = ()

    @property
    def all_rules(self) -> Sequence[Mapping[str, Any]]:
        """The CEL rules about a whole object; those about its parts are in its schema."""
        return [*_NAME_RULES, *self.rules]


KINDS = (
    Kind(
        kind="BatchJob",
        plural="batchjobs",
        short="bj",
        is_namespaced=True,
        spec=BatchJobSpec,
        status=BatchJobStatus,
        description="One submission of a job to a queue.",
        columns=(
            ("Queue", "string", ".spec.jobQueue"),
            ("State", "string", ".status.state"),
            ("Reason", "string", ".status.pending.reason"),
            ("Size", "integer", ".status.array.size"),
            ("Running", "integer", ".status.array.statusSummary.RUNNING"),
            ("Succeeded", "integer", ".status.array.statusSummary.SUCCEEDED"),
            ("Failed", "integer", ".status.array.statusSummary.FAILED"),
            _AGE,
            ("Definition", "string", ".status.jobDefinition", 1),
            ("Environment", "string", ".status.computeEnvironment", 1),
            ("Cost", "string", ".status.cost.total", 1),
            ("Wasted", "string", ".status.cost.wasted", 1),
            ("Status-Reason", "string", ".status.statusReason", 1),
            ("Message", "string", ".status.pending.message", 1),
        ),
        selectable=(".spec.jobQueue", ".spec.jobDefinition", ".status.state"),
        fresh_status={"state": "SUBMITTED"},
        rules=(
            {
                "rule": "!has(self.spec.dependsOn) || "
                "self.spec.dependsOn.all(d, !has(d.job) || d.job != self.metadata.name)",
                "message": "a job cannot depend on itself: name another job in spec.dependsOn, or "
                "use type SEQUENTIAL to run an array's children one after the other",
            },
            {
                "rule": "!has(self.spec.arrayProperties) || "
                "!has(self.spec.arrayProperties.rerunFailedOf) || "
                "self.spec.arrayProperties.rerunFailedOf != self.metadata.name",
                "message": "a job cannot run its own failed indexes again: name another array in "
                "spec.arrayProperties.rerunFailedOf",
            },
        ),
    ),
    Kind(
        kind="JobDefinition",
        plural="jobdefinitions",
        short="jd",
        is_namespaced=True,
        spec=JobDefinitionSpec,
        status=JobDefinitionStatus,
        description="How to run a job. Every change is a new revision.",
        columns=(
            ("Type", "string", ".spec.type"),
            ("Revision", "integer", ".status.latestRevision"),
            ("State", "string", ".spec.state"),
            _READY,
            _AGE,
            ("P50-Seconds", "integer", ".status.runTimes.p50Seconds", 1),
            ("P90-Seconds", "integer", ".status.runTimes.p90Seconds", 1),
        ),
    ),
    Kind(
        kind="JobQueue",
        plural="jobqueues",
        short="jq",
        is_namespaced=False,
        spec=JobQueueSpec,
        status=JobQueueStatus,
        description="Where jobs wait for compute environments.",
        columns=(
            ("State", "string", ".spec.state"),
            ("Priority", "integer", ".spec.priority"),
            ("Runnable", "integer", ".status.jobs.RUNNABLE"),
            ("Running", "integer", ".status.jobs.RUNNING"),
            _READY,
            _AGE,
            ("Cost", "string", ".status.cost.total", 1),
            ("Wasted", "string", ".status.cost.wasted", 1),
        ),
    ),
    Kind(
        kind="ComputeEnvironment",
        plural="computeenvironments",
        short="ce",
        is_namespaced=False,
        spec=ComputeEnvironmentSpec,
        status=ComputeEnvironmentStatus,
        description="Capacity that queues hand out.",
        columns=(
            ("Type", "string", ".spec.type"),
            ("State", "string", ".spec.state"),
            ("Status", "string", ".status.status"),
            ("Used", "string", ".status.vcpus.used"),
            ("Desired", "integer", ".status.vcpus.desired"),
            ("Max", "integer", ".spec.maxvCpus"),
            ("Nodes", "integer", ".status.nodes.ready"),
            ("Wanted", "integer", ".status.nodes.desired"),
            _AGE,
            ("Reason", "string", ".status.statusReason", 1),
            ("Degraded", "string", ".status.conditions[?(@.type=='Degraded')].reason", 1),
            ("Cost", "string", ".status.cost.nodes", 1),
            ("Cost-Used", "string", ".status.cost.used", 1),
            ("Cost-Idle", "string", ".status.cost.idle", 1),
        ),
    ),
    Kind(
        kind="SchedulingPolicy",
        plural="schedulingpolicies",
        short="sp",
        is_namespaced=False,
        spec=SchedulingPolicySpec,
        status=SchedulingPolicyStatus,
        description="How a queue's capacity is shared.",
        columns=(_READY, _AGE),
    ),
    Kind(
        kind="ConsumableResource",
        plural="consumableresources",
        short="conr",
        is_namespaced=False,
        spec=ConsumableResourceSpec,
        status=ConsumableResourceStatus,
        description="Licences, tokens and the like that jobs hold or use up.",
        columns=(
            ("Type", "string", ".spec.resourceType"),
            ("Total", "integer", ".spec.totalQuantity"),
            ("In-Use", "integer", ".status.inUseQuantity"),
            ("Spent", "integer", ".status.spentQuantity"),
            ("Available", "integer", ".status.availableQuantity"),
            _AGE,
        ),
    ),
)


def custom_resource_definitions() -> dict[str, dict[str, Any]]:
    """Every CRD by the name of its file."""
    return {f"{meta.GROUP}_{kind.plural}.yaml": _definition(kind) for kind in KINDS}


def _definition(kind: Kind) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{meta.GROUP}"},
        "spec": {
            "group": meta.GROUP,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": [meta.CATEGORY],
            },
            "scope": "Namespaced" if kind.is_namespaced else "Cluster",
            "versions": [
                {
                    "name": meta.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*one) for one in kind.columns],
                    **(
                        {"selectableFields": [{"jsonPath": path} for path in kind.selectable]}
                        if kind.selectable
                        else {}
                    ),
                    "schema": {"openAPIV3Schema": _root(kind)},
                }
            ],
        },
    }


def _column(heading: str, kind: str, path: str, priority: int = 0) -> dict[str, Any]:
    column = {"name": heading, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


def _root(kind: Kind) -> dict[str, Any]:
    # kstatus takes an object without conditions for ready: an observedGeneration that matches no
    # generation says from the first moment that nobody has looked at it yet.
    fresh = {"observedGeneration": -1, **kind.fresh_status}
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{meta.API_VERSION}"},
            "kind": {"type": "string", "description": kind.kind},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": {**structural(kind.status), "default": fresh},
        },
        "x-kubernetes-validations": kind.all_rules,
    }


def structural(model: type[Model]) -> dict[str, Any]:
    """A model's structural schema.

    Raises:
        ValueError: the model uses something that a structural schema cannot say.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _node(schema, schema.get("$defs", {}), model.__name__)


_DROPPED = frozenset(
    {
        "$defs",
        "additionalProperties",
        "const",
        "discriminator",
        "examples",
        "items",
        "properties",
        "propertyNames",
        "readOnly",
        "title",
    }
)


def _node(schema: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    schema = _resolved(schema, definitions, path)
    if schema.get("x-batch-operator-embed"):
        return {**pod_template_schema(), "description": schema["description"]}
    out = _keywords(schema)
    if "properties" in schema:
        out["properties"] = {
            name: _node(value, definitions, f"{path}.{name}")
            for name, value in schema["properties"].items()
        }
    if "items" in schema:
        out["items"] = _node(schema["items"], definitions, f"{path}[]")
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        out["additionalProperties"] = _node(values, definitions, f"{path}{{}}")
    if "type" not in out and not out.get("x-kubernetes-int-or-string"):
        raise ValueError(f"{path}: a structural schema needs one type here, found {schema}")
    return out


def _keywords(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of one node, without its children, in the form that Kubernetes wants."""
    out = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "const" in schema:
        out["enum"] = [schema["const"]]
    for bound in ("minimum", "maximum"):
        exclusive = "exclusive" + bound.capitalize()
        if exclusive in schema:
            out[bound], out[exclusive] = schema[exclusive], True
    if out.get("type") == "object" and "maxLength" in out:
        out["maxProperties"] = out.pop("maxLength")
    default = out.pop("default", None)
    if isinstance(default, dict):
        default = {key: value for key, value in default.items() if value is not None}
    # An absent list and an empty one mean the same; writing it into every object would make
    # GitOps tools report a difference that nobody made.
    if default not in (None, [], {}):
        out["default"] = default
    return out


def _resolved(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """The schema with its reference followed and its optional or int-or-string union undone."""
    around = {key: value for key, value in schema.items() if key not in {"$ref", "anyOf", "allOf"}}
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return {**_resolved(definitions[name], definitions, path), **around}
    union = schema.get("anyOf") or schema.get("allOf")
    if union is None:
        return dict(schema)
    members = [one for one in union if one.get("type") != "null"]
    if len(members) == 1:
        return {**_resolved(members[0], definitions, path), **around}
    if sorted(one.get("type", "") for one in members) == ["integer", "string"]:
        return {
            **around,
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
        }
    raise ValueError(f"{path}: a structural schema cannot express the union {union}")


def pod_template_schema() -> dict[str, Any]:
    """Kubernetes' PodTemplateSpec as `hack/pod-template-schema` has pruned it."""
    text = resources.files("batch_operator.api").joinpath("pod_template.json")
    schema: dict[str, Any] = json.loads(text.read_text(encoding="utf-8"))
    return schema
