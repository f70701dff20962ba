"""Jobs of a drawn scenario: submitted when, waiting for what, and what their containers do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.drawn_worlds import NAMESPACES, SHARES, consumables, maybe, retry_strategy
from support.play import batch_job

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from random import Random  # noqa: TID251  # seeded by whoever draws

    from support.drawn_worlds import World

    Json = dict[str, Any]

JOBS_MAX, CHILDREN_MAX = 40, 120
LATE_S = 300.0
"""Most jobs are submitted by then, as long as faults go on."""
LINES = "samples"
"""The ConfigMap that arrays take parameters from."""
LINES_MAX = 104
"""So many lines it has in the end: enough for every index."""
_OF_ARRAYS = frozenset({"N_TO_N", "SEQUENTIAL"})
_TYPES = (None, None, None, "AFTER_ANY", "AFTER_ANY", "AFTER_FAILED", "N_TO_N")
_REASONS = ("OOMKilled", "OOMKilled", "ErrImagePull", "CreateContainerConfigError")
_REJECTIONS = ("OutOfcpu", "UnexpectedAdmissionError")


@dataclass(frozen=True, slots=True)
class Submission:
    """A job, and when it is applied."""

    at_s: float
    manifest: Json

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"]["namespace"])

    @property
    def spec(self) -> Json:
        spec: Json = self.manifest["spec"]
        return spec

    @property
    def children(self) -> int:
        """How many there are at most; of a rerun nobody knows before."""
        array = self.spec.get("arrayProperties", {})
        return int(array.get("size", 8 if array else 1))


def drawn_jobs(chance: Random, world: World) -> list[Submission]:
    """So many jobs, in order of submission, that a simulation of them takes a second or two."""
    jobs: list[Submission] = []
    times = sorted(_submitted_s(chance) for _ in range(chance.randint(5, JOBS_MAX)))
    for number, at_s in enumerate(times):
        if sum(one.children for one in jobs) < CHILDREN_MAX:
            namespace = NAMESPACES[chance.random() < 0.15]
            name = _name(chance, number, {one.name for one in jobs if one.namespace == namespace})
            made = batch_job(name, **_spec(chance, world, jobs, namespace, len(times)))
            made["metadata"]["namespace"] = namespace
            jobs.append(Submission(at_s, made))
    return jobs


def _name(chance: Random, number: int, taken: Collection[str]) -> str:
    """A job's own; now and then as long as names can be, or that of one in the other namespace."""
    how = chance.random()
    again = f"job-{chance.randint(0, number)}"
    if how < 0.1 and again not in taken:
        return again
    return f"job-{number}" + (
        "-with-so-long-a-name-that-its-pods-need-another-one" if how > 0.9 else ""
    )


def _submitted_s(chance: Random) -> float:
    if chance.random() < 0.4:
        return 0.0
    return round(chance.uniform(1.0, 4 * LATE_S if chance.random() < 0.1 else LATE_S), 1)


def _spec(
    chance: Random, world: World, earlier: Sequence[Submission], namespace: str, number: int
) -> Json:
    rare = 0.0 if world.is_steady else 1.0
    definitions = [
        one for one in world.definitions if one["metadata"]["namespace"] == namespace
    ] or world.definitions
    definition = chance.choice(definitions)
    is_gang = definition["spec"].get("type") == "multinode"
    queue = chance.choice(world.queues)
    spec: Json = {
        "jobQueue": queue["metadata"]["name"],
        "jobDefinition": definition["metadata"]["name"],
        **({} if is_gang else maybe(chance, 0.5, arrayProperties=_array(chance, world, earlier))),
        **maybe(chance, 0.35, dependsOn=_dependencies(chance, earlier, namespace, number)),
        **_share(chance, world, queue),
        **maybe(chance, 0.2, schedulingPriority=chance.randint(0, 30)),
        **maybe(chance, 0.2, retryStrategy=retry_strategy(chance)),
        **maybe(chance, 0.1, timeout={"attemptDurationSeconds": 60}),
        **maybe(chance, 0.1, consumableResources=consumables(chance, world)),
        **maybe(chance, 0.08 * rare, ttlSecondsAfterFinished=chance.choice((0, 30, 600))),
        **maybe(chance, 0.05 * rare, suspend=True),
        **(_other_nodes(chance, rare) if is_gang else _other_size(chance, rare)),
        **_impossible(chance, rare),
    }
    if "arrayProperties" not in spec and "dependsOn" in spec:
        of_jobs = (one for one in spec["dependsOn"] if one.get("type") not in _OF_ARRAYS)
        spec["dependsOn"] = list(of_jobs)
    return spec


def _share(chance: Random, world: World, queue: Json) -> Json:
    """A share identifier where there is a policy; or, now and then, the wrong way round."""
    is_fair = "schedulingPolicy" in queue["spec"]
    if not world.is_steady and chance.random() < 0.05:
        is_fair = not is_fair
    return {"shareIdentifier": chance.choice(SHARES)} if is_fair else {}


