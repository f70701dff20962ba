"""Job states: the seven, and every step between them."""

from __future__ import annotations

from batch_operator.api.job import JobState
from batch_operator.lifecycle.attempt import Phase
from batch_operator.scheduling.mutations import StopPod
from conformance.rules import rule
from support.builders import pod_template
from support.play import later, play, world_of

WELL = ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
FAILS = {"job": "a", "exitCode": 1}


@rule("states.seven")
def test_a_job_has_one_of_seven_states() -> None:
    """Job states: their names."""
    seven = "SUBMITTED PENDING RUNNABLE STARTING RUNNING SUCCEEDED FAILED"

    assert [state.value for state in JobState] == seven.split()
    assert play({"a": {}}).path("a") == [
        "SUBMITTED",
        "RUNNABLE",
        "STARTING",
        "RUNNING",
        "SUCCEEDED",
    ]


@rule("states.no-cancelled")
def test_a_job_that_was_ended_on_request_has_failed() -> None:
    """Job states: there is none for cancelled jobs."""
    held = {"suspend": True}
    stop = {"reason": "not needed"}
    played = play(
        {"a": held, "b": held},
        events=[later("5s", cancel=stop), later("5s", name="b", terminate=stop)],
    )

    assert played.path("a") == ["SUBMITTED", "RUNNABLE", "FAILED"]
    assert played.path("b") == ["SUBMITTED", "RUNNABLE", "FAILED"]


@rule("states.submitted-to-pending")
def test_a_job_with_an_open_dependency_is_pending() -> None:
    """Job states: PENDING."""
    played = play({"a": {}, "b": {"dependsOn": [{"job": "a"}]}})

    assert played.path("b")[:2] == ["SUBMITTED", "PENDING"]


@rule("states.submitted-to-runnable")
def test_a_job_without_dependencies_is_never_pending() -> None:
    """Job states: RUNNABLE."""
    played = play({"a": {}, "b": {}}, max_vcpus=1)

    assert played.path("b") == ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]


@rule("states.submitted-to-failed")
def test_a_job_that_cannot_be_launched_fails_without_an_attempt() -> None:
    """Job states: FAILED."""
    played = play({"a": {"containerOverrides": [{"name": "nobody"}]}})

    assert played.path("a") == ["SUBMITTED", "FAILED"]
    assert played.attempts("a") == 0


@rule("states.pending-to-runnable")
def test_a_pending_job_is_runnable_when_all_its_dependencies_have_succeeded() -> None:
    """Job states: from PENDING to RUNNABLE."""
    played = play(
        {"fast": {}, "slow": {}, "a": {"dependsOn": [{"job": "fast"}, {"job": "slow"}]}},
        behaviors=[{"job": "slow", "runtime": "5m"}],
    )

    assert played.path("a")[:3] == ["SUBMITTED", "PENDING", "RUNNABLE"]
    assert played.at("RUNNABLE", "a") >= played.at("SUCCEEDED", "slow")


@rule("states.runnable-waits")
def test_a_job_is_runnable_while_there_is_no_room_for_it() -> None:
    """Job states: RUNNABLE has no limit."""
    played = play({"long": {}, "a": {}}, max_vcpus=1, behaviors=[{"job": "long", "runtime": "1h"}])

    assert played.at("STARTING", "a") - played.at("RUNNABLE", "a") > 3500


@rule("states.runnable-to-starting")
def test_a_job_is_starting_once_a_host_has_it() -> None:
    """Job states: STARTING."""
    world = world_of()
    world.move(world.live()[0], Phase.UNBOUND)
    world.settle()

    assert world.state("a") == "RUNNABLE"

    world.move(world.live()[0], Phase.STARTING, node_name="node", bound_at=world.now)
    world.settle()

    assert world.state("a") == "STARTING"


@rule("states.starting-to-running")
def test_a_job_is_starting_while_its_image_is_pulled() -> None:
    """Job states: from STARTING to RUNNING."""
    played = play({"a": {}}, behaviors=[{"pullTime": "90s"}])

    assert 90 <= played.at("RUNNING", "a") - played.at("STARTING", "a") < 92


@rule("states.starting-fails")
def test_an_attempt_that_cannot_start_is_retried_by_the_strategy() -> None:
    """Job states: from STARTING to RUNNABLE."""
    played = play(
        {"a": {"retryStrategy": {"attempts": 2}}},
        behaviors=[{"attempt": 1, "reason": "ErrImagePull"}],
    )
    path = played.path("a")

    assert path[:4] == ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNABLE"]
    assert path[-3:] == ["STARTING", "RUNNING", "SUCCEEDED"]
    assert path.count("RUNNING") == 1


