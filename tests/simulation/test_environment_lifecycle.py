"""Environments are disabled, changed and deleted while jobs run in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.simulator.process import Crash, When
from support.builders import multi_node_spec, pod_template
from support.managed import (
    LARGE,
    SMALL,
    condition,
    delete,
    elastic,
    environment,
    is_gone,
    node_of,
    play_elastic,
)
from support.play import batch_job, later, play

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.play import Played

BIGGER = {**SMALL, "memory": "32Gi"}
RETRIED = {"retryStrategy": {"attempts": 2}}
DETACHED = later(
    "60s",
    "JobQueue",
    "main",
    computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "local"}],
)


def change(at: str, **spec: Any) -> dict[str, Any]:
    return later(at, "ComputeEnvironment", "elastic", **spec)


def comes(at: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"at": at, "apply": batch_job(name, **spec)}


def terminated(played: Played, job: str = "a") -> str:
    """The statusReason of a job whose first node was taken away."""
    return f"Host EC2 (instance {node_of(played, job)}) terminated."


# ENABLED and DISABLED


def test_a_disabled_environment_gets_nothing_new_and_what_runs_goes_on() -> None:
    """AWS: nothing new is placed and nothing scales out; running jobs go on."""
    events = [change("60s", state="DISABLED"), comes("70s", "late")]
    played = play_elastic({"a": {}}, events=events, until="30m")

    assert played.state("a") == "SUCCEEDED"
    assert played.state("late") == "RUNNABLE"
    assert environment(played)["status"] == "VALID"
    assert environment(played)["nodes"]["desired"] == 0


def test_a_disabled_environment_keeps_its_min_vcpus() -> None:
    """AWS: that capacity is kept, and paid for."""
    events = [change("60s", state="DISABLED")]
    played = play_elastic({"a": {}}, elastic(minvCpus=8), events=events, until="30m")

    assert environment(played)["nodes"] == {"desired": 2, "ready": 2, "draining": 0}


def test_an_environment_that_is_enabled_again_takes_what_waits() -> None:
    events = [change("60s", state="DISABLED"), comes("70s", "late"), change("20m", state="ENABLED")]
    played = play_elastic({"a": {}}, events=events)

    assert played.state("late") == "SUCCEEDED"


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"state": "DISABLED"}, "takes no more work"),
        ({"nodeOverhead": {"cpu": 4}}, "has no nodes that are large enough for it"),  # INVALID
    ],
    ids=str,
)
def test_what_has_no_node_in_an_environment_that_takes_no_work_moves_on(
    spec: Mapping[str, Any], why: str
) -> None:
    """AWS: a job that is not placed yet goes to the next environment that is VALID and ENABLED."""
    small = elastic("other", maxvCpus=4, instanceTypes=[SMALL])
    slow = [{"computeEnvironment": "elastic", "startUp": "9m"}]
    played = play_elastic(
        {"a": {}}, elastic(), small, events=[change("60s", **spec)], pools=slow, until="30m"
    )

    assert played.state("a") == "SUCCEEDED"
    assert "other-" in node_of(played, "a", played.attempts("a"))
    assert played.rows("a")[0]["statusReason"] == (
        f"Moved to the next compute environment: elastic {why}"
    )
    assert played.at("RUNNING", "a") < 120


def test_what_has_no_node_in_a_disabled_environment_and_nowhere_to_go_says_so() -> None:
    """The nodes that were ordered are not there: one that refuses now cannot be asked again."""
    tiny = elastic("tiny", instanceTypes=[{**SMALL, "vcpus": 1}])
    refused = {"at": "0s", "refuseCapacity": {"for": "1h"}}
    events = [refused, change("60s", state="DISABLED")]
    large = {"podTemplate": pod_template(cpu="2")}
    alone = play_elastic({"a": {}}, events=events, until="10m")
    unsuited = play_elastic({"a": {}}, elastic(), tiny, events=events, definition=large, until="5m")

    for played in (alone, unsuited):
        assert played.state("a") == "RUNNABLE"
        assert played.final("a")["pending"]["message"] == (
            "ComputeEnvironment elastic is DISABLED and gets no more nodes for it, and no other "
            "one of its queue that takes work suits it: see to the environment, or add one"
        )


def test_a_gang_that_has_no_node_in_a_disabled_environment_moves_on_as_a_whole() -> None:
    spec = multi_node_spec("0:1").model_dump(mode="json", by_alias=True, exclude_none=True)
    played = play_elastic(
        {"a": {"jobDefinition": "gang", "retryStrategy": {"attempts": 1}}},
        elastic(),
        elastic("other"),
        events=[change("60s", state="DISABLED")],
        pools=[{"computeEnvironment": "elastic", "startUp": "9m"}],
        definitions={"gang": spec},
    )

    assert played.state("a") == "SUCCEEDED"
    assert "other-" in node_of(played, "a", 2)
    assert played.at("RUNNING", "a") < 120


def test_what_has_no_node_in_an_environment_that_is_deleted_waits_in_its_queue_again() -> None:
    slow = [{"startUp": "9m"}]
    events = [delete("60s", "ComputeEnvironment", "elastic")]
    played = play_elastic({"a": {}}, events=events, pools=slow, until="30m")

    assert is_gone(played)
    assert played.state("a") == "RUNNABLE"
    assert played.waits_for("a") == "NoComputeEnvironment"


# Updates


@pytest.mark.parametrize(
    "spec",
    [
        {"maxvCpus": 128},
        {"minvCpus": 4},
        {"scalingPolicy": {"minScaleDownDelayMinutes": 20}},
        {"instanceTypes": [{**SMALL, "pricePerHour": 0.1}]},
        {"instanceTypes": [{**SMALL, "memory": "16384Mi"}]},
        {"state": "DISABLED"},
    ],
    ids=str,
)
def test_a_scaling_update_keeps_all_nodes(spec: Mapping[str, Any]) -> None:
    played = play_elastic({"a": {}}, events=[change("60s", **spec)], until="5m")

    assert environment(played)["status"] == "VALID"
    assert environment(played)["nodes"]["draining"] == 0
    assert played.state("a") == "RUNNING"


@pytest.mark.parametrize(
    "spec",
    [
        {"instanceTypes": [BIGGER]},
        {"instanceTypes": [LARGE]},
        {"capacityTypes": ["spot"]},
        {"allocationStrategy": "BEST_FIT_PROGRESSIVE_ORDERED"},
        {"bidPercentage": 50},
    ],
    ids=str,
)
def test_an_infrastructure_update_lets_jobs_run_on_and_starts_new_ones_on_new_nodes(
    spec: Mapping[str, Any],
) -> None:
    events = [change("60s", **spec), comes("70s", "b")]
    during = play_elastic({"a": {}}, events=events, until="5m")
    after = play_elastic({"a": {}}, events=events, until="20m")

    assert environment(during)["status"] == "UPDATING"
    assert condition(during, "Reconciling") == (
        "InfrastructureUpdate",
        "1 node with the settings of before to be replaced",
    )
    assert condition(during, "Ready") is not None
    assert (during.state("a"), during.state("b")) == ("RUNNING", "RUNNING")
    assert node_of(during, "b") != node_of(during, "a")
    assert environment(after)["status"] == "VALID"
    assert "update" not in environment(after)
    assert after.attempts("a") == 1


def test_an_update_waits_for_jobs_no_longer_than_it_says() -> None:
    """What is ended is tried again as for any host that is lost, if it may be."""
    patient = elastic(updatePolicy={"jobExecutionTimeoutMinutes": 5})
    events = [change("60s", instanceTypes=[BIGGER])]
    played = play_elastic({"a": RETRIED, "b": {}}, patient, events=events, runtime="20m")

    assert (played.state("a"), played.state("b")) == ("SUCCEEDED", "FAILED")
    assert played.rows("a")[0]["statusReason"] == terminated(played)
    assert played.reason("b") == terminated(played, "b")
    assert 360 <= played.at("FAILED", "b") < 400


def test_the_time_of_an_update_counts_on_when_the_operator_is_restarted() -> None:
    patient = elastic(updatePolicy={"jobExecutionTimeoutMinutes": 5})
    events = [
        change("60s", instanceTypes=[BIGGER]),
        {"at": "4m", "restartOperator": {"downFor": "30s"}},
    ]
    played = play_elastic({"b": {}}, patient, events=events, runtime="20m")

    assert 360 <= played.at("FAILED", "b") < 400


def test_an_update_that_terminates_jobs_does_so_at_once() -> None:
    """AWS: terminateJobsOnUpdate; the timeout is ignored."""
    hasty = elastic(updatePolicy={"terminateJobsOnUpdate": True})
    events = [change("60s", instanceTypes=[BIGGER])]
    played = play_elastic({"a": RETRIED}, hasty, events=events)

    assert played.state("a") == "SUCCEEDED"
    assert played.rows("a")[0]["statusReason"] == terminated(played)
    assert node_of(played, "a", 2) != node_of(played, "a", 1)


# Deletion


def test_a_deleted_environment_lets_its_jobs_end_and_takes_its_nodes_with_it() -> None:
    events = [DETACHED, delete("70s", "ComputeEnvironment", "elastic")]
    during = play_elastic({"a": {}}, events=events, until="5m")
    after = play_elastic({"a": {}}, events=events)

    assert environment(during)["status"] == "DELETING"
    assert during.state("a") == "RUNNING"
    assert is_gone(after)
    assert after.state("a") == "SUCCEEDED"
    assert after.attempts("a") == 1


def test_an_idle_environment_is_gone_at_once_with_the_capacity_that_it_kept() -> None:
    events = [DETACHED, delete("70s", "ComputeEnvironment", "elastic")]
    played = play_elastic({}, elastic(minvCpus=8), events=events, until="2m")

    assert is_gone(played)


def test_an_environment_that_never_had_a_node_can_be_deleted_without_anybody() -> None:
    """Also when the operator is not there: it has put no finalizer on it."""
    events = [
        {"at": "60s", "restartOperator": {"downFor": "10m"}},
        delete("70s", "ComputeEnvironment", "elastic"),
    ]

    assert is_gone(play_elastic({}, events=events, until="2m"))


def test_an_environment_tells_which_queues_name_it() -> None:
    before = play_elastic({}, until="30s")
    after = play_elastic({}, events=[DETACHED], until="2m")

    assert environment(before)["queues"] == ["main"]
    assert environment(after).get("queues", []) == []


@pytest.mark.parametrize("when", list(When))
def test_a_crash_anywhere_on_the_way_leaves_no_node_behind(when: When) -> None:
    events = [
        change("60s", instanceTypes=[BIGGER]),
        {**DETACHED, "at": "90s"},
        delete("100s", "ComputeEnvironment", "elastic"),
    ]
    spec = {"minvCpus": 8}
    writes = play_elastic({"a": {}}, elastic(**spec), events=events, runtime="5m").outcome.writes

    for number in range(1, writes + 1):
        played = play_elastic(
            {"a": {}}, elastic(**spec), events=events, runtime="5m", crash=Crash(number, when)
        )

        assert is_gone(played), number
        assert played.state("a") == "SUCCEEDED", number


# Validity


def test_an_environment_whose_spec_allows_no_node_is_invalid_until_it_is_changed() -> None:
    """AWS: an INVALID one gets no placements; it is mended by an update."""
    greedy = elastic(nodeOverhead={"cpu": "4"})
    events = [comes("10s", "a"), change("10m", nodeOverhead={"cpu": "1"})]
    before = play_elastic({}, greedy, events=events, until="5m")
    after = play_elastic({}, greedy, events=events)

    assert environment(before)["status"] == "INVALID"
    assert environment(before)["statusReason"].startswith("nodeOverhead takes all CPU")
    assert condition(before, "Stalled") is not None
    assert condition(before, "Ready") is None
    assert before.waits_for("a") == "NoComputeEnvironment"
    assert environment(after)["status"] == "VALID"
    assert environment(after)["statusReason"] == "ComputeEnvironment Healthy"
    assert after.state("a") == "SUCCEEDED"


def test_a_simulation_waits_for_a_time_limit_although_nodes_are_seen_to() -> None:
    limits = [
        {"reason": "*", "state": state, "maxTimeSeconds": 3600, "action": "CANCEL"}
        for state in ("SUBMITTED", "PENDING")
    ]
    played = play(
        {"a": {"dependsOn": [{"job": "nobody"}]}},
        queue={
            "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "elastic"}],
            "jobStateTimeLimitActions": limits,
        },
        others=[elastic()],
    )

    assert played.state("a") == "FAILED"
