"""Whole scenarios, each from a seed: a world, jobs, and what people and the cloud do meanwhile.

Every third world is steady (see `drawn_worlds`). As a program it prints a scenario's documents:

    python -m support.drawn_scenarios SEED [--cut-off]
"""

from __future__ import annotations

import argparse
import sys
from random import Random  # noqa: TID251  # seeded: the same seed gives the same scenario
from typing import TYPE_CHECKING, Any

import yaml

from support.drawn_jobs import LATE_S, LINES, LINES_MAX, drawn_behaviors, drawn_jobs
from support.drawn_worlds import NAMESPACES, SHARES, TYPES, drawn_world, maybe, pod_template
from support.play import later, written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.drawn_jobs import Submission
    from support.drawn_worlds import World

    Json = dict[str, Any]

STEADY_EVERY = 3
LAST_S = 1200.0
"""Nobody does anything later than that."""
UNTIL = "4h"
CUT_OFF = {"for": "10m"}


def is_steady(seed: int) -> bool:
    return seed % STEADY_EVERY == 0


def drawn_documents(seed: int, *, is_cut_off: bool = False) -> list[Json]:
    """The scenario of a seed.

    Args:
        seed: decides everything.
        is_cut_off: for ten minutes nothing of the operator reaches the API server, nor the reverse.
    """
    chance = Random(f"scenario {seed}")  # noqa: S311  # no secret depends on it
    world = drawn_world(chance, is_steady=is_steady(seed))
    jobs = drawn_jobs(chance, world)
    manifests = world.manifests
    late = [] if world.is_steady else [one for one in manifests if _comes_late(chance, one)]
    at_once = [one for one in manifests if one not in late]
    events = [
        *_submissions(jobs),
        *(_applied(chance.uniform(5, LATE_S), one) for one in late),
        *_lines(chance, world),
        *(_requests(chance, world, jobs)),
        *(_administration(chance, world, late)),
        *(_accidents(chance, world)),
    ]
    if is_cut_off:
        at_s = Random(f"cut off {seed}").uniform(5, LATE_S)  # noqa: S311
        events.append({"at": _at(at_s), "cutOffOperator": CUT_OFF})
    spec = {
        "until": UNTIL,
        "nodes": world.nodes,
        "pools": world.pools,
        "behaviors": drawn_behaviors(chance, world, jobs),
        "scoringStrategy": chance.choice(("LeastAllocated", "MostAllocated")),
        "events": _in_order(events, is_in_bursts=chance.random() < 0.25),
    }
    return [
        *at_once,
        *(one.manifest for one in jobs if not one.at_s),
        written("Scenario", f"seed-{seed}", spec),
    ]


