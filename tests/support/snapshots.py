"""Snapshots of simulated clusters: what `kubectl get -o json` would print at a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.simulator.recorded import KINDS
from batch_operator.simulator.run import _Simulation
from batch_operator.simulator.virtual_time import VirtualTimeLoop, timestamp

if TYPE_CHECKING:
    from batch_operator.simulator.scenario import Scenario

    Json = dict[str, Any]
SEED = 4711
"""Not that of the run that goes on from here: its uids would be given out again."""


def taken_at(scenario: Scenario, at_s: float) -> Json:
    """The cluster of a simulation, so long after its begin."""
    loop = VirtualTimeLoop()
    try:
        items = loop.run_until_complete(_objects(scenario, at_s))
    finally:
        loop.close()
    return listed(items, timestamp(at_s))


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
