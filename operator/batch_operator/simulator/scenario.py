"""What a simulation is given: manifests, and the one document that only the simulator reads.

Every mistake is found before anything runs, and is one sentence that names file, document and
field.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from batch_operator.api import meta
from batch_operator.api.common import Quantity
from batch_operator.api.compute_environment import CapacityType, NodeOverhead
from batch_operator.api.quantity import memory_bytes
from batch_operator.cluster.client import (
    BY_KIND,
    CONFIG_MAPS,
    NAMESPACES,
    NODES,
    ApiError,
    Resource,
)
from batch_operator.simulator.admission import admitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from batch_operator.provisioning.pools import PoolKey
    from batch_operator.simulator.recorded import Recorded

KIND = "Scenario"
APPLICABLE = {**BY_KIND, CONFIG_MAPS.kind: CONFIG_MAPS, NAMESPACES.kind: NAMESPACES}
"""What may be applied, by kind: our own, and what they refer to."""
PATCHABLE = {**BY_KIND, NAMESPACES.kind: NAMESPACES, NODES.kind: NODES}
"""What may be patched, by kind: people do things to nodes too."""
DELETABLE = {**BY_KIND, CONFIG_MAPS.kind: CONFIG_MAPS, NODES.kind: NODES}
"""Not a Namespace, with which all that is in it would go."""
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SUFFIXES = frozenset({".yaml", ".yml"})
_OUT_OF_MEMORY, _KILLED = "OOMKilled", 137
DURATION_MAX_S = 366 * 86_400.0


class InvalidInputError(Exception):
    """The input cannot be simulated; the message is a sentence for the user."""


def duration_s(text: object) -> float:
    """Seconds of a duration such as `30s`, `5m`, `2h` or `1h30m`.

    Raises:
        ValueError: not a duration, or longer than a year.
    """
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration: write one such as 30s, 5m, 2h or 1h30m")
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    if seconds > DURATION_MAX_S:
        raise ValueError(f"{text!r} is longer than a year")
    return seconds


def _checked_memory(value: Any) -> Any:
    memory_bytes(value)
    return value


Duration = Annotated[float, BeforeValidator(duration_s)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class NodeGroup(_Strict):
    """Nodes of one size that exist from the beginning."""

    compute_environment: str
    instance_type: str = Field(default="node", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    count: int = Field(ge=1, le=10_000)
    vcpus: int = Field(ge=1, le=100_000)
    memory: Annotated[Quantity, BeforeValidator(_checked_memory)]
    capacity_type: CapacityType = CapacityType.ON_DEMAND


class _Pools(_Strict):
    """Which pools of MANAGED environments are meant; what is omitted matches everything."""

    compute_environment: str = "*"
    instance_type: str = "*"
    capacity_type: CapacityType | None = None

    def matches(self, environment: str, pool: PoolKey) -> bool:
        return (
            fnmatchcase(environment, self.compute_environment)
            and fnmatchcase(pool.instance_type, self.instance_type)
            and self.capacity_type in {None, pool.capacity_type}
        )


class PoolBehavior(_Pools):
    """What the machines of matching pools do. `nodes`: so many at most, more are refused.

    `system_reserved` is what a kubelet keeps of its machine: its node has so much less to give than
    the instance type declares.
    """

    start_up: Duration = 40.0
    nodes: int | None = Field(default=None, ge=0, le=100_000)
    interruptions_per_hour: float = Field(default=0.0, ge=0, le=3600)
    notice: Duration = 120.0
    system_reserved: NodeOverhead = NodeOverhead()


class Behavior(_Strict):
    """What the containers of matching attempts do. What is omitted matches everything.

    With a `failure_rate`, so large a part of the attempts fails as described; the others succeed.
    """

    job: str = "*"
    index: int | None = Field(default=None, ge=0)
    node: int | None = Field(default=None, ge=0)
    attempt: int | None = Field(default=None, ge=1)
    runtime: Duration = 10.0
    exit_code: int | None = Field(default=None, ge=0, le=255)
    reason: str | None = Field(default=None, min_length=1, max_length=255)
    failure_rate: float | None = Field(default=None, ge=0, le=1)
    pull_time: Duration = 1.0

    @model_validator(mode="after")
    def _fails_if_it_fails(self) -> Behavior:
        if self.failure_rate is not None and self.exit_code == 0:
            raise ValueError("with a failureRate, give the exitCode of a failure (1 if left out)")
        return self

    def matches(self, job: str, index: int | None, node: int | None, attempt: int) -> bool:
        return (
            fnmatchcase(job, self.job)
            and self.index in {None, index}
            and self.node in {None, node}
            and self.attempt in {None, attempt}
        )

    def end(self, drawn: float) -> tuple[int, str | None]:
        """Exit code and reason of an attempt that has drawn this number; see `draw`."""
        if self.failure_rate is not None and drawn >= self.failure_rate:
            return 0, None
        usual = 0 if self.failure_rate is None else 1
        implied = _KILLED if self.reason == _OUT_OF_MEMORY else usual
        return implied if self.exit_code is None else self.exit_code, self.reason


def draw(seed: int, job: str, index: int | None, attempt: int) -> float:
    """A number from 0 up to 1 that hangs on nothing else, such as when the attempt runs.

    Below the failure rate the attempt fails. All nodes of a multi-node job have the same.
    """
    text = f"{seed} {job} {index} {attempt}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest()) / 2**48


class Target(_Strict):
    """One object."""

    kind: str
    name: str
    namespace: str = "default"


class Patch(Target):
    """A JSON merge patch of an object."""

    spec: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class InterruptNodes(_Strict):
    """Nodes that vanish, as interrupted spot instances do; with a `notice`, so long after it."""

    compute_environment: str
    count: int = Field(default=1, ge=1, le=10_000)
    notice: Duration = 0.0


class RefuseCapacity(_Pools):
    """For a while no more nodes of matching pools can be had."""

    for_: Duration = Field(alias="for")


class RestartOperator(_Strict):
    """The operator dies and is started again after `downFor`."""

    down_for: Duration = 0.0


class CutOffOperator(_Strict):
    """Nothing of the operator reaches the API server, as when that is away, nor the reverse."""

    for_: Duration = Field(alias="for")


class Event(_Strict):
    """Something that happens at a virtual time."""

    at: Duration
    interrupt_nodes: InterruptNodes | None = None
    refuse_capacity: RefuseCapacity | None = None
    apply: dict[str, Any] | None = None
    patch: Patch | None = None
    delete: Target | None = None
    restart_operator: RestartOperator | None = None
    cut_off_operator: CutOffOperator | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Event:
        if len(self.model_fields_set - {"at"}) != 1:
            raise ValueError(
                "give exactly one of interruptNodes, refuseCapacity, apply, patch, delete, "
                "restartOperator and cutOffOperator"
            )
        return self


class ScoringStrategy(StrEnum):
    """Which node kube-scheduler likes best (`NodeResourcesFit`): the emptiest, or the fullest."""

    LEAST_ALLOCATED = "LeastAllocated"
    MOST_ALLOCATED = "MostAllocated"


class ScenarioSpec(_Strict):
    """The world around the manifests."""

    until: Duration | None = None
    nodes: tuple[NodeGroup, ...] = ()
    pools: tuple[PoolBehavior, ...] = ()
    behaviors: tuple[Behavior, ...] = ()
    events: tuple[Event, ...] = ()
    scoring_strategy: ScoringStrategy = ScoringStrategy.LEAST_ALLOCATED


class _ScenarioMetadata(_Strict):
    name: str = ""


class _Document(_Strict):
    api_version: str
    kind: str
    metadata: _ScenarioMetadata = _ScenarioMetadata()
    spec: ScenarioSpec = ScenarioSpec()


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object to be applied. `where` names the document that it comes from."""

    resource: Resource
    namespace: str | None
    name: str
    body: Mapping[str, Any]
    where: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a simulation is given, checked. `applied` goes with `spec.events`."""

    manifests: tuple[Manifest, ...]
    spec: ScenarioSpec = field(default_factory=ScenarioSpec)
    applied: Mapping[int, Manifest] = field(default_factory=dict)
    """What an event applies, by the event's position."""
    recorded: Recorded | None = None
    """What there is before anything is applied: a cluster as it was."""


