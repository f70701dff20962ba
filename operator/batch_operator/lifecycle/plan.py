"""What a job runs: its definition's revision, parameters, overrides and request, merged once.

Whatever can be wrong in the merge is found here, before anything starts, and said in a sentence.
A problem that a later change elsewhere can mend (a definition that is still to be applied) leaves
the job waiting; one that cannot be mended, because the job is immutable and its revision fixed,
ends it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batch_operator.api.amounts import Amounts, gpus_of
from batch_operator.api.array import ARRAY_SIZE_MAX, RESERVED_PREFIX
from batch_operator.api.common import RetryStrategy
from batch_operator.api.index_set import IndexSet
from batch_operator.api.job_definition import JobDefinitionState
from batch_operator.api.quantity import LARGEST, memory_bytes, milli_cpu, total_request
from batch_operator.lifecycle.array_parameters import values_of
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.lifecycle.multi_node import LayoutError, NodeGroup, Part, resolve
from batch_operator.lifecycle.parameters import placeholders, substituted, substituted_length

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from batch_operator.api.common import OnOutOfMemory, Timeout
    from batch_operator.api.job import BatchJobSpec, BatchJobStatus, ContainerOverride
    from batch_operator.api.job_definition import (
        JobDefinitionSpec,
        JobDefinitionStatus,
    )
    from batch_operator.api.stored import Stored
    from batch_operator.lifecycle.array_parameters import PerIndex, Read

    Job = Stored[BatchJobSpec, BatchJobStatus]
    Fields = Mapping[str, tuple[str, ...]]

INVALID_STATUS_REASON = "Invalid job"
COMMAND_LENGTH_MAX = 256 * 1024
"""Of one container's command or args: a template may repeat a long parameter without end."""
_FILLED_IN = ("command", "args")
"""AWS: parameters are filled in there and nowhere else."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A JobDefinition with the revisions of it that exist. `object` is None once it is deleted."""

    object: Stored[JobDefinitionSpec, JobDefinitionStatus] | None
    revisions: Mapping[int, JobDefinitionSpec]
    refused: str | None = None
    """What the API server said when it would not keep the revision that is to come."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every attempt of a job runs. `template` is a PodTemplateSpec, merged and substituted.

    A multi-node job has `groups` of nodes, each with a template of its own; then `template` is the
    main node's, and `milli_cpu` what all nodes ask for together.
    """

    definition: str
    revision: int
    generation: int
    """The job's generation that this was made for."""
    template: Mapping[str, Any]
    milli_cpu: int
    retry: RetryStrategy
    timeout: Timeout | None = None
    groups: tuple[NodeGroup, ...] = ()
    units: tuple[tuple[str, int], ...] = ()
    """Of consumable resources, by name, that each attempt holds: in a gang those of all nodes."""
    priority: int = 0
    """Within its share; higher first."""
    per_index: PerIndex | None = None
    """What differs between the children of an array; the template is without it."""
    hold: Hold | None = None
    """Why no child can start: its values are not known yet."""
    pods: tuple[tuple[Amounts, int], ...] = ()
    """What each Pod of an attempt asks for, and how many ask so."""
    memory_bound: str | None = None
    """The most that a container's memory may grow to, where the queue's nodes bound it."""

    @property
    def growth(self) -> OnOutOfMemory | None:
        """How memory grows after it ran out, if it does."""
        rule = self.retry.on_out_of_memory
        if rule is None or self.memory_bound is None:
            return rule
        return rule.model_copy(update={"max_memory": self.memory_bound})


@dataclass(frozen=True, slots=True)
class Invalid:
    """A job that can never run as it was written, and what to write instead."""

    message: str


