"""A few lines of manifest, played by the simulator: what a user of a cluster would see.

The operator in it is the real one; every invariant that the simulator checks is insisted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.cluster.client import ApiError
from batch_operator.manifests.pods import pod
from batch_operator.simulator.admission import admitted
from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import Scenario, ScenarioSpec, manifest
from support.builders import definition as definition_of
from support.builders import definition_spec, pod_template
from support.builders import job as a_job
from support.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.simulator.process import Crash
    from batch_operator.simulator.report import Outcome

    Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """What became of the jobs."""

    outcome: Outcome

    def path(self, job: str, index: int | None = None) -> list[str]:
        """The states of a job, or of one child of an array, in order."""
        return [
            one.after.value
            for one in self.outcome.transitions
            if (one.job, one.index) == (job, index)
        ]

    def at(self, state: str, job: str, index: int | None = None) -> float:
        """When the job was in that state first, in virtual seconds."""
        return next(
            one.at_s
            for one in self.outcome.transitions
            if (one.job, one.index, one.after) == (job, index, state)
        )

    def order(self, state: str = "RUNNING") -> list[tuple[str, int | None]]:
        """Jobs and children in the order in which they came into a state."""
        return [(one.job, one.index) for one in self.outcome.transitions if one.after == state]

    def final(self, job: str) -> dict[str, Any]:
        return next(one for one in self.outcome.finals if one["final"] == f"default/{job}")

    def resource(self, name: str) -> Spec:
        """The status of a ConsumableResource."""
        return self.outcome.statuses["ConsumableResource", "", name]

    def queue(self, name: str = "main") -> Spec:
        """The status of a JobQueue."""
        return self.outcome.statuses["JobQueue", "", name]

    def environment(self, name: str = "local") -> Spec:
        """The status of a ComputeEnvironment."""
        return self.outcome.statuses["ComputeEnvironment", "", name]

    def rows(self, job: str) -> list[dict[str, Any]]:
        """The rows of a job's attempts."""
        rows: list[dict[str, Any]] = self.outcome.statuses["BatchJob", "default", job]["attempts"]
        return rows

    def state(self, job: str) -> str:
        return str(self.final(job)["state"])

    def reason(self, job: str) -> str | None:
        """The job's statusReason."""
        reason: str | None = self.final(job)["statusReason"]
        return reason

    def attempts(self, job: str) -> int:
        return int(self.final(job)["attempts"])

    def waits_for(self, job: str) -> str | None:
        """The token of why it is not running."""
        pending: dict[str, str] = self.final(job).get("pending") or {}
        return pending.get("reason")

    def counts(self, job: str) -> dict[str, int]:
        """An array's children by state, without the states that none is in."""
        return {state: count for state, count in self.final(job)["summary"].items() if count}


def play(
    jobs: Mapping[str, Spec],
    *,
    definition: Spec | None = None,
    definitions: Mapping[str, Spec] | None = None,
    queue: Spec | None = None,
    max_vcpus: int = 100,
    others: Iterable[Spec] = (),
    behaviors: Iterable[Spec] = (),
    events: Iterable[Spec] = (),
    nodes: Iterable[Spec] = (),
    pools: Iterable[Spec] = (),
    until: str | None = None,
    crash: Crash | None = None,
) -> Played:
    """Simulate jobs in queue `main` of definition `work`, unless they say otherwise.

    Args:
        jobs: specs of BatchJobs by name, submitted at 0 s in this order.
        definition: fields of definition `work` beside a Pod that asks for 1 vCPU.
        definitions: specs of more JobDefinitions by name.
        queue: fields of queue `main` beside its only environment, `local`.
        max_vcpus: of `local`.
        others: manifests as they are.
        behaviors: what containers do; see the simulator's documentation.
        events: what happens when; the same.
        nodes: groups of nodes in place of one as large as `local`; the same.
        pools: how machines of MANAGED environments behave; the same.
        until: the virtual time at which to stop, at the latest.
        crash: at which of its writes the operator dies.
    """
    order = [{"order": 1, "computeEnvironment": "local"}]
    work = {"podTemplate": pod_template(), **(definition or {})}
    manifests = [
        written("ComputeEnvironment", "local", {"type": "UNMANAGED", "maxvCpus": max_vcpus}),
        *others,
        written("JobQueue", "main", {"priority": 1, "computeEnvironmentOrder": order}, queue),
        *(
            written("JobDefinition", name, spec)
            for name, spec in {"work": work, **(definitions or {})}.items()
        ),
        *(batch_job(name, **spec) for name, spec in jobs.items()),
    ]
    happens = list(events)
    applied = {
        number: manifest(event["apply"], "event")
        for number, event in enumerate(happens)
        if "apply" in event
    }
    spec: dict[str, Any] = {
        "behaviors": list(behaviors),
        "events": happens,
        "nodes": list(nodes),
        "pools": list(pools),
    }
    if until is not None:
        spec["until"] = until
    scenario = Scenario(
        tuple(manifest(one, "manifest") for one in manifests),
        ScenarioSpec.model_validate(spec),
        applied,
    )
    outcome = simulate(scenario, crash=crash)

    assert not outcome.violations, outcome.violations[0]
    return Played(outcome)


def written(kind: str, name: str, spec: Spec, more: Spec | None = None) -> dict[str, Any]:
    """A manifest of one of our kinds."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {**spec, **(more or {})},
    }


def batch_job(name: str, **spec: Any) -> dict[str, Any]:
    return written("BatchJob", name, {"jobQueue": "main", "jobDefinition": "work", **spec})


def later(at: str, kind: Any = "BatchJob", name: Any = "a", **spec: Any) -> dict[str, Any]:
    """An event: fields of an object's spec are changed, as `kubectl patch` would."""
    return {"at": at, "patch": {"kind": kind, "name": name, "spec": spec}}


def refusal(kind: str, spec: Spec, before: Spec | None = None) -> str | None:
    """What the API server would answer to `kubectl apply` of a spec; None if it takes it."""
    stored = None if before is None else admitted(kind, written(kind, "a", before), None)
    try:
        admitted(kind, written(kind, "a", spec), stored)
    except ApiError as error:
        return error.message
    return None


def refusal_of_job(before: Spec | None = None, **spec: Any) -> str | None:
    base = {"jobQueue": "main", "jobDefinition": "work"}
    return refusal("BatchJob", {**base, **spec}, {**base, **before} if before is not None else None)


def world_of(definition_fields: Spec | None = None, *, max_vcpus: int = 100, **job: Any) -> World:
    """A world with job `a` in it, whose Pods the test moves itself."""
    world = World(max_vcpus=max_vcpus)
    world.definitions = [definition_of("work", definition_spec(**(definition_fields or {})))]
    world.restart()
    world.submit(a_job("a", **job))
    world.settle()
    return world


def pods_of(world: World) -> list[dict[str, Any]]:
    """The Pods that were asked for, as they are written."""
    return [pod(start) for start in world.started]


def first_container(definition_fields: Spec | None = None, **job: Any) -> dict[str, Any]:
    """The first container of the first Pod of a job."""
    made: dict[str, Any] = pods_of(world_of(definition_fields, **job))[0]["spec"]["containers"][0]
    return made


def variables_of(made: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables of a Pod's first container."""
    return {one["name"]: one["value"] for one in made["spec"]["containers"][0]["env"]}