def read_scenario(paths: Sequence[Path], recorded: Recorded | None = None) -> Scenario:
    """Read manifests and at most one Scenario document from files and folders.

    Args:
        paths: files and folders.
        recorded: a snapshot that all of this happens to; then there may be no manifests.

    Raises:
        InvalidInputError: with a sentence about the first mistake.
    """
    manifests: list[Manifest] = []
    found: tuple[str, ScenarioSpec] | None = None
    for where, document in _documents(paths):
        if not isinstance(document, dict) or "kind" not in document:
            raise InvalidInputError(f"{where}: kind: missing; write a manifest")
        if document["kind"] != KIND:
            manifests.append(manifest(document, where))
        elif found is not None:
            raise InvalidInputError(f"{where}: a second Scenario (the first is {found[0]})")
        else:
            found = where, _scenario(document, where)
    if not manifests and recorded is None:
        raise InvalidInputError(f"{', '.join(map(str, paths))}: no manifests found")
    where, spec = found or ("", ScenarioSpec())
    applied = {
        number: manifest(
            {"apiVersion": meta.API_VERSION, **event.apply}, f"{where}: spec.events[{number}].apply"
        )
        for number, event in enumerate(spec.events)
        if event.apply is not None
    }
    before = recorded.objects if recorded else ()
    _check_references(where, spec, [*before, *manifests, *applied.values()])
    return Scenario(tuple(manifests), spec, applied, recorded)


