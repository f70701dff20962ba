"""Spot Instances and lost hosts."""

from __future__ import annotations

from typing import Any

from conformance.rules import rule
from support.play import Played, play, written

NOTICE = {"computeEnvironment": "cloud", "notice": "2m"}
GETS_NOTICE_S = 120
HOST_EC2 = {"onStatusReason": "Host EC2*", "action": "RETRY"}
OTHERS = {"onReason": "*", "action": "EXIT"}


def interrupted(**retry: Any) -> Played:
    """A job of 5 minutes on a spot node that gets its notice after 2 minutes."""
    cloud = {
        "type": "MANAGED",
        "maxvCpus": 8,
        "capacityTypes": ["spot", "on-demand"],
        "instanceTypes": [{"name": "small", "vcpus": 2, "memory": "8Gi"}],
        "provisioner": {"type": "kwok"},
    }
    return play(
        {"a": {"retryStrategy": {"attempts": 2, **retry}}},
        others=[written("ComputeEnvironment", "cloud", cloud)],
        queue={"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "cloud"}]},
        behaviors=[{"runtime": "5m"}],
        events=[{"at": f"{GETS_NOTICE_S}s", "interruptNodes": NOTICE}],
    )


@rule("spot.reason")
def test_the_reason_is_that_the_host_was_terminated() -> None:
    """Spot Instances and lost hosts: the statusReason of a lost host."""
    first = interrupted().rows("a")[0]

    assert first["statusReason"] == f"Host EC2 (instance {first['nodeName']}) terminated."


@rule("spot.attempt")
def test_the_loss_is_an_attempt_and_evaluate_on_exit_decides() -> None:
    """Spot Instances and lost hosts: `onStatusReason: "Host EC2*"`."""
    only = interrupted(attempts=1)
    matched = interrupted(evaluateOnExit=[HOST_EC2, OTHERS])
    not_matched = interrupted(evaluateOnExit=[{**HOST_EC2, "action": "EXIT"}])

    assert (only.state("a"), only.attempts("a")) == ("FAILED", 1)
    assert (matched.state("a"), matched.attempts("a")) == ("SUCCEEDED", 2)
    assert (not_matched.state("a"), not_matched.attempts("a")) == ("FAILED", 1)


@rule("spot.moment")
def test_the_attempt_ends_when_the_notice_is_seen() -> None:
    """Spot Instances and lost hosts: two minutes between notice and interruption."""
    played = interrupted()
    runs = [one.at_s for one in played.outcome.transitions if one.after == "RUNNING"]

    assert GETS_NOTICE_S < runs[1] < GETS_NOTICE_S + 60


@rule("spot.elsewhere")
def test_the_next_attempt_can_go_to_on_demand_nodes() -> None:
    """Spot Instances and lost hosts: where the next attempt goes."""
    again = interrupted().rows("a")
    moved = interrupted(onHostLost={"moveToOnDemandAfter": 1}).rows("a")

    assert ["spot" in one["nodeName"] for one in again] == [True, True]
    assert ["spot" in one["nodeName"] for one in moved] == [True, False]
