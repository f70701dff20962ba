"""Job dependencies: plain, SEQUENTIAL and N_TO_N."""

from __future__ import annotations

from typing import Any

from conformance.rules import rule
from support.play import batch_job, play, refusal_of_job, written

ARRAY: dict[str, Any] = {"arrayProperties": {"size": 3}}
SEQUENTIAL: dict[str, Any] = {"dependsOn": [{"type": "SEQUENTIAL"}]}


def after(*jobs: str, **more: Any) -> dict[str, Any]:
    return {"dependsOn": [{"job": name, **more} for name in jobs]}


def fails(job: str, **which: Any) -> list[dict[str, Any]]:
    return [{"job": job, "exitCode": 1, **which}]


@rule("dependencies.plain")
def test_a_job_waits_until_all_its_dependencies_have_succeeded() -> None:
    """Job dependencies: dependsOn."""
    played = play(
        {"c": after("a", "b"), "a": {}, "b": {}}, behaviors=[{"job": "b", "runtime": "5m"}]
    )

    assert played.state("c") == "SUCCEEDED"
    assert played.at("STARTING", "c") >= played.at("SUCCEEDED", "b")
    assert played.order()[-1] == ("c", None)


@rule("dependencies.any-queue")
def test_a_dependency_may_be_in_another_queue() -> None:
    """Job dependencies: jobs of other queues."""
    order = [{"order": 1, "computeEnvironment": "local"}]
    other = {"priority": 9, "computeEnvironmentOrder": order}
    played = play(
        {"a": {}, "b": {**after("a"), "jobQueue": "other"}},
        others=[written("JobQueue", "other", other)],
    )

    assert played.order() == [("a", None), ("b", None)]


@rule("dependencies.whole-array")
def test_a_dependency_on_an_array_waits_for_all_children() -> None:
    """Job dependencies: on an array job."""
    played = play({"a": ARRAY, "b": after("a")}, behaviors=[{"index": 1, "runtime": "5m"}])

    assert played.state("b") == "SUCCEEDED"
    assert played.at("RUNNABLE", "b") >= played.at("SUCCEEDED", "a", 1) > 300


@rule("dependencies.one-child")
def test_a_dependency_on_one_child_waits_for_no_other() -> None:
    """Job dependencies: on the ID of a child."""
    played = play(
        {"a": ARRAY, "b": after("a", index=1), "c": after("a", index=2)},
        behaviors=[{"index": 0, "runtime": "5m"}, *fails("a", index=2)],
    )

    assert played.at("RUNNING", "b") < played.at("SUCCEEDED", "a", 0)
    assert played.state("c") == "FAILED"
    assert played.at("FAILED", "c") < played.at("SUCCEEDED", "a", 0)


@rule("dependencies.failure")
def test_a_job_fails_at_once_with_one_of_its_dependencies() -> None:
    """Job dependencies: a dependency that FAILED."""
    played = play(
        {"a": {}, "long": {}, "b": after("long", "a")},
        behaviors=[*fails("a"), {"job": "long", "runtime": "5m"}],
    )

    assert played.path("b") == ["SUBMITTED", "PENDING", "FAILED"]
    assert played.at("FAILED", "b") < 30


@rule("dependencies.cascade")
def test_a_failure_goes_on_to_those_who_wait_for_it() -> None:
    """Job dependencies: chains."""
    played = play(
        {"d": after("c"), "c": after("b"), "b": after("a"), "a": {}}, behaviors=fails("a")
    )

    assert [played.state(name) for name in "bcd"] == ["FAILED"] * 3
    assert {played.reason(name) for name in "bcd"} == {"Dependent Job failed"}
    assert played.at("FAILED", "d") < 30


@rule("dependencies.no-retry")
def test_a_job_that_failed_with_its_dependency_is_not_retried() -> None:
    """Job dependencies: retryStrategy of a dependent job."""
    played = play({"a": {}, "b": {**after("a"), "retryStrategy": {"attempts": 9}}},
                  behaviors=fails("a"))  # fmt: skip

    assert (played.state("b"), played.attempts("b")) == ("FAILED", 0)


@rule("dependencies.only-success")
def test_only_types_beyond_aws_are_met_by_a_failure() -> None:
    """Job dependencies: after a failure."""
    played = play(
        {
            "a": {},
            "plain": after("a"),
            "any": after("a", type="AFTER_ANY"),
            "failed": after("a", type="AFTER_FAILED"),
        },
        behaviors=fails("a"),
    )

    assert played.state("plain") == "FAILED"
    assert played.state("any") == played.state("failed") == "SUCCEEDED"


def test_after_any_is_met_by_a_success_too() -> None:
    """Job dependencies: beyond AWS."""
    played = play({"a": {}, "any": after("a", type="AFTER_ANY")})

    assert played.at("RUNNING", "any") > played.at("SUCCEEDED", "a")


@rule("dependencies.all-children")
def test_the_dependencies_of_an_array_hold_for_every_child() -> None:
    """Job dependencies: of an array job."""
    good = play({"a": {}, "b": {**ARRAY, **after("a")}}, behaviors=[{"job": "a", "runtime": "5m"}])
    bad = play({"a": {}, "b": {**ARRAY, **after("a")}}, behaviors=fails("a"))

    assert min(good.at("RUNNABLE", "b", index) for index in range(3)) > 300
    assert bad.counts("b") == {"FAILED": 3}
    assert bad.reason("b") == "Dependent Job failed"