def _array(chance: Random, world: World, earlier: Sequence[Submission]) -> Json:
    arrays = [one.name for one in earlier if "arrayProperties" in one.spec]
    rare = 0.0 if world.is_steady else 1.0
    if arrays and chance.random() < 0.2:
        members: Json = {"rerunFailedOf": chance.choice(arrays)}
    elif chance.random() < 0.3:
        members = {"indexes": chance.choice(("3-5,9", "0,7,40-42", "1", "100-103"))}
    else:
        members = {"size": chance.choice((1, 2, 3, 5, 8, 8, 12))}
    return {
        **members,
        **maybe(chance, 0.3, maxParallel=chance.randint(1, 4)),
        **maybe(chance, 0.3 * rare, maxFailedIndexes=chance.randint(0, 2)),
        **maybe(chance, 0.25, parameters=_parameters(chance, members)),
    }


def _parameters(chance: Random, members: Json) -> Json:
    """Values from a ConfigMap; or a list or matrix, which are too short for indexes far away."""
    lines: Json = {"name": LINES, "key": "lines", "parameters": ["mode"]}
    values = [f"value-{number}" for number in range(members.get("size", 43))]
    return chance.choice(
        (
            {"configMap": lines},
            {"lists": [{"name": "mode", "values": values}]},
            {"matrix": [{"name": "mode", "values": ["a"]}, {"name": "x", "values": values}]},
        )
    )


def _dependencies(
    chance: Random, earlier: Sequence[Submission], namespace: str, number: int
) -> list[Json]:
    """On earlier jobs, and now and then on a later one, on nothing, or on the child before."""
    known = [one for one in earlier if one.namespace == namespace]
    found: list[Json] = []
    for one in chance.sample(known, min(len(known), chance.choice((1, 1, 1, 2, 3)))):
        kind, array = chance.choice(_TYPES), "arrayProperties" in one.spec
        if array and kind != "N_TO_N" and chance.random() < 0.3:
            found.append({"job": one.name, "index": chance.randint(0, 5)})
        elif kind != "N_TO_N" or array:
            found.append({"job": one.name, **({"type": kind} if kind else {})})
    if chance.random() < 0.06:
        found.append({"job": f"job-{chance.randint(len(earlier) + 1, number + 1)}"})
    if chance.random() < 0.06:
        found.append({"type": "SEQUENTIAL"})
    return found


def _other_size(chance: Random, rare: float) -> Json:
    requests = {
        "cpu": chance.choice(("250m", "1", "2")) if rare else "500m",
        **maybe(chance, 0.3 * rare, memory=chance.choice(("1Gi", "6Gi"))),
    }
    overrides = [{"resources": {"requests": requests}}]
    return maybe(chance, 0.15, containerOverrides=overrides)


def _other_nodes(chance: Random, rare: float) -> Json:
    return maybe(chance, 0.2 * rare, nodeOverrides={"numNodes": chance.randint(1, 5)})


def _impossible(chance: Random, rare: float) -> Json:
    """What names nothing or asks for more than there is."""
    too_large = [{"resources": {"requests": {"cpu": "64"}}}]
    return {
        **maybe(chance, 0.05, jobDefinition=chance.choice(("unknown", "work-0:7", "work-1:1"))),
        **maybe(chance, 0.02, jobQueue="unknown"),
        **maybe(chance, 0.03 * rare, containerOverrides=too_large),
    }


def drawn_behaviors(chance: Random, world: World, jobs: Sequence[Submission]) -> list[Json]:
    """What the jobs' containers do; of some only one child, node or attempt."""
    found: list[Json] = []
    for one in jobs:
        if chance.random() < 0.3:
            found.append({"job": one.name, **_where(chance, one), **_end(chance, world)})
        if chance.random() < 0.7:
            found.append({"job": one.name, **_end(chance, world)})
    return found


def _where(chance: Random, job: Submission) -> Json:
    if "arrayProperties" in job.spec:
        return {"index": chance.randint(0, 4), **maybe(chance, 0.5, attempt=1)}
    if job.spec["jobDefinition"].startswith("gang"):
        return {"node": chance.randint(0, 2), **maybe(chance, 0.5, attempt=1)}
    return {"attempt": chance.randint(1, 2)}


def _end(chance: Random, world: World) -> Json:
    """In a steady world nothing runs for a minute: a time limit is either never near, or missed.

    What has a timeout there and runs for longer is stopped, however late.
    """
    runtimes = (
        ("1s", "5s", "20s", "45s") if world.is_steady else ("1s", "10s", "40s", "2m", "2m", "10m")
    )
    how = chance.random()
    end: Json = {}
    if how < 0.2:
        end = {"failureRate": chance.choice((0.2, 0.5, 0.9))}
    elif how < 0.28:
        end = {"exitCode": chance.choice((1, 2, 137))}
    elif how < 0.38:
        end = {"reason": chance.choice(_REASONS)}
    elif how < 0.42 and not world.is_steady:
        end = {"reason": chance.choice(_REJECTIONS)}
    return {
        "runtime": chance.choice(runtimes),
        **end,
        **maybe(chance, 0.3, pullTime=chance.choice(("0s", "3s", "20s"))),
    }