def make_plan(
    job: Job,
    definition: Definition | None,
    fixed_revision: int | None,
    read: Read | None = None,
) -> Plan | Hold | Invalid:
    """The job's plan; or why it has none yet; or why it can never have one.

    `fixed_revision` is the revision that the job was given earlier: a job keeps running what it
    was given, whatever becomes of its definition. `read` is what is known of the ConfigMap that it
    takes parameters from, if it names one.
    """
    spec = job.spec
    name, _, wanted = spec.job_definition.partition(":")
    revision = fixed_revision or (int(wanted) if wanted else None)
    found = _revision(job.namespace, name, revision, definition, given=fixed_revision is not None)
    if isinstance(found, Hold):
        return found
    number, definition_spec = found
    parameters = {**definition_spec.parameters, **spec.parameters}
    values = values_of(job, read)
    if isinstance(values, str):
        return Invalid(values)
    merged = _groups(spec, definition_spec, name, parameters, values.longest)
    if isinstance(merged, Invalid):
        return merged
    groups, fields = merged
    per_index = values.per_index
    instances = sum(len(one.nodes) for one in groups)
    requests = spec.consumable_resources or definition_spec.consumable_resources
    priority = spec.scheduling_priority
    return Plan(
        definition=f"{name}:{number}",
        revision=number,
        generation=job.generation,
        template=groups[0].template,
        milli_cpu=min(LARGEST, sum(one.milli_cpu for one in groups)),
        pods=tuple((one.each, len(one.nodes)) for one in groups),
        retry=spec.retry_strategy or definition_spec.retry_strategy or RetryStrategy(),
        timeout=spec.timeout or definition_spec.timeout,
        groups=groups if definition_spec.node_properties else (),
        units=tuple(sorted((one.name, one.quantity * instances) for one in requests)),
        priority=(definition_spec.scheduling_priority or 0) if priority is None else priority,
        per_index=replace(per_index, shared=parameters, fields=fields) if per_index else None,
        hold=values.hold,
    )


def is_current(plan: Plan, job: Job, revision: int | None, read: Read | None) -> bool:
    """Whether making the plan again would give the same."""
    if plan.hold or plan.generation != job.generation or revision not in {None, plan.revision}:
        return False
    return read is None or (plan.per_index is not None and plan.per_index.lines is read.lines)


def _groups(
    spec: BatchJobSpec,
    definition: JobDefinitionSpec,
    name: str,
    parameters: Mapping[str, str],
    longest: Mapping[str, str],
) -> tuple[tuple[NodeGroup, ...], Fields] | Invalid:
    """The groups of a multi-node job; of any other job one, with its only Pod.

    Of an array, also the fields that are to be filled in for each child (see `PerIndex`).
    """
    problem = _shape_problem(spec, definition, name) or _index_problem(spec)
    if problem:
        return problem
    whole = Part("0", (0,), definition.pod_template or {}, tuple(spec.container_overrides))
    parts: Sequence[Part] = (whole,)
    field = "spec.containerOverrides"
    if definition.node_properties:
        field = "spec.nodeOverrides.nodePropertyOverrides"
        try:
            parts = resolve(definition.node_properties, spec.node_overrides)
        except LayoutError as error:
            return Invalid(str(error))
    groups = []
    fields: Fields = {}
    for part in parts:
        template = _merged(part.template, part.overrides, field)
        if isinstance(template, Invalid):
            return template
        fields = _fields_with(template, longest, {**parameters, **longest})
        problem = _variable_problem(template, name) or _length_problem(
            template, {**parameters, **longest}, name
        )
        if problem:
            return problem
        _fill_in(template, parameters, fields, longest)
        each = requested(template)
        if isinstance(each, Invalid):
            return each
        total = min(LARGEST, each.milli_cpu * len(part.nodes))
        groups.append(NodeGroup(part.target_nodes, part.nodes, template, total, each))
    return tuple(groups), fields


def _shape_problem(spec: BatchJobSpec, definition: JobDefinitionSpec, name: str) -> Invalid | None:
    """Fields of the job that a definition of this type has no use for."""
    if definition.node_properties is None:
        if spec.node_overrides is None:
            return None
        return Invalid(
            f"spec.nodeOverrides is for multi-node jobs, but JobDefinition {name} has type "
            f"container: use spec.containerOverrides"
        )
    if spec.array_properties is not None:
        return Invalid(
            f"JobDefinition {name} has type multinode, and a multi-node job cannot be an array: "
            f"leave spec.arrayProperties out"
        )
    if spec.container_overrides:
        return Invalid(
            f"JobDefinition {name} has type multinode: say in "
            f"spec.nodeOverrides.nodePropertyOverrides which nodes the containerOverrides are for"
        )
    return None


def latest_active(definition: Definition) -> int | None:
    """The revision that a job gets which names none (AWS: the latest ACTIVE one)."""
    inactive = definition.object.spec.inactive_revisions if definition.object else []
    return max((number for number in definition.revisions if number not in inactive), default=None)