@rule("dependencies.sequential")
def test_sequential_children_run_one_after_the_other() -> None:
    """Job dependencies: SEQUENTIAL."""
    played = play({"a": {**ARRAY, **SEQUENTIAL}})

    assert played.state("a") == "SUCCEEDED"
    assert played.path("a", 2)[:3] == ["SUBMITTED", "PENDING", "RUNNABLE"]
    assert played.at("RUNNABLE", "a", 1) >= played.at("SUCCEEDED", "a", 0)
    assert played.at("RUNNABLE", "a", 2) >= played.at("SUCCEEDED", "a", 1)


@rule("dependencies.sequential-failure")
def test_a_sequential_child_that_fails_fails_the_rest() -> None:
    """Job dependencies: SEQUENTIAL and a failure."""
    played = play({"a": {**ARRAY, **SEQUENTIAL}}, behaviors=fails("a", index=1))

    assert played.path("a", 2) == ["SUBMITTED", "PENDING", "FAILED"]
    assert played.counts("a") == {"SUCCEEDED": 1, "FAILED": 2}
    assert played.attempts("a") == 2


@rule("dependencies.sequential-array")
def test_sequential_without_an_array_is_refused() -> None:
    """Job dependencies: SEQUENTIAL in a job that is no array."""
    assert "for the children of an array" in (refusal_of_job(**SEQUENTIAL) or "")
    assert refusal_of_job(**ARRAY, **SEQUENTIAL) is None


@rule("dependencies.n-to-n")
def test_a_child_waits_for_the_child_with_its_index_only() -> None:
    """Job dependencies: N_TO_N."""
    played = play(
        {"a": ARRAY, "b": {**ARRAY, **after("a", type="N_TO_N")}},
        behaviors=[{"job": "a", "index": 0, "runtime": "5m"}],
    )

    assert played.state("b") == "SUCCEEDED"
    assert played.at("SUCCEEDED", "b", 1) < played.at("SUCCEEDED", "a", 0)
    assert played.at("RUNNABLE", "b", 0) >= played.at("SUCCEEDED", "a", 0)


@rule("dependencies.n-to-n-failure")
def test_a_child_that_fails_fails_the_child_with_its_index_only() -> None:
    """Job dependencies: N_TO_N and a failure."""
    played = play(
        {"a": ARRAY, "b": {**ARRAY, **after("a", type="N_TO_N")}},
        behaviors=[*fails("a", index=1), {"job": "a", "index": 0, "runtime": "5m"}],
    )

    assert played.path("b", 1) == ["SUBMITTED", "PENDING", "FAILED"]
    assert played.at("FAILED", "b", 1) < 30
    assert played.at("FAILED", "b") >= played.at("SUCCEEDED", "b", 0) > 300
    assert played.counts("b") == {"SUCCEEDED": 2, "FAILED": 1}


@rule("dependencies.n-to-n-arrays")
def test_n_to_n_between_unequal_jobs_waits_for_correction() -> None:
    """Job dependencies: N_TO_N between jobs of different shape."""
    two = {"arrayProperties": {"size": 2}}
    played = play(
        {
            "a": ARRAY,
            "smaller": {**two, **after("a", type="N_TO_N")},
        }
    )

    assert played.waits_for("smaller") == "DependencyInvalid"
    assert "for the children of an array" in (refusal_of_job(**after("b", type="N_TO_N")) or "")


@rule("dependencies.combined")
def test_types_can_be_combined() -> None:
    """Job dependencies: several types in one list."""
    list_of_three = [{"job": "a", "type": "N_TO_N"}, {"type": "SEQUENTIAL"}, {"job": "b"}]
    played = play(
        {"a": ARRAY, "b": {}, "c": {**ARRAY, "dependsOn": list_of_three}},
        behaviors=[{"job": "b", "runtime": "3m"}, {"job": "a", "index": 1, "runtime": "5m"}],
    )

    assert played.state("c") == "SUCCEEDED"
    assert 180 < played.at("RUNNABLE", "c", 0) < 300
    assert played.at("RUNNABLE", "c", 1) >= played.at("SUCCEEDED", "a", 1) > 300
    assert played.at("RUNNABLE", "c", 2) >= played.at("SUCCEEDED", "c", 1)


@rule("dependencies.fixed")
def test_dependencies_cannot_be_changed() -> None:
    """Job dependencies: after submission."""
    assert refusal_of_job(before=after("b"), **after("b")) is None
    assert "dependsOn" in (refusal_of_job(before=after("b"), **after("c")) or "")
    assert "dependsOn" in (refusal_of_job(before=after("b")) or "")
    assert "dependsOn" in (refusal_of_job(before={}, **after("b")) or "")


@rule("dependencies.maximum")
def test_a_job_may_depend_on_a_thousand_others() -> None:
    """Job dependencies: how many."""
    names = [f"job-{number}" for number in range(1001)]

    assert refusal_of_job(**after(*names[:1000])) is None
    assert refusal_of_job(**after(*names)) is not None


@rule("dependencies.unknown")
def test_a_job_waits_for_one_that_does_not_exist_yet() -> None:
    """Job dependencies: an unknown ID."""
    missing = play({"b": after("a")})
    late = play({"b": after("a")}, events=[{"at": "60s", "apply": batch_job("a")}])

    assert missing.waits_for("b") == "DependencyNotFound"
    assert late.state("b") == "SUCCEEDED"


@rule("dependencies.circles")
def test_jobs_that_wait_for_each_other_say_so() -> None:
    """Job dependencies: circles."""
    played = play({"a": after("b"), "b": after("c"), "c": after("a")})

    assert {played.waits_for(name) for name in "abc"} == {"CircularDependency"}
    assert "a → b → c → a" in played.final("a")["pending"]["message"]
