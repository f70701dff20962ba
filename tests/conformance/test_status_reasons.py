"""Status reasons: AWS's own strings, because rules of users match them."""

from __future__ import annotations

from typing import Any

from batch_operator.lifecycle.attempt import observed_attempt
from conformance.rules import rule
from support.builders import pod, pod_template
from support.play import later, play, written

KWOK = {"type": "kwok", "kwok": {"startUpSeconds": 60}}
EXITED = "Essential container in task exited"


@rule("reasons.two-fields")
def test_why_and_the_runtimes_detail_are_two_fields() -> None:
    """Status reasons: statusReason and the container's reason."""
    ended = {"terminated": {"exitCode": 128, "reason": "Odd", "message": "x" * 400}}
    status = {"phase": "Failed", "containerStatuses": [{"name": "main", "state": ended}]}
    attempt = observed_attempt(pod(status=status))

    assert attempt.status_reason == EXITED
    assert attempt.reason is not None
    assert attempt.reason.startswith("Odd: xxx")
    assert len(attempt.reason) == 255


@rule("reasons.exited")
def test_a_container_that_ended_by_itself_exited() -> None:
    """Status reasons: "Essential container in task exited"."""
    played = play({"good": {}, "bad": {}}, behaviors=[{"job": "bad", "exitCode": 9}])

    assert played.reason("good") == played.reason("bad") == EXITED


@rule("reasons.host-lost")
def test_a_lost_node_reads_as_a_lost_instance() -> None:
    """Status reasons: "Host EC2 (instance ID) terminated."."""
    lost = {"at": "30s", "interruptNodes": {"computeEnvironment": "local"}}
    played = play({"a": {}}, behaviors=[{"runtime": "10m"}], events=[lost])
    reason = played.reason("a") or ""

    assert reason.startswith("Host EC2 (instance local")
    assert reason.endswith(") terminated.")


@rule("reasons.failed-to-start")
def test_an_attempt_that_never_ran_failed_to_start() -> None:
    """Status reasons: "Task failed to start"."""
    played = play({"a": {}}, behaviors=[{"reason": "CreateContainerConfigError"}])

    assert played.state("a") == "FAILED"
    assert played.reason("a") == "Task failed to start"


def _tries(exit_on_reason: str, reason: str) -> int:
    """How often a job is tried that gives up on a container's reason, and meets one."""
    give_up = {"action": "EXIT", "onReason": exit_on_reason}
    strategy = {"attempts": 2, "evaluateOnExit": [give_up]}
    return play({"a": {"retryStrategy": strategy}}, behaviors=[{"reason": reason}]).attempts("a")


@rule("reasons.cannot-pull")
def test_an_image_that_cannot_be_pulled_has_its_word() -> None:
    """Status reasons: "CannotPullContainerError: …"."""
    assert _tries("CannotPullContainerError: *", "ErrImagePull") == 1
    assert _tries("CannotPullContainerError: *", "OOMKilled") == 2


@rule("reasons.out-of-memory")
def test_a_container_above_its_memory_has_its_sentence() -> None:
    """Status reasons: "OutOfMemoryError: …"."""
    sentence = "OutOfMemoryError: Container killed due to memory usage"

    assert _tries(sentence, "OOMKilled") == 1
    assert _tries(sentence, "ErrImagePull") == 2


@rule("reasons.timeout")
def test_a_job_that_ran_too_long_says_so() -> None:
    """Status reasons: "Job attempt duration exceeded timeout"."""
    played = play({"a": {"timeout": {"attemptDurationSeconds": 60}}}, behaviors=[{"runtime": "1h"}])

    assert played.reason("a") == "Job attempt duration exceeded timeout"


@rule("reasons.dependency")
def test_a_job_whose_dependency_failed_says_so() -> None:
    """Status reasons: "Dependent Job failed"."""
    played = play(
        {"a": {}, "b": {"dependsOn": [{"job": "a"}]}}, behaviors=[{"job": "a", "exitCode": 1}]
    )

    assert played.reason("b") == "Dependent Job failed"


@rule("reasons.array-child")
def test_an_array_with_a_failed_child_says_so() -> None:
    """Status reasons: "Array Child Job failed"."""
    played = play({"a": {"arrayProperties": {"size": 3}}}, behaviors=[{"index": 1, "exitCode": 1}])

    assert played.reason("a") == "Array Child Job failed"


@rule("reasons.request")
def test_a_request_is_quoted_verbatim() -> None:
    """Status reasons: what the caller of TerminateJob wrote."""
    words = 'Wrong "input":\n déjà vu — Ref::nothing %s {} ' + "x" * 900
    played = play(
        {"a": {}}, behaviors=[{"runtime": "1h"}], events=[later("30s", terminate={"reason": words})]
    )

    assert played.reason("a") == words