def _revision(
    namespace: str, name: str, revision: int | None, definition: Definition | None, *, given: bool
) -> tuple[int, JobDefinitionSpec] | Hold:
    current = definition.object if definition else None
    revisions = definition.revisions if definition else {}
    if not given:
        problem = _refused(namespace, name, revision, current)
        if problem:
            return problem
    if revision is None and current is not None:
        if current.status.observed_generation != current.generation:
            # The revision of what was just applied is about to be recorded; an older one would
            # be the wrong one.
            what = f"the latest revision of JobDefinition {name}"
            refused = definition.refused if definition else None
            return Hold(
                Reason.JOB_DEFINITION_NOT_READY,
                f"{what} cannot be recorded: {refused}" if refused else f"{what} is being recorded",
                stalled=refused is not None,
            )
        revision = current.status.latest_revision
        if revision is None:
            return _inactive(f"every revision of JobDefinition {name}")
    if revision is None or revision not in revisions:
        have = ", ".join(str(number) for number in sorted(revisions)) or "none"
        return Hold(
            Reason.JOB_DEFINITION_NOT_FOUND,
            f"JobDefinition {name} has no revision {revision} (it has: {have}): name one of "
            f"these, or no revision for the latest",
            stalled=True,
        )
    return revision, revisions[revision]


def _refused(
    namespace: str,
    name: str,
    revision: int | None,
    current: Stored[JobDefinitionSpec, JobDefinitionStatus] | None,
) -> Hold | None:
    """Why a definition takes no new job; jobs that were given a revision before are not asked."""
    if current is None or current.deleting:
        return Hold(
            Reason.JOB_DEFINITION_NOT_FOUND,
            f"there is no JobDefinition {name} in namespace {namespace}: apply it, "
            f"or name one of `kubectl get jobdefinitions`",
            stalled=True,
        )
    if current.spec.state is JobDefinitionState.INACTIVE:
        return Hold(
            Reason.JOB_DEFINITION_INACTIVE,
            f"JobDefinition {name} is INACTIVE: set its spec.state to ACTIVE, or name another",
            stalled=True,
        )
    if revision in current.spec.inactive_revisions:
        return _inactive(f"revision {revision} of JobDefinition {name}")
    return None


def _inactive(what: str) -> Hold:
    return Hold(
        Reason.JOB_DEFINITION_INACTIVE,
        f"{what} is INACTIVE: name another, or take it off the definition's spec.inactiveRevisions",
        stalled=True,
    )


def _merged(
    base: Mapping[str, Any], overrides: Sequence[ContainerOverride], field: str
) -> dict[str, Any] | Invalid:
    """The definition's template with the job's overrides, `field`, in it; nothing is shared."""
    pod_spec = dict(base.get("spec") or {})
    pod_spec["containers"] = [dict(one) for one in pod_spec.get("containers", ())]
    pod_spec["initContainers"] = [dict(one) for one in pod_spec.get("initContainers") or ()]
    for override in overrides:
        targets = [
            one
            for one in (*pod_spec["containers"], *pod_spec["initContainers"])
            if override.name is None or one["name"] == override.name
        ]
        if not targets:
            names = ", ".join(one["name"] for one in pod_spec["containers"])
            return Invalid(
                f"{field} names container {override.name}, but the definition has: {names}"
            )
        _override(targets[0], override)
    return {"metadata": dict(base.get("metadata") or {}), "spec": pod_spec}


def _override(container: dict[str, Any], override: ContainerOverride) -> None:
    """AWS's merge: command and args replace; environment merges by name; resources by type."""
    if override.image is not None:
        container["image"] = override.image
    if override.command:
        container["command"] = list(override.command)
    if override.args:
        container["args"] = list(override.args)
    if override.env:
        new = {one.name: {"name": one.name, "value": one.value} for one in override.env}
        kept = [one for one in container.get("env") or () if one["name"] not in new]
        container["env"] = [*kept, *new.values()]
    if override.resources:
        resources = dict(container.get("resources") or {})
        for part in ("requests", "limits"):
            if values := getattr(override.resources, part):
                resources[part] = {**(resources.get(part) or {}), **values}
        container["resources"] = resources


def _index_problem(spec: BatchJobSpec) -> Invalid | None:
    """What is wrong with `arrayProperties.indexes`; the CRD's pattern cannot compare numbers."""
    array = spec.array_properties
    if array is None or array.indexes is None:
        return None
    try:
        indexes = IndexSet.parse(array.indexes)
    except ValueError as error:
        return Invalid(f"spec.arrayProperties.indexes: {error}")
    count = len(indexes)
    if array.size is not None and indexes.end > array.size:
        return Invalid(
            f"spec.arrayProperties.indexes goes up to {indexes.end - 1}, and size is {array.size}: "
            f"give a size above all indexes, or leave it out"
        )
    if count > ARRAY_SIZE_MAX:
        return Invalid(
            f"spec.arrayProperties.indexes names {count} indexes: name at most {ARRAY_SIZE_MAX}, "
            f"and the others in another job"
        )
    return None


