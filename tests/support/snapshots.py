"""Snapshots of simulated clusters: what `kubectl get -o json` would print at a moment."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from batch_operator.api import meta
from batch_operator.simulator.recorded import KINDS, read_recorded
from batch_operator.simulator.run import _Simulation
from batch_operator.simulator.scenario import Behavior
from batch_operator.simulator.virtual_time import PLAIN, VirtualTimeLoop
from support.simulated import ROOT

if TYPE_CHECKING:
    from batch_operator.simulator.scenario import Scenario

    Json = dict[str, Any]
BUSY = ROOT / "examples" / "snapshots" / "busy.yaml"
SEED = 4711
"""Not that of the run that goes on from here: its uids would be given out again."""


def busy() -> Json:
    """The example: one job runs, five wait, three have ended."""
    value: Json = yaml.safe_load(BUSY.read_text(encoding="utf-8"))
    copied: Json = json.loads(json.dumps(value))  # without YAML's shared parts
    return copied


def job_of(snapshot: Json, name: str) -> Json:
    """The first object of that name."""
    found: Json = next(one for one in snapshot["items"] if one["metadata"]["name"] == name)
    return found


def taken_at(scenario: Scenario, at_s: float) -> Json:
    """The cluster of a simulation, so long after its begin."""
    loop = VirtualTimeLoop()
    try:
        items = loop.run_until_complete(_objects(scenario, at_s))
    finally:
        loop.close()
    return listed(items, PLAIN.timestamp(at_s))


def listed(items: list[Json], moment: str | None = None) -> Json:
    annotations = {meta.ANNOTATION_TAKEN_AT: moment} if moment else {}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"annotations": annotations},
        "items": items,
    }


async def _objects(scenario: Scenario, at_s: float) -> list[Json]:
    simulation = _Simulation(scenario, SEED, faults=False, crash=None)
    await simulation.run(at_s)
    return [one for resource in KINDS for one in simulation._server.objects(resource)]


def the_rest(whole: Scenario, at_s: float) -> Scenario:
    """The scenario from that moment on: its events then, and the cluster as it was.

    Containers do what they did: nothing is learned from what the snapshot tells of run times.
    """
    spec = whole.spec
    left = [number for number, event in enumerate(spec.events) if event.at >= at_s]
    events = [spec.events[one] for one in left]
    snapshot = json.loads(json.dumps(taken_at(whole, at_s)))
    return replace(
        whole,
        manifests=(),
        recorded=read_recorded([snapshot], "snapshot"),
        applied={n: whole.applied[one] for n, one in enumerate(left) if one in whole.applied},
        spec=spec.model_copy(
            update={
                "events": tuple(one.model_copy(update={"at": one.at - at_s}) for one in events),
                "behaviors": (*spec.behaviors, Behavior()),
            }
        ),
    )
