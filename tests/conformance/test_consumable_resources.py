"""Resource-aware scheduling: what jobs hold while they run, and what they use up."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.rules import rule
from support.builders import multi_node_spec
from support.play import Played, later, play, written

LICENCE = [{"name": "licence", "quantity": 1}]
PAIR = [{"name": "licence", "quantity": 2}]
ARRAY = {"arrayProperties": {"size": 4}, "consumableResources": LICENCE}


def resource(total: int, kind: str = "REPLENISHABLE") -> dict[str, Any]:
    spec = {"totalQuantity": total, "resourceType": kind}
    return written("ConsumableResource", "licence", spec)


def at_once(played: Played, job: str) -> int:
    """How many children of an array ran at the same time, at most."""
    steps = [
        (one.at_s, (one.after == "RUNNING") - (one.before == "RUNNING"))
        for one in played.outcome.transitions
        if one.job == job and one.index is not None
    ]
    running = most = 0
    for _, change in sorted(steps):
        running += change
        most = max(most, running)
    return most


@rule("resources.job")
def test_a_job_asks_in_place_of_its_definition() -> None:
    """Resource-aware scheduling: consumableResourcePropertiesOverride."""
    played = play(
        {"a": {"consumableResources": LICENCE}, "b": {}},
        definition={"consumableResources": [{"name": "licence", "quantity": 9}]},
        others=[resource(1)],
    )

    assert played.state("a") == "SUCCEEDED"
    assert played.waits_for("b") == "ConsumableResourceTooSmall"


@rule("resources.definition")
def test_a_job_asks_for_what_its_definition_says() -> None:
    """Resource-aware scheduling: consumableResourceProperties."""
    played = play(
        {"a": {"arrayProperties": {"size": 4}}},
        definition={"consumableResources": LICENCE},
        others=[resource(2)],
    )

    assert played.state("a") == "SUCCEEDED"
    assert at_once(played, "a") == 2


@rule("resources.lock")
def test_a_job_without_its_units_waits_at_the_head_and_blocks_the_queue() -> None:
    """Resource-aware scheduling: the units are locked when the job starts."""
    jobs: dict[str, Any] = {
        "holds": {"consumableResources": LICENCE},
        "waits": {"consumableResources": PAIR},
        "behind": {},
    }
    played = play(jobs, others=[resource(2)], behaviors=[{"job": "*", "runtime": "60s"}])

    assert [job for job, _ in played.order()] == ["holds", "waits", "behind"]
    assert played.at("STARTING", "waits") >= played.at("SUCCEEDED", "holds")
    assert played.at("STARTING", "behind") >= played.at("SUCCEEDED", "holds")


@rule("resources.replenishable")
@pytest.mark.parametrize("exit_code", [0, 1])
def test_what_is_replenishable_comes_back_whatever_the_outcome(exit_code: int) -> None:
    """Resource-aware scheduling: returned when the job is SUCCEEDED or FAILED."""
    played = play(
        {"a": ARRAY, "b": {"consumableResources": LICENCE}},
        others=[resource(1)],
        behaviors=[{"job": "a", "exitCode": exit_code, "runtime": "10s"}],
    )

    assert at_once(played, "a") == 1
    assert played.state("b") == "SUCCEEDED"
    assert played.resource("licence")["availableQuantity"] == 1


@rule("resources.non-replenishable")
@pytest.mark.parametrize("exit_code", [0, 1])
def test_what_is_not_replenishable_is_used_up_whatever_the_outcome(exit_code: int) -> None:
    """Resource-aware scheduling: never returned."""
    jobs: dict[str, Any] = {"a": ARRAY, "b": {"consumableResources": PAIR}}
    played = play(
        jobs,
        others=[resource(5, "NON_REPLENISHABLE")],
        behaviors=[{"job": "a", "exitCode": exit_code}],
        until="1h",
    )
    status = played.resource("licence")

    assert played.waits_for("b") == "InsufficientConsumableResource"
    assert "needs 2 units" in played.final("b")["pending"]["message"]
    assert (status["spentQuantity"], status["availableQuantity"]) == (4, 1)
    assert "grants" not in status


def test_a_retry_uses_up_nothing_more() -> None:
    """Not said by AWS: here the units are an instance's, however often it is tried."""
    played = play(
        {"a": {"consumableResources": LICENCE, "retryStrategy": {"attempts": 3}}},
        others=[resource(1, "NON_REPLENISHABLE")],
        behaviors=[{"job": "a", "attempt": 3}, {"job": "a", "exitCode": 1}],
    )

    assert (played.state("a"), played.attempts("a")) == ("SUCCEEDED", 3)
    assert played.resource("licence")["spentQuantity"] == 1