def _variable_problem(template: Mapping[str, Any], definition: str) -> Invalid | None:
    for container in _containers(template):
        for variable in container.get("env") or ():
            if variable["name"].startswith(RESERVED_PREFIX):
                return Invalid(
                    f"container {container['name']} sets {variable['name']}, but names that start "
                    f"with {RESERVED_PREFIX} are the operator's: choose another name in "
                    f"JobDefinition {definition}"
                )
    return None


def _containers(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*template["spec"]["containers"], *template["spec"]["initContainers"]]


def _fields_with(
    template: Mapping[str, Any], names: Collection[str], known: Collection[str]
) -> Fields:
    """By container: those of its fields that refer to one of these parameters, of all `known`."""
    found = {
        container["name"]: tuple(
            one for one in _FILLED_IN if {*placeholders(container.get(one) or (), known)} & {*names}
        )
        for container in (_containers(template) if names else ())
    }
    return {name: fields for name, fields in found.items() if fields}


def _length_problem(
    template: dict[str, Any], parameters: Mapping[str, str], definition: str
) -> Invalid | None:
    """A parameter that there is not, or words that are too long once they are filled in."""
    for container in _containers(template):
        for field in _FILLED_IN:
            words = container.get(field) or []
            for name in placeholders(words, parameters):
                if name not in parameters:
                    return Invalid(
                        f"container {container['name']}'s {field} refers to Ref::{name}, but "
                        f"there is no such parameter: add {name} to the job's spec.parameters, "
                        f"or a default to JobDefinition {definition}"
                    )
            length = substituted_length(words, parameters)
            if length > COMMAND_LENGTH_MAX:
                return Invalid(
                    f"container {container['name']}'s {field} has {length} characters once its "
                    f"parameters are filled in: {COMMAND_LENGTH_MAX} are the most; pass a file"
                )
    return None


def _fill_in(
    template: dict[str, Any],
    parameters: Mapping[str, str],
    later: Fields,
    variables: Collection[str],
) -> None:
    """Fill in field all children share, and leave out the variables that each gets for itself."""
    for container in _containers(template):
        for field in _FILLED_IN:
            words = container.get(field)
            if words and field not in later.get(container["name"], ()):
                container[field] = substituted(words, parameters)
        if variables and container.get("env"):
            container["env"] = [one for one in container["env"] if one["name"] not in variables]


def requested(template: Mapping[str, Any]) -> Amounts | Invalid:
    """What the Pod asks of a node."""
    try:
        found = Amounts(
            _total(template["spec"], lambda amounts: milli_cpu(amounts.get("cpu", 0))),
            _total(template["spec"], lambda amounts: memory_bytes(amounts.get("memory", 0))),
            _total(template["spec"], gpus_of),
        )
    except ValueError as error:
        return Invalid(f"the template's resource requests cannot be read: {error}")
    if found.milli_cpu <= 0:
        # AWS: vCPU must be present after the merge. Without it maxvCpus would bound nothing.
        return Invalid(
            "no container requests any CPU, so the job cannot be placed: set "
            "resources.requests.cpu in the definition's podTemplate or in spec.containerOverrides"
        )
    return found


def _total(spec: Mapping[str, Any], read: Callable[[Mapping[str, Any]], int]) -> int:
    inits = [(one.get("restartPolicy") == "Always", one) for one in spec["initContainers"]]
    total = total_request(
        [_asked(one, read) for one in spec["containers"]],
        [(stays, _asked(one, read)) for stays, one in inits],
        read((spec.get("resources") or {}).get("requests") or {}),
    )
    # The limit of the Pod as a whole is its request only where no container asks.
    return (total or _asked(spec, read)) + read(spec.get("overhead") or {})


def _asked(holder: Mapping[str, Any], read: Callable[[Mapping[str, Any]], int]) -> int:
    """What a container, or the Pod as a whole, asks for in its `resources`."""
    resources = holder.get("resources") or {}
    # Kubernetes copies a missing request from the limit.
    return read({**(resources.get("limits") or {}), **(resources.get("requests") or {})})
