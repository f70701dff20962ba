"""What a checker is, and what it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from batch_operator.api import meta
from batch_operator.cluster.client import CONTROLLER_REVISIONS
from batch_operator.simulator.job_controller import LABEL_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.simulator.api_server import ApiServer, Write

OPERATOR = "batch-operator"
"""Whose writes are the operator's."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold: which, when, and a sentence that says for what."""

    invariant: str
    at_s: float
    sentence: str

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at_s:.3f} s: {self.sentence}"


@dataclass(frozen=True, slots=True)
class End:
    """The world when a simulation is over. `is_settled` says that nothing was left to happen."""

    server: ApiServer
    at_s: float
    is_settled: bool
    late_writes: tuple[Write, ...] = ()
    """The operator's writes after the world had come to rest."""


class Checker(Protocol):
    """Owns one invariant: reads what the API server accepted, and says what must not be.

    A checker knows the wire format and AWS Batch's rules, and nothing of how the operator works.
    """

    name: str

    def see(self, write: Write) -> Iterable[str]:
        """Sentences about what this write breaks."""
        ...

    def finish(self, end: End) -> Iterable[str]:
        """Sentences about what is wrong with the world in the end."""
        ...


@dataclass(frozen=True, slots=True)
class AttemptPod:
    """A Pod of the operator as the checkers see it."""

    uid: str
    name: str
    job_uid: str
    index: int
    node: str
    number: int
    environment: str
    is_gated: bool
    is_bound: bool
    is_live: bool
    """Containers of it run, or may still come to run."""

    @property
    def is_main(self) -> bool:
        """It decides over its attempt: of a multi-node job the main node, of any other all Pods."""
        return self.node in {"", "0/0"}

    @property
    def child(self) -> tuple[str, int]:
        return self.job_uid, self.index


def attempt_pod(pod: Mapping[str, Any]) -> AttemptPod | None:
    """The attempt that a Pod stands for; None when it is none of the operator's."""
    metadata = pod["metadata"]
    labels = metadata.get("labels", {})
    if meta.LABEL_JOB_UID not in labels or meta.LABEL_ATTEMPT not in labels:
        return None
    is_bound = "nodeName" in pod["spec"]
    is_over = pod["status"].get("phase") in {"Succeeded", "Failed"}
    place = labels.get(LABEL_INDEX)
    never_runs = not is_bound and "deletionTimestamp" in metadata
    return AttemptPod(
        uid=metadata["uid"],
        name=metadata["name"],
        job_uid=labels[meta.LABEL_JOB_UID],
        index=int(labels.get(meta.LABEL_ARRAY_INDEX, "0")),
        node=f"{labels.get(meta.LABEL_NODE_GROUP)}/{place}" if place is not None else "",
        number=int(labels[meta.LABEL_ATTEMPT]),
        environment=labels.get(meta.LABEL_COMPUTE_ENVIRONMENT, ""),
        is_gated=bool(pod["spec"].get("schedulingGates")),
        is_bound=is_bound,
        is_live=not is_over and not never_runs,
    )


class Revisions:
    """What attempts run: the revisions of definitions, as they were recorded."""

    def __init__(self) -> None:
        self._specs: dict[tuple[str, str, str], Mapping[str, Any]] = {}

    def see(self, write: Write) -> None:
        if write.resource is CONTROLLER_REVISIONS and write.is_creation:
            value, metadata = write.object, write.object["metadata"]
            definition = metadata.get("labels", {}).get(meta.LABEL_JOB_DEFINITION, "")
            key = metadata["namespace"], definition, str(value["revision"])
            self._specs[key] = value.get("data", {})

    def of(self, job: Mapping[str, Any], pod: Mapping[str, Any]) -> Mapping[str, Any]:
        """The revision of the job's definition that its Pod names."""
        name = job["spec"]["jobDefinition"].partition(":")[0]
        revision = pod["metadata"]["labels"].get(meta.LABEL_REVISION, "")
        return self._specs.get((job["metadata"]["namespace"], name, revision), {})


def title(value: Mapping[str, Any]) -> str:
    """Kind, namespace and name, for a sentence."""
    metadata = value["metadata"]
    where = f"{metadata['namespace']}/" if "namespace" in metadata else ""
    return f"{value['kind']} {where}{metadata['name']}"