@rule("reasons.overrides-length")
def test_long_overrides_run_and_endless_ones_fail_the_job() -> None:
    """Status reasons: "Container Overrides length must be at most 8192"."""
    long = {"containerOverrides": [{"args": ["x" * 8192] * 2}]}
    endless = {"containerOverrides": [{"args": ["x" * 8192] * 33}]}
    played = play({"long": long, "endless": endless})

    assert played.state("long") == "SUCCEEDED"
    assert played.state("endless") == "FAILED"
    assert (played.reason("endless") or "").startswith("Invalid job: container main's args has 27")


@rule("reasons.max-resource")
def test_a_job_above_every_environment_says_so_while_it_is_runnable() -> None:
    """Status reasons: "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - …"."""
    played = play({"a": {}}, definition={"podTemplate": pod_template("5")}, max_vcpus=4)

    assert played.state("a") == "RUNNABLE"
    assert played.reason("a") == (
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue "
        "cannot meet the CPU requirement of the job."
    )


@rule("reasons.max-resource-blocks")
def test_a_job_above_every_environment_blocks_nobody() -> None:
    """Status reasons: what waits behind a job that never fits."""
    large = {"containerOverrides": [{"resources": {"requests": {"cpu": "5"}}}]}
    played = play({"large": large, "a": {}}, max_vcpus=4)

    assert (played.state("large"), played.state("a")) == ("RUNNABLE", "SUCCEEDED")


@rule("reasons.action-required")
def test_a_queue_without_a_valid_environment_says_so() -> None:
    """Status reasons: "ACTION_REQUIRED - …"."""
    nowhere = [{"order": 1, "computeEnvironment": "nowhere"}]
    played = play({"a": {}}, queue={"computeEnvironmentOrder": nowhere})

    assert played.state("a") == "RUNNABLE"
    assert played.reason("a") == (
        "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."
    )


@rule("reasons.capacity")
def test_a_job_that_has_no_room_names_the_environments() -> None:
    """Status reasons: "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - …"."""
    runs = {"runtime": "2h"}
    played = play({"a": {}, "b": {}}, max_vcpus=1, behaviors=[runs], until="1h")

    assert played.reason("b") == (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested "
        "for instance type [local]"
    )


@rule("reasons.undetermined")
def test_a_job_that_waits_always_says_why() -> None:
    """Status reasons: never "UNDETERMINED"."""
    played = play(
        {"running": {}, "head": {}, "behind": {}, "dependent": {"dependsOn": [{"job": "head"}]}},
        max_vcpus=1,
        behaviors=[{"runtime": "2h"}],
        until="1h",
    )
    waiting = [played.waits_for(name) for name in ("head", "behind", "dependent")]

    assert waiting == ["InsufficientCapacity", "BehindOthers", "WaitingForDependencies"]


def _limited(state: str, action: str) -> dict[str, Any]:
    """A queue with one time limit of a minute."""
    rule = {"state": state, "action": action, "reason": "*", "maxTimeSeconds": 60}
    return {"jobStateTimeLimitActions": [rule]}


@rule("reasons.time-limit")
def test_a_job_that_a_time_limit_cancelled_says_so_with_the_code() -> None:
    """Status reasons: "Canceled by JobStateTimeLimit action due to reason: …"."""
    played = play(
        {"a": {}, "b": {}},
        queue=_limited("RUNNABLE", "CANCEL"),
        max_vcpus=1,
        behaviors=[{"runtime": "1h"}],
    )

    assert played.reason("b") == (
        "Canceled by JobStateTimeLimit action due to reason: "
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
    )


@rule("reasons.time-limit-terminate")
def test_a_job_that_a_time_limit_terminated_says_so() -> None:
    """Status reasons: "Terminated by JobStateTimeLimit action due to reason: …"."""
    queue = _limited("STARTING", "TERMINATE")
    played = play({"a": {}}, queue=queue, behaviors=[{"pullTime": "1h"}])

    assert played.reason("a") == (
        "Terminated by JobStateTimeLimit action due to reason: ContainersStarting"
    )


@rule("reasons.resource-requirement")
def test_a_job_larger_than_every_instance_type_says_so() -> None:
    """Status reasons: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT."""
    types = [{"name": "c4", "vcpus": 4, "memory": "64Gi"}]
    cloud = {"type": "MANAGED", "maxvCpus": 64, "instanceTypes": types, "provisioner": KWOK}
    played = play(
        {"large": {"jobDefinition": "large"}, "small": {}},
        definitions={"large": {"podTemplate": pod_template(cpu="8")}},
        queue={"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "cloud"}]},
        others=[written("ComputeEnvironment", "cloud", cloud)],
        until="1h",
    )
    code = (played.reason("large") or "").partition(" - ")[0]

    assert (played.state("large"), played.state("small")) == ("RUNNABLE", "SUCCEEDED")
    assert code == "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"