@rule("states.starting-no-limit")
def test_a_slow_pull_may_take_for_ever_and_one_that_fails_a_minute() -> None:
    """Job states: STARTING has no limit."""
    played = play(
        {"slow": {}, "never": {}},
        behaviors=[{"job": "slow", "pullTime": "1h"}, {"job": "never", "reason": "ErrImagePull"}],
    )

    assert played.state("slow") == "SUCCEEDED"
    assert played.path("never")[-2:] == ["STARTING", "FAILED"]
    assert 60 <= played.at("FAILED", "never") < 75


@rule("states.running-to-succeeded")
def test_a_job_succeeds_when_all_of_its_containers_exit_with_0() -> None:
    """Job states: SUCCEEDED."""
    two = pod_template()
    two["spec"]["containers"] += [{"name": "second", "image": "busybox"}]
    played = play(
        {"good": {}, "bad": {}},
        definition={"podTemplate": two},
        behaviors=[{"job": "bad", "exitCode": 3}],
    )

    assert played.path("good")[-2:] == ["RUNNING", "SUCCEEDED"]
    assert played.path("bad")[-2:] == ["RUNNING", "FAILED"]


@rule("states.running-to-runnable")
def test_a_failed_attempt_leads_back_to_runnable() -> None:
    """Job states: from RUNNING to RUNNABLE."""
    played = play(
        {"a": {"retryStrategy": {"attempts": 2}}}, behaviors=[{"attempt": 1, "exitCode": 1}]
    )
    both = ["RUNNABLE", "STARTING", "RUNNING"] * 2

    assert played.path("a") == ["SUBMITTED", *both, "SUCCEEDED"]


@rule("states.running-to-failed")
def test_a_job_fails_with_its_last_attempt() -> None:
    """Job states: FAILED."""
    played = play({"a": {"retryStrategy": {"attempts": 2}}}, behaviors=[FAILS])

    assert played.path("a")[-2:] == ["RUNNING", "FAILED"]
    assert played.path("a").count("FAILED") == 1


@rule("states.final")
def test_nothing_moves_a_job_that_is_over() -> None:
    """Job states: SUCCEEDED and FAILED are the last."""
    played = play(
        {"good": {}, "bad": {}},
        behaviors=[{"job": "bad", "exitCode": 1}],
        events=[
            later("60s", name=name, **{verb: {"reason": "late"}})
            for name in ("good", "bad")
            for verb in ("cancel", "terminate")
        ],
    )

    assert played.path("good")[-2:] == ["RUNNING", "SUCCEEDED"]
    assert played.path("bad")[-2:] == ["RUNNING", "FAILED"]


@rule("states.short-job")
def test_a_job_may_be_over_before_anybody_saw_it_run() -> None:
    """Job states: a job that was not seen RUNNING."""
    world = world_of()
    before = world.state("a")
    world.move(world.live()[0], Phase.SUCCEEDED, node_name="node")
    world.settle()

    assert (before, world.state("a")) == ("RUNNABLE", "SUCCEEDED")


@rule("states.history")
def test_a_job_that_is_over_is_kept_until_it_is_deleted() -> None:
    """Job states: how long they can be read."""
    kept, limited = world_of(), world_of(ttlSecondsAfterFinished=60)
    for world in (kept, limited):
        world.move(world.live()[0], Phase.SUCCEEDED, node_name="node")
        world.settle()
        world.tick(8 * 86_400)
        world.settle()

    assert kept.state("a") == "SUCCEEDED"
    assert limited.jobs == {}


@rule("states.time-limit-actions")
def test_a_job_at_the_head_of_its_queue_does_not_block_it_for_ever() -> None:
    """Job states: jobStateTimeLimitActions."""
    action = {
        "reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        "state": "RUNNABLE",
        "maxTimeSeconds": 600,
        "action": "CANCEL",
    }
    large = {"containerOverrides": [{"resources": {"requests": {"cpu": "2"}}}]}
    played = play(
        {"a": {}, "large": large, "behind": {}},
        queue={"jobStateTimeLimitActions": [action]},
        max_vcpus=2,
        behaviors=[{"job": "a", "runtime": "1h"}],
    )

    assert played.path("large") == ["SUBMITTED", "RUNNABLE", "FAILED"]
    assert 600 <= played.at("FAILED", "large") < 610
    assert played.state("behind") == "SUCCEEDED"


@rule("states.preempted")
def test_a_preempted_job_goes_back_to_runnable_and_loses_no_try() -> None:
    """Job states: preemption."""
    world = world_of()
    for _ in range(10):
        pod = world.live()[0]
        world.carry_out(StopPod(pod, "Preempted: made room for job urgent"))
        world.settle()

        assert world.state("a") == "RUNNABLE"

    world.carry_out(StopPod(world.live()[0], "Preempted: made room for job urgent"))
    world.settle()

    assert world.state("a") == "FAILED"
