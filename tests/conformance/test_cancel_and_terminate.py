"""Cancelling and terminating jobs: what a request does in which state."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.rules import rule
from support.builders import pod_template
from support.play import Played, later, play, pods_of, refusal_of_job, world_of

NO: dict[str, Any] = {"reason": "not needed"}


def requested(verb: str, at: str, *, runtime: str = "5m", pull: str = "1s", **job: Any) -> Played:
    """What becomes of job `a` behind one that holds all capacity for two minutes."""
    return play(
        {"first": {}, "a": job},
        max_vcpus=1,
        behaviors=[
            {"job": "first", "runtime": "2m"},
            {"job": "a", "runtime": runtime, "pullTime": pull},
        ],
        events=[later(at, **{verb: NO})],
    )


def pending(verb: str) -> Played:
    """What becomes of a job that waits for another one when it is to be ended."""
    return play(
        {"first": {}, "a": {"dependsOn": [{"job": "first"}]}},
        behaviors=[{"job": "first", "runtime": "5m"}],
        events=[later("30s", **{verb: NO})],
    )


def ended(verb: str, **behavior: Any) -> Played:
    """What becomes of a job that is over when it is to be ended."""
    return play({"a": {}}, behaviors=[behavior], events=[later("60s", **{verb: NO})])


def array(verb: str) -> Played:
    """What becomes of an array of which some children run and some wait."""
    return play(
        {"a": {"arrayProperties": {"size": 6}}},
        max_vcpus=2,
        behaviors=[{"runtime": "60s"}],
        events=[later("90s", **{verb: NO})],
    )


@rule("cancel.not-started")
def test_cancelling_ends_a_job_that_has_not_started() -> None:
    """Cancelling and terminating jobs: CancelJob, SUBMITTED and RUNNABLE."""
    runnable = requested("cancel", "30s")
    submitted = play({"a": {"jobDefinition": "nothing"}}, events=[later("30s", cancel=NO)])

    assert runnable.path("a") == ["SUBMITTED", "RUNNABLE", "FAILED"]
    assert submitted.path("a") == ["SUBMITTED", "FAILED"]
    assert runnable.reason("a") == submitted.reason("a") == "not needed"
    assert runnable.at("FAILED", "a") < 35


def test_cancelling_ends_a_job_whose_pod_no_node_has() -> None:
    """Cancelling and terminating jobs: CancelJob, RUNNABLE. Here it may have a Pod then."""
    node = {"computeEnvironment": "local", "count": 1, "vcpus": 1, "memory": "4Gi"}
    asks = {"containerOverrides": [{"resources": {"requests": {"cpu": "2"}}}]}
    played = play({"a": asks}, nodes=[node], events=[later("30s", cancel=NO)])

    assert played.path("a") == ["SUBMITTED", "RUNNABLE", "FAILED"]
    assert played.at("FAILED", "a") < 35


@rule("cancel.pending")
def test_cancelling_ends_a_pending_job_at_once() -> None:
    """Cancelling and terminating jobs: CancelJob, PENDING."""
    played = pending("cancel")

    assert played.path("a") == ["SUBMITTED", "PENDING", "FAILED"]
    assert played.at("FAILED", "a") < 35


@rule("cancel.started")
def test_cancelling_leaves_alone_what_has_started() -> None:
    """Cancelling and terminating jobs: CancelJob, STARTING and RUNNING."""
    starting = requested("cancel", "150s", pull="1m")
    running = requested("cancel", "200s")

    assert starting.at("STARTING", "a") < 150 < starting.at("RUNNING", "a")
    assert running.at("RUNNING", "a") < 200
    for played in (starting, running):
        assert played.path("a")[-2:] == ["RUNNING", "SUCCEEDED"]
        assert played.reason("a") == "Essential container in task exited"


@rule("cancel.final")
def test_cancelling_changes_nothing_about_a_job_that_is_over() -> None:
    """Cancelling and terminating jobs: CancelJob, SUCCEEDED and FAILED."""
    exited = "Essential container in task exited"
    good, bad = ended("cancel"), ended("cancel", exitCode=1)

    assert (good.state("a"), good.reason("a")) == ("SUCCEEDED", exited)
    assert (bad.state("a"), bad.reason("a")) == ("FAILED", exited)


@rule("cancel.array")
def test_cancelling_an_array_ends_the_children_that_have_not_started() -> None:
    """Cancelling and terminating jobs: CancelJob, array jobs."""
    played = array("cancel")

    assert played.counts("a") == {"SUCCEEDED": 4, "FAILED": 2}
    assert (played.state("a"), played.reason("a")) == ("FAILED", "not needed")
    assert played.at("FAILED", "a") >= played.at("SUCCEEDED", "a", 3)


@rule("cancel.child")
def test_children_are_ended_by_their_indexes_and_their_siblings_go_on() -> None:
    """Cancelling and terminating jobs: CancelJob and TerminateJob, children of array jobs."""
    some = {"cancel": {**NO, "indexes": "1,4"}, "terminate": {"reason": "stuck", "indexes": "0"}}
    played = play(
        {"a": {"arrayProperties": {"size": 6}, "retryStrategy": {"attempts": 3}}},
        max_vcpus=2,
        behaviors=[{"index": 0, "runtime": "9h"}, {"runtime": "60s"}],
        events=[later("30s", **some)],
    )
    failures = {one["statusReason"]: one["indexes"] for one in played.final("a")["failures"]}

    assert played.counts("a") == {"SUCCEEDED": 4, "FAILED": 2}
    assert failures == {"stuck": "0", "not needed": "4"}  # 1 had started
    assert played.reason("a") == "Array Child Job failed"


@rule("cancel.reason")
def test_a_request_needs_a_reason_of_at_most_1024_characters() -> None:
    """Cancelling and terminating jobs: reason."""
    for verb in ("cancel", "terminate"):
        assert refusal_of_job(**{verb: {"reason": "x" * 1024}}) is None
        assert refusal_of_job(**{verb: {"reason": "x" * 1025}}) is not None
        assert refusal_of_job(**{verb: {"reason": ""}}) is not None
        assert refusal_of_job(**{verb: {}}) is not None


@rule("cancel.flags")
def test_a_request_stays_to_be_read_and_cannot_be_taken_back() -> None:
    """Cancelling and terminating jobs: isCancelled and isTerminated."""
    for verb in ("cancel", "terminate"):
        assert refusal_of_job(before={}, **{verb: NO}) is None
        assert verb in (refusal_of_job(before={verb: NO}) or "")


@rule("terminate.not-started")
def test_terminating_ends_a_job_that_has_not_started() -> None:
    """Cancelling and terminating jobs: TerminateJob, SUBMITTED and RUNNABLE."""
    played = requested("terminate", "30s")

    assert played.path("a") == ["SUBMITTED", "RUNNABLE", "FAILED"]
    assert played.at("FAILED", "a") < 35


@rule("terminate.pending")
def test_terminating_ends_a_pending_job_at_once() -> None:
    """Cancelling and terminating jobs: TerminateJob, PENDING."""
    played = pending("terminate")

    assert played.path("a") == ["SUBMITTED", "PENDING", "FAILED"]
    assert played.at("FAILED", "a") < 35


@rule("terminate.started")
def test_terminating_ends_what_has_started_whatever_its_exit_code() -> None:
    """Cancelling and terminating jobs: TerminateJob, STARTING and RUNNING."""
    starting = requested("terminate", "150s", pull="10m")
    running = requested("terminate", "200s")

    assert starting.path("a")[-2:] == ["STARTING", "FAILED"]
    assert running.path("a")[-2:] == ["RUNNING", "FAILED"]
    assert starting.reason("a") == running.reason("a") == "not needed"
    assert starting.at("FAILED", "a") < 185
    assert running.at("FAILED", "a") < 235


@rule("terminate.grace")
def test_containers_are_stopped_with_the_grace_period_of_the_template() -> None:
    """Cancelling and terminating jobs: SIGTERM and SIGKILL."""
    template = pod_template()
    template["spec"]["terminationGracePeriodSeconds"] = 120
    (own,) = pods_of(world_of({"podTemplate": template}))

    assert own["spec"]["terminationGracePeriodSeconds"] == 120


@rule("terminate.final")
def test_terminating_changes_nothing_about_a_job_that_is_over() -> None:
    """Cancelling and terminating jobs: TerminateJob, SUCCEEDED and FAILED."""
    exited = "Essential container in task exited"
    good, bad = ended("terminate"), ended("terminate", exitCode=1)

    assert (good.state("a"), good.reason("a")) == ("SUCCEEDED", exited)
    assert (bad.state("a"), bad.reason("a")) == ("FAILED", exited)


@rule("terminate.array")
def test_terminating_an_array_ends_every_child() -> None:
    """Cancelling and terminating jobs: TerminateJob, array jobs."""
    played = array("terminate")

    assert played.counts("a") == {"SUCCEEDED": 2, "FAILED": 4}
    assert (played.state("a"), played.reason("a")) == ("FAILED", "not needed")
    assert played.attempts("a") == 4


@pytest.mark.parametrize("verb", ["cancel", "terminate"])
def test_an_array_that_was_ended_starts_no_child_any_more(verb: str) -> None:
    played = array(verb)

    assert max(played.at("RUNNING", "a", index) for index in range(4)) < 90
    assert all("STARTING" not in played.path("a", index) for index in (4, 5))