def test_what_is_used_up_can_be_raised_and_the_job_goes_on() -> None:
    played = play(
        {"a": {"consumableResources": PAIR}},
        others=[resource(1, "NON_REPLENISHABLE")],
        events=[later("60s", "ConsumableResource", "licence", totalQuantity=2)],
    )

    assert played.state("a") == "SUCCEEDED"
    assert played.at("STARTING", "a") >= 60


def test_a_job_waits_for_a_resource_that_is_still_to_be_applied() -> None:
    played = play(
        {"a": {"consumableResources": LICENCE}, "other": {}},
        events=[{"at": "60s", "apply": resource(1)}],
    )

    assert played.at("STARTING", "other") < 60 <= played.at("STARTING", "a")
    assert played.state("a") == "SUCCEEDED"


@rule("resources.per-instance")
def test_each_child_and_each_node_takes_its_own() -> None:
    """Resource-aware scheduling: the quantity is that of one instance."""
    gang = multi_node_spec("0:", numNodes=3).to_wire()
    jobs: dict[str, Any] = {
        "nodes": {"jobDefinition": "gang", "consumableResources": LICENCE},
        "more": {"jobDefinition": "gang", "consumableResources": PAIR},
    }
    played = play(jobs, definitions={"gang": gang}, others=[resource(3)], until="1h")

    assert played.state("nodes") == "SUCCEEDED"
    assert played.waits_for("more") == "ConsumableResourceTooSmall"
    assert "needs 6 units" in played.final("more")["pending"]["message"]


def test_nodes_hold_theirs_until_all_of_them_are_over() -> None:
    """Resource-aware scheduling: the quantity is that of one instance."""
    gang = multi_node_spec("0:", numNodes=3).to_wire()
    jobs: dict[str, Any] = {
        "nodes": {"jobDefinition": "gang", "consumableResources": LICENCE},
        "single": {"consumableResources": LICENCE},
    }
    behaviors = [{"job": "nodes", "runtime": "60s"}]
    played = play(
        jobs, definitions={"gang": gang}, others=[resource(3)], behaviors=behaviors, until="1h"
    )

    assert played.at("RUNNING", "single") > played.at("SUCCEEDED", "nodes")


@rule("resources.quantities")
def test_a_resource_shows_what_is_held_and_what_is_free() -> None:
    """Resource-aware scheduling: inUseQuantity and availableQuantity."""
    played = play(
        {"a": {"consumableResources": PAIR}},
        others=[resource(5)],
        behaviors=[{"job": "a", "runtime": "3h"}],
        until="1h",
    )
    status = played.resource("licence")

    assert (status["inUseQuantity"], status["availableQuantity"]) == (2, 3)


def test_what_is_used_up_for_good_stops_only_those_that_need_it() -> None:
    """Deviation: AWS leaves such a job at the head of its queue, blocking all behind it."""
    jobs: dict[str, Any] = {"a": {"consumableResources": PAIR}, "behind": {}}
    played = play(jobs, others=[resource(1, "NON_REPLENISHABLE")], until="1h")
    more = play(jobs, others=[resource(3, "NON_REPLENISHABLE")], until="1h")

    assert played.state("behind") == "SUCCEEDED"
    assert played.waits_for("a") == "ConsumableResourceTooSmall"
    assert more.state("a") == "SUCCEEDED"


def test_a_job_whose_units_others_have_used_up_says_what_to_change() -> None:
    jobs: dict[str, Any] = {
        "a": {"consumableResources": PAIR},
        "b": {"consumableResources": PAIR},
        "behind": {},
    }
    played = play(jobs, others=[resource(3, "NON_REPLENISHABLE")], until="1h")
    message = played.final("b")["pending"]["message"]

    assert played.state("behind") == "SUCCEEDED"
    assert played.waits_for("b") == "InsufficientConsumableResource"
    assert "1 of 3 are left, and none comes back: raise its spec.totalQuantity" in message
