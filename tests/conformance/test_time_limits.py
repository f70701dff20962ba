"""Time limits of job queues: what happens to jobs that stay in a state for too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.simulator.scenario import InvalidInputError
from conformance.rules import rule
from support.play import play, written

if TYPE_CHECKING:
    from support.play import Played

CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
UNSUPPORTED = "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED"
RUNS_LONG = {"job": "first", "runtime": "1h"}


def limit(state: str = "RUNNABLE", action: str = "CANCEL", **fields: Any) -> dict[str, Any]:
    return {"state": state, "action": action, "reason": "*", "maxTimeSeconds": 600, **fields}


def blocked(*limits: dict[str, Any], **world: Any) -> Played:
    """`first` runs for an hour; `a` has no room beside it."""
    return play(
        {"first": {}, "a": world.pop("a", {})},
        queue={"jobStateTimeLimitActions": list(limits)},
        max_vcpus=1,
        behaviors=[RUNS_LONG],
        **world,
    )


@rule("limits.reason")
def test_a_rule_is_for_jobs_with_its_reason() -> None:
    """Time limits of job queues: reason."""
    other = limit(reason="MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE")

    assert blocked(limit(reason=CAPACITY)).state("a") == "FAILED"
    assert blocked(other).state("a") == "SUCCEEDED"


@rule("limits.any-reason")
def test_a_rule_may_be_for_a_token_or_for_any_reason() -> None:
    """Time limits of job queues: reasons that can be used."""
    for reason in ("InsufficientCapacity", "*"):
        assert blocked(limit(reason=reason)).state("a") == "FAILED"
    assert blocked(limit(reason="BehindOthers")).state("a") == "SUCCEEDED"
    assert blocked(limit(), a={"suspend": True}).waits_for("a") == "Suspended"
    assert blocked(limit(reason="Suspended"), a={"suspend": True}).state("a") == "FAILED"
    for state, reason in (("RUNNABLE", UNSUPPORTED), ("PENDING", "BehindOthers")):
        [said] = [
            one["message"]
            for one in blocked(limit(state, reason=reason)).queue()["conditions"]
            if one["type"] == "Stalled"
        ]
        assert f"job ever has the reason {reason}" in said


@rule("limits.state")
def test_a_rule_is_for_jobs_in_its_state() -> None:
    """Time limits of job queues: state."""
    waits = {"dependsOn": [{"job": "first"}]}

    assert blocked(limit("PENDING"), a=waits).path("a") == ["SUBMITTED", "PENDING", "FAILED"]
    assert blocked(limit("RUNNABLE"), a=waits).state("a") == "SUCCEEDED"
    assert blocked(limit("RUNNING", "TERMINATE")).state("first") == "FAILED"


@rule("limits.time")
def test_a_limit_may_be_a_minute() -> None:
    """Time limits of job queues: maxTimeSeconds."""
    assert 60 <= blocked(limit(maxTimeSeconds=60)).at("FAILED", "a") < 65
    with pytest.raises(InvalidInputError, match="maxTimeSeconds"):
        blocked(limit(maxTimeSeconds=59))


@rule("limits.clock")
def test_another_reason_starts_the_clock_anew() -> None:
    """Time limits of job queues: the time that counts."""
    disable = {"kind": "JobQueue", "name": "main", "spec": {"state": "DISABLED"}}
    enable = {"kind": "JobQueue", "name": "main", "spec": {"state": "ENABLED"}}
    events = [{"at": "5m", "patch": disable}, {"at": "6m", "patch": enable}]
    played = blocked(limit(reason=CAPACITY), events=events)

    assert 960 <= played.at("FAILED", "a") < 970


@rule("limits.clock-array")
def test_all_children_that_wait_are_cancelled_when_the_next_one_s_time_is_up() -> None:
    """Time limits of job queues: the children of an array."""
    played = blocked(limit(), a={"arrayProperties": {"size": 3}})

    assert played.counts("a") == {"FAILED": 3}
    assert {round(played.at("FAILED", "a", index)) for index in range(3)} == {600}


@rule("limits.action")
def test_an_attempt_that_waits_for_its_node_may_be_tried_elsewhere() -> None:
    """Time limits of job queues: action."""
    other = written("ComputeEnvironment", "other", {"type": "UNMANAGED", "maxvCpus": 2})
    order = [
        {"order": 1, "computeEnvironment": "local"},
        {"order": 2, "computeEnvironment": "other"},
    ]
    move = limit(action="NEXT_COMPUTE_ENVIRONMENT")
    small = {"computeEnvironment": "local", "instanceType": "s", "count": 2, "vcpus": 1}
    large = {"computeEnvironment": "other", "instanceType": "l", "count": 1, "vcpus": 2}
    played = play(
        {"a": {"containerOverrides": [{"resources": {"requests": {"cpu": "2"}}}]}},
        queue={"computeEnvironmentOrder": order, "jobStateTimeLimitActions": [move]},
        others=[other],
        nodes=[{**one, "memory": "4Gi"} for one in (small, large)],
    )

    assert played.state("a") == "SUCCEEDED"
    assert played.attempts("a") == 2
    assert 600 <= played.at("STARTING", "a") < 610


@rule("limits.no-retry")
def test_what_a_limit_ended_is_not_tried_again() -> None:
    """Time limits of job queues: no retries."""
    played = play(
        {"a": {"retryStrategy": {"attempts": 3}}},
        queue={"jobStateTimeLimitActions": [limit("RUNNING", "TERMINATE")]},
        behaviors=[{"runtime": "1h"}],
    )

    assert played.state("a") == "FAILED"
    assert played.attempts("a") == 1


@rule("limits.consumables")
def test_who_waits_for_a_consumable_resource_waits_too() -> None:
    """Time limits of job queues: consumable resources."""
    units = {"consumableResources": [{"name": "licence", "quantity": 1}]}
    licence = written(
        "ConsumableResource", "licence", {"resourceType": "REPLENISHABLE", "totalQuantity": 1}
    )
    for reason in ("*", "InsufficientConsumableResource"):
        played = play(
            {"first": units, "a": units},
            queue={"jobStateTimeLimitActions": [limit(reason=reason)]},
            others=[licence],
            behaviors=[RUNS_LONG],
        )

        assert 600 <= played.at("FAILED", "a") < 610
