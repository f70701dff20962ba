"""Nodes that are announced to go: what runs there is ended at once, and goes on elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.simulator.process import Crash, When
from support.builders import multi_node_spec
from support.play import Played, play, written

RETRIED = {"retryStrategy": {"attempts": 3}}
LONG = {"job": "*", "runtime": "5m"}
NOTICE_S = 120


def spot(name: str = "local", max_vcpus: int = 8, **fields: Any) -> dict[str, Any]:
    """An environment with nodes of 2 vCPUs, ready 30 s after they were ordered."""
    spec = {
        "type": "MANAGED",
        "maxvCpus": max_vcpus,
        "capacityTypes": ["spot"],
        "instanceTypes": [{"name": "small", "vcpus": 2, "memory": "8Gi"}],
        "provisioner": {"type": "kwok", "kwok": {"startUpSeconds": 30}},
    }
    return written("ComputeEnvironment", name, spec, fields)


def interrupted(at: str, name: str = "cloud", count: int = 1) -> dict[str, Any]:
    lost = {"computeEnvironment": name, "count": count, "notice": f"{NOTICE_S}s"}
    return {"at": at, "interruptNodes": lost}


def on_spot(jobs: dict[str, Any], *events: dict[str, Any], **fields: Any) -> Played:
    order = [{"order": 1, "computeEnvironment": "cloud"}]
    given = {"behaviors": [LONG], "queue": {"computeEnvironmentOrder": order}, **fields}
    return play(jobs, others=[spot("cloud")], events=events, **given)


def starts(played: Played, job: str) -> list[float]:
    """When its attempts began to run."""
    return [
        one.at_s for one in played.outcome.transitions if (one.job, one.after) == (job, "RUNNING")
    ]


def interruptions(played: Played) -> float:
    pools = played.outcome.statuses["ComputeEnvironment", "", "cloud"]["pools"]
    return sum(one["interruptions"] for one in pools)


def test_a_job_is_tried_again_before_its_node_has_died() -> None:
    played = on_spot({"a": RETRIED}, interrupted("2m"))
    first, second = played.rows("a")

    assert played.state("a") == "SUCCEEDED"
    assert first["statusReason"] == f"Host EC2 (instance {first['nodeName']}) terminated."
    assert second["nodeName"] != first["nodeName"]
    assert starts(played, "a")[1] < 2 * 60 + NOTICE_S


def test_the_loss_costs_a_try_and_is_matched_by_the_documented_rule() -> None:
    rule = {"onStatusReason": "Host EC2*", "action": "EXIT"}
    exits = {"retryStrategy": {"attempts": 3, "evaluateOnExit": [rule]}}
    played = on_spot(
        {"a": exits, "b": {"retryStrategy": {"attempts": 1}}}, interrupted("2m", count=2)
    )

    assert (played.state("a"), played.attempts("a")) == ("FAILED", 1)
    assert (played.state("b"), played.attempts("b")) == ("FAILED", 1)
    assert str(played.reason("b")).startswith("Host EC2 (instance cloud-")


def test_a_node_without_a_notice_keeps_what_it_has() -> None:
    four = {"arrayProperties": {"size": 4}, **RETRIED}
    played = on_spot({"a": four}, interrupted("2m"))

    assert played.counts("a") == {"SUCCEEDED": 4}
    assert played.attempts("a") == 6


def test_what_ends_well_in_its_grace_period_has_succeeded() -> None:
    """It has started at 32 s, and ends by itself before SIGTERM would have ended it."""
    brief = {"job": "*", "runtime": "90s"}
    played = on_spot({"a": RETRIED}, interrupted("121.5s"), behaviors=[brief])

    assert (played.state("a"), played.attempts("a")) == ("SUCCEEDED", 1)


def test_a_gang_whose_main_node_goes_is_tried_again_as_a_whole() -> None:
    gang = {"jobDefinition": "gang", **RETRIED}
    spec = multi_node_spec("0:1", cpu="2").model_dump(mode="json", by_alias=True, exclude_none=True)
    played = on_spot({"a": gang}, interrupted("2m", count=2), definitions={"gang": spec})

    assert (played.state("a"), played.attempts("a")) == ("SUCCEEDED", 2)
    assert str(played.rows("a")[0]["statusReason"]).startswith("Host EC2 (instance cloud-")


@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("write", range(1, 40, 3))
def test_an_interruption_counts_once_whenever_the_operator_dies(write: int, when: When) -> None:
    played = on_spot({"a": RETRIED}, interrupted("2m"), crash=Crash(write, when))

    assert (played.state("a"), played.attempts("a")) == ("SUCCEEDED", 2)
    assert interruptions(played) == 1