def manifest(document: Mapping[str, Any], where: str) -> Manifest:
    """One document as an object to apply.

    Raises:
        InvalidInputError: the API server would refuse it, or nobody here knows its kind.
    """
    kind = document.get("kind")
    resource = APPLICABLE.get(str(kind))
    if resource is None or document.get("apiVersion") != resource.api_version:
        kinds = ", ".join([*BY_KIND, KIND])
        raise InvalidInputError(
            f"{where}: {document.get('apiVersion')} {kind} cannot be simulated: leave it out; "
            f"what can is {meta.API_VERSION} {kinds}, and {CONFIG_MAPS.api_version} "
            f"{CONFIG_MAPS.kind} and {NAMESPACES.kind}"
        )
    try:
        admitted(resource.kind, dict(document), None)
    except ApiError as error:
        raise InvalidInputError(f"{where}: {error.message}") from None
    metadata = document["metadata"]
    namespace = metadata.get("namespace", "default") if resource.namespaced else None
    return Manifest(resource, namespace, metadata["name"], document, where)


def _documents(paths: Iterable[Path]) -> Iterator[tuple[str, Any]]:
    """Every document that is not empty, with a name for it."""
    for path in _files(paths):
        try:
            text = path.read_text(encoding="utf-8")
            documents = list(yaml.safe_load_all(text))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"{path}: cannot be read: {error}") from None
        except yaml.YAMLError as error:
            raise InvalidInputError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
        for number, document in enumerate(documents, start=1):
            if document is not None:
                yield f"{path}, document {number}", document


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as they are named; a folder's YAML files by name."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES)
        if not inside:
            raise InvalidInputError(f"{path}: no .yaml files in this folder")
        yield from inside


def _scenario(document: Mapping[str, Any], where: str) -> ScenarioSpec:
    if document.get("apiVersion") != meta.API_VERSION:
        raise InvalidInputError(f"{where}: apiVersion: write {meta.API_VERSION}")
    try:
        return _Document.model_validate(document).spec
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidInputError(f"{where}: {path.lstrip('.')}: {message}") from None


def _check_references(where: str, spec: ScenarioSpec, manifests: Sequence[Manifest]) -> None:
    """Names in the Scenario that lead nowhere are typing mistakes."""
    known = {one.name for one in manifests if one.resource.kind == "ComputeEnvironment"}
    named = [
        (f"spec.nodes[{number}]", group.compute_environment)
        for number, group in enumerate(spec.nodes)
    ]
    for number, event in enumerate(spec.events):
        if event.interrupt_nodes is not None:
            path = f"spec.events[{number}].interruptNodes"
            named.append((path, event.interrupt_nodes.compute_environment))
        for verb, target, kinds in (
            ("patch", event.patch, PATCHABLE),
            ("delete", event.delete, DELETABLE),
        ):
            if target is not None and target.kind not in kinds:
                raise InvalidInputError(
                    f"{where}: spec.events[{number}].{verb}.kind: there is no {target.kind}: "
                    f"write one of {', '.join(kinds)}"
                )
    for path, name in named:
        if name not in known:
            raise InvalidInputError(
                f"{where}: {path}.computeEnvironment: there is no ComputeEnvironment {name}"
            )