def _in_order(events: Sequence[Json], *, is_in_bursts: bool) -> list[Json]:
    """By time; in bursts, much of it happens at the same moments."""
    ordered = sorted(events, key=_at_s)
    return [{**one, "at": _at(_at_s(one) // 10 * 10)} if is_in_bursts else one for one in ordered]


def _at_s(event: Json) -> float:
    return float(event["at"].removesuffix("s"))


def _at(at_s: float) -> str:
    return f"{at_s:.1f}s"


def _comes_late(chance: Random, one: Json) -> bool:
    """Now and then somebody applies last what should have been there first."""
    return one["kind"] != "ComputeEnvironment" and chance.random() < 0.06


def _applied(at_s: float, one: Json) -> Json:
    return {"at": _at(at_s), "apply": one}


def _submissions(jobs: Sequence[Submission]) -> list[Json]:
    return [_applied(one.at_s, one.manifest) for one in jobs if one.at_s]


def _lines(chance: Random, world: World) -> Iterator[Json]:
    """The ConfigMap of parameters; it may come late, be of no use at first, and be made anew."""
    for namespace in NAMESPACES:
        if not world.is_steady and chance.random() < 0.3:
            body = _config_map(namespace, chance.choice((0, 4)), immutable=chance.random() < 0.5)
            yield _applied(0.5, body)
            target = {"kind": "ConfigMap", "name": LINES, "namespace": namespace}
            yield {"at": "99.5s", "delete": target}
            yield _applied(100.0, _config_map(namespace, LINES_MAX, immutable=True))
        else:
            body = _config_map(namespace, LINES_MAX, immutable=True)
            yield _applied(chance.choice((0.5, 100.0)), body)


def _config_map(namespace: str, lines: int, *, immutable: bool) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": LINES, "namespace": namespace},
        "immutable": immutable,
        "data": {"lines": "".join(f"line-{number}\n" for number in range(lines))},
    }


# What users ask for


def _requests(chance: Random, world: World, jobs: Sequence[Submission]) -> Iterator[Json]:
    for job in jobs:
        if "ttlSecondsAfterFinished" in job.spec or chance.random() < 0.75:
            continue
        begin_s = job.at_s + chance.choice((0.1, 2.0, 30.0))
        times = sorted(chance.uniform(begin_s, begin_s + 400) for _ in range(3))
        if world.is_steady:
            yield from _pause(times, job)
        else:
            yield from _interference(chance, times, job)


def _pause(times: Sequence[float], job: Submission) -> Iterator[Json]:
    yield _patched(times[0], job, suspend=True)
    yield _patched(times[1], job, suspend=False)


def _interference(chance: Random, times: Sequence[float], job: Submission) -> Iterator[Json]:
    """A user who changes their mind, up to three times; after a deletion there is nothing left."""
    target = {"kind": "BatchJob", "name": job.name, "namespace": job.namespace}
    for at_s in times[: chance.randint(1, 3)]:
        match chance.choice(("cancel", "terminate", "suspend", "resume", "priority", "delete")):
            case "cancel":
                yield _patched(at_s, job, cancel={"reason": f"not needed at {at_s:.0f}"})
            case "terminate":
                yield _patched(at_s, job, terminate={"reason": f"enough at {at_s:.0f}"})
            case "suspend":
                yield _patched(at_s, job, suspend=True)
            case "resume":
                yield _patched(at_s, job, suspend=False)
            case "priority":
                yield _patched(at_s, job, schedulingPriority=chance.randint(0, 99))
            case _:
                yield {"at": _at(at_s), "delete": target}
                yield from _again(chance, at_s, job)
                return
    if chance.random() < 0.7:
        yield _patched(times[-1] + 30, job, suspend=False)


def _again(chance: Random, at_s: float, job: Submission) -> Iterator[Json]:
    """The same job once more, perhaps before the first is gone."""
    if chance.random() < 0.3:
        yield _applied(at_s + chance.choice((0.5, 60.0)), job.manifest)


def _patched(at_s: float, job: Submission, **spec: Any) -> Json:
    target = {"kind": "BatchJob", "name": job.name, "namespace": job.namespace}
    return {"at": _at(at_s), "patch": {**target, "spec": spec}}


# What administrators do


def _administration(chance: Random, world: World, late: Sequence[Json]) -> Iterator[Json]:
    for one in world.manifests:
        if one in late or chance.random() < 0.6:
            continue
        times = sorted(chance.uniform(1, LAST_S / 2) for _ in range(2))
        match one["kind"]:
            case "JobQueue":
                yield from _queue_changes(chance, world, times, one)
            case "ComputeEnvironment":
                yield from _environment_changes(chance, world, times, one)
            case _ if not world.is_steady:
                yield from _other_changes(chance, world, times, one)


def _changed(at_s: float, one: Json, **spec: Any) -> Json:
    made = later(_at(at_s), one["kind"], one["metadata"]["name"], **spec)
    if "namespace" in one["metadata"]:
        made["patch"]["namespace"] = one["metadata"]["namespace"]
    return made


def _gone(at_s: float, one: Json) -> Json:
    return {"at": _at(at_s), "delete": {"kind": one["kind"], **one["metadata"]}}


def _queue_changes(
    chance: Random, world: World, times: Sequence[float], one: Json
) -> Iterator[Json]:
    if world.is_steady or chance.random() < 0.5:
        yield _changed(times[0], one, state="DISABLED", priority=chance.randint(0, 9))
        if world.is_steady or chance.random() < 0.9:
            yield _changed(times[1], one, state="ENABLED")
        return
    names = world.names("ComputeEnvironment")
    order = [
        {"order": number, "computeEnvironment": name}
        for number, name in enumerate(chance.sample(names, chance.randint(1, len(names))))
    ]
    yield _changed(times[0], one, computeEnvironmentOrder=order, backfill=chance.random() < 0.5)
    policies = world.names("SchedulingPolicy")
    if "schedulingPolicy" in one["spec"] and policies:
        yield _changed(times[1], one, schedulingPolicy=chance.choice(policies))
    elif chance.random() < 0.15:
        yield _gone(times[1], one)


def _environment_changes(
    chance: Random, world: World, times: Sequence[float], one: Json
) -> Iterator[Json]:
    usual = one["spec"]["maxvCpus"]
    least = one["spec"].get("minvCpus", 1)
    if world.is_steady or chance.random() < 0.6:
        closed = chance.random() < 0.5
        other = max(least, usual + chance.randint(-3, 3))
        first = {"state": "DISABLED"} if closed else {"maxvCpus": other}
        yield _changed(times[0], one, **first)
        if world.is_steady or chance.random() < 0.85:
            yield _changed(times[1], one, maxvCpus=usual, state="ENABLED")
        return
    if "instanceTypes" in one["spec"] and one["spec"].get("allocationStrategy") != "BEST_FIT":
        some = chance.sample(TYPES, chance.randint(1, 2))
        yield _changed(times[0], one, instanceTypes=some)
    if chance.random() < 0.3:
        yield _gone(times[1], one)


def _other_changes(
    chance: Random, world: World, times: Sequence[float], one: Json
) -> Iterator[Json]:
    match one["kind"]:
        case "ConsumableResource":
            yield _changed(times[0], one, totalQuantity=chance.randint(0, 9))
        case "SchedulingPolicy":
            row = {"shareIdentifier": chance.choice(SHARES), "weightFactor": 0.25}
            yield _changed(times[0], one, fairsharePolicy={"shareDistribution": [row]})
        case "JobDefinition" if "podTemplate" in one["spec"]:
            yield _changed(times[0], one, podTemplate=pod_template(chance, world))
        case _:
            pass
    if chance.random() < 0.2:
        yield _gone(times[1], one)
        if chance.random() < 0.5:
            yield _applied(times[1] + chance.choice((1.0, 60.0)), one)


# What happens by itself


def _accidents(chance: Random, world: World) -> Iterator[Json]:
    if chance.random() < 0.4:
        down_for = chance.choice(("0s", "5s", "90s"))
        yield {"at": _at(chance.uniform(1, LATE_S)), "restartOperator": {"downFor": down_for}}
    if world.is_steady:
        return
    for name in world.names("ComputeEnvironment"):
        if any(one["computeEnvironment"] == name for one in world.nodes) and chance.random() < 0.3:
            yield from _cordoned(chance, f"{name}-1")
            continue
        for _ in range(chance.choice((0, 0, 1, 2))):
            lost = {
                "computeEnvironment": name,
                "count": chance.randint(1, 3),
                **maybe(chance, 0.5, notice=chance.choice(("10s", "2m"))),
            }
            yield {"at": _at(chance.uniform(10, LAST_S / 2)), "interruptNodes": lost}
    for pool in world.pools:
        if chance.random() < 0.3:
            name = pool["computeEnvironment"]
            refusal = {"computeEnvironment": name, "for": chance.choice(("1m", "10m"))}
            yield {"at": _at(chance.uniform(1, LATE_S)), "refuseCapacity": refusal}


def _cordoned(chance: Random, name: str) -> Iterator[Json]:
    at_s = chance.uniform(1, LATE_S)
    yield later(_at(at_s), "Node", name, unschedulable=True)
    if chance.random() < 0.8:
        yield later(_at(at_s + chance.uniform(5, LATE_S)), "Node", name, unschedulable=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m support.drawn_scenarios", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--cut-off", action="store_true")
    arguments = parser.parse_args()
    documents = drawn_documents(arguments.seed, is_cut_off=arguments.cut_off)
    sys.stdout.write(written_documents(documents))


def written_documents(documents: Sequence[Json]) -> str:
    """As `batch-operator simulate` reads them."""
    text: str = yaml.dump_all(documents, sort_keys=False, Dumper=_Plain)
    return text


class _Plain(yaml.SafeDumper):
    """Without anchors: a document is read by people when it fails."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


if __name__ == "__main__":
    main()
