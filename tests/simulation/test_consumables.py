"""Consumable resources that change under the jobs that need them, and limits that contradict."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import multi_node_spec
from support.play import later, play, refusal_of_job, written


def needs(quantity: int = 1, name: str = "licence") -> dict[str, Any]:
    return {"consumableResources": [{"name": name, "quantity": quantity}]}


def resource(total: int, kind: str = "REPLENISHABLE", name: str = "licence") -> dict[str, Any]:
    return written("ConsumableResource", name, {"totalQuantity": total, "resourceType": kind})


def delete(at: str, name: str = "licence") -> dict[str, Any]:
    return {"at": at, "delete": {"kind": "ConsumableResource", "name": name}}


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a resource that does not exist": (
        needs(name="license"),
        "ConsumableResourceNotFound",
        "there is no ConsumableResource license: apply it, or submit the job without it",
    ),
    "more than there is": (
        needs(4),
        "ConsumableResourceTooSmall",
        "needs 4 units of ConsumableResource licence, which has 3 in all: raise its "
        "spec.totalQuantity, or ask for less",
    ),
    "more than there is for all its nodes": (
        {"jobDefinition": "nodes", **needs(2)},
        "ConsumableResourceTooSmall",
        "needs 4 units of ConsumableResource licence, which has 3 in all: raise its "
        "spec.totalQuantity, or ask for less",
    ),
    "anything of what there is nothing of": (
        needs(name="none"),
        "ConsumableResourceTooSmall",
        "needs 1 units of ConsumableResource none, which has 0 in all: raise its "
        "spec.totalQuantity, or ask for less",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_job_says_what_is_wrong_and_stops_nobody_who_asks_for(what: str) -> None:
    spec, reason, sentence = MISTAKES[what]
    jobs = {"wrong": spec, "right": needs(), "array": {**needs(2), "arrayProperties": {"size": 2}}}
    played = play(
        jobs,
        definitions={"nodes": multi_node_spec("0:", numNodes=2).to_wire()},
        others=[resource(3), resource(0, name="none")],
        until="1h",
    )

    assert played.waits_for("wrong") == reason
    assert played.final("wrong")["pending"]["message"] == sentence
    assert (played.state("right"), played.state("array")) == ("SUCCEEDED", "SUCCEEDED")


def test_what_is_held_when_a_total_is_lowered_is_kept_and_the_next_waits() -> None:
    jobs: dict[str, Any] = {"holds": needs(2), "waits": needs()}
    played = play(
        jobs,
        others=[resource(2)],
        behaviors=[{"job": "holds", "runtime": "5m"}],
        events=[later("60s", "ConsumableResource", "licence", totalQuantity=1)],
    )

    assert played.path("holds")[-2:] == ["RUNNING", "SUCCEEDED"]
    assert played.at("STARTING", "waits") >= played.at("SUCCEEDED", "holds")


@pytest.mark.parametrize("kind", ["REPLENISHABLE", "NON_REPLENISHABLE"])
def test_a_resource_that_is_deleted_stops_what_waits_and_not_what_runs(kind: str) -> None:
    played = play(
        {"array": {**needs(), "arrayProperties": {"size": 4}}},
        max_vcpus=2,
        others=[resource(9, kind)],
        behaviors=[{"job": "*", "runtime": "60s"}],
        events=[delete("30s")],
        until="1h",
    )

    assert played.counts("array") == {"SUCCEEDED": 2, "RUNNABLE": 2}
    assert "there is no ConsumableResource licence" in played.final("array")["pending"]["message"]


def test_a_resource_that_is_applied_again_begins_anew() -> None:
    """It is another one, of which nothing has been used up."""
    played = play(
        {"array": {**needs(), "arrayProperties": {"size": 4}}},
        others=[resource(2, "NON_REPLENISHABLE")],
        events=[delete("60s"), {"at": "90s", "apply": resource(5, "NON_REPLENISHABLE")}],
    )

    assert played.state("array") == "SUCCEEDED"
    assert played.resource("licence")["spentQuantity"] == 2


def test_what_cannot_be_meant_is_refused() -> None:
    sentence = refusal_of_job(**needs(0))

    assert sentence is not None
    assert "consumableResources[0].quantity" in sentence
    assert refusal_of_job(consumableResources=[{"name": "a"}]) is not None
    assert refusal_of_job(consumableResources=[{"name": f"n{n}", "quantity": 1} for n in range(6)])
