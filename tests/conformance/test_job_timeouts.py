"""Job timeouts: from when an attempt runs, and never retried."""

from __future__ import annotations

from typing import Any

from conformance.rules import rule
from support.builders import pod_template
from support.play import play, pods_of, refusal_of_job, world_of

MINUTE: dict[str, Any] = {"timeout": {"attemptDurationSeconds": 60}}


def _is_taken(seconds: int) -> bool:
    return refusal_of_job(timeout={"attemptDurationSeconds": seconds}) is None


@rule("timeout.minimum")
def test_a_timeout_is_at_least_a_minute() -> None:
    """Job timeouts: attemptDurationSeconds."""
    assert _is_taken(60)
    assert not _is_taken(59)
    assert not _is_taken(0)


@rule("timeout.no-maximum")
def test_a_timeout_is_at_most_ten_years() -> None:
    """Job timeouts: no maximum."""
    assert _is_taken(315_360_000)
    assert not _is_taken(315_360_001)


@rule("timeout.none")
def test_a_job_without_a_timeout_runs_on() -> None:
    """Job timeouts: none by default."""
    assert play({"a": {}}, behaviors=[{"runtime": "1h"}]).state("a") == "SUCCEEDED"


@rule("timeout.from-running")
def test_waiting_and_starting_do_not_count() -> None:
    """Job timeouts: when the clock begins."""
    played = play(
        {"first": {}, "a": MINUTE},
        max_vcpus=1,
        behaviors=[
            {"job": "first", "runtime": "5m"},
            {"job": "a", "pullTime": "5m", "runtime": "50s"},
        ],
    )

    assert played.state("a") == "SUCCEEDED"
    assert played.at("RUNNING", "a") > 600


@rule("timeout.per-attempt")
def test_every_attempt_has_the_whole_time() -> None:
    """Job timeouts: retries."""
    played = play(
        {"a": {**MINUTE, "retryStrategy": {"attempts": 2}}},
        behaviors=[
            {"attempt": 1, "runtime": "50s", "exitCode": 1},
            {"attempt": 2, "runtime": "50s"},
        ],
    )

    assert (played.state("a"), played.attempts("a")) == ("SUCCEEDED", 2)


@rule("timeout.fails")
def test_a_job_that_runs_too_long_fails() -> None:
    """Job timeouts: what happens then."""
    played = play(
        {"short": MINUTE, "long": MINUTE},
        behaviors=[{"job": "short", "runtime": "55s"}, {"job": "long", "runtime": "65s"}],
    )

    assert played.state("short") == "SUCCEEDED"
    assert played.path("long")[-2:] == ["RUNNING", "FAILED"]


@rule("timeout.grace")
def test_containers_are_stopped_with_the_grace_period_of_the_template() -> None:
    """Job timeouts: SIGTERM and SIGKILL."""
    template = pod_template()
    template["spec"]["terminationGracePeriodSeconds"] = 5
    (own,) = pods_of(world_of({"podTemplate": template}))
    (default,) = pods_of(world_of())
    played = play({"a": MINUTE}, behaviors=[{"runtime": "1h"}])

    assert own["spec"]["terminationGracePeriodSeconds"] == 5
    assert "terminationGracePeriodSeconds" not in default["spec"]
    assert 60 <= played.at("FAILED", "a") - played.at("RUNNING", "a") < 92


@rule("timeout.per-child")
def test_each_child_has_its_own_time_and_the_parent_none() -> None:
    """Job timeouts: array jobs."""
    played = play(
        {"a": {**MINUTE, "arrayProperties": {"size": 4}}},
        max_vcpus=1,
        behaviors=[{"index": 1, "runtime": "2m"}, {"runtime": "50s"}],
    )

    assert played.counts("a") == {"SUCCEEDED": 3, "FAILED": 1}
    assert played.path("a", 1)[-1] == "FAILED"
    assert played.at("FAILED", "a") > 200


@rule("timeout.multi-node")
def test_a_timeout_of_a_multi_node_job_is_that_of_the_whole_job() -> None:
    """Job timeouts: it is not applied to the nodes one by one, which start later."""
    nodes = {
        "numNodes": 2,
        "nodeRangeProperties": [{"targetNodes": "0:", "podTemplate": pod_template()}],
    }
    played = play(
        {"a": {**MINUTE, "jobDefinition": "mpi"}},
        definitions={"mpi": {"type": "multinode", "nodeProperties": nodes}},
        behaviors=[{"runtime": "10m"}],
    )

    assert played.state("a") == "FAILED"
    assert played.reason("a") == "Job attempt duration exceeded timeout"
    assert played.at("FAILED", "a") < 70
