"""Submitting jobs: queue, definition, parameters and overrides."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.rules import rule
from support.builders import pod_template
from support.play import (
    batch_job,
    first_container,
    later,
    play,
    pods_of,
    refusal,
    refusal_of_job,
    world_of,
)

COMMAND = {
    "parameters": {"size": "small", "color": "red"},
    "podTemplate": pod_template(command=["make", "Ref::size", "Ref::color"]),
}


@rule("submit.required")
def test_a_job_needs_queue_and_definition_and_its_own_name() -> None:
    """Submitting jobs: what SubmitJob requires."""
    assert refusal_of_job() is None
    assert refusal_of_job(jobName="free name") is not None
    assert refusal_of_job(jobName="Free_name-1") is None
    assert "jobQueue" in (refusal("BatchJob", {"jobDefinition": "work"}) or "")
    assert "jobDefinition" in (refusal("BatchJob", {"jobQueue": "main"}) or "")


@rule("submit.not-idempotent")
def test_a_job_that_is_applied_twice_runs_once() -> None:
    """Submitting jobs: there is no client token."""
    again = [{"at": at, "apply": batch_job("a")} for at in ("1s", "60s")]
    played = play({"a": {}}, events=again)

    assert played.path("a").count("SUBMITTED") == 1
    assert played.attempts("a") == 1


@rule("submit.unknown-queue")
def test_a_job_waits_for_a_queue_that_does_not_exist() -> None:
    """Submitting jobs: jobQueue."""
    played = play({"a": {"jobQueue": "nowhere"}})

    assert played.waits_for("a") == "JobQueueNotFound"


@rule("submit.unknown-definition")
def test_a_job_waits_for_a_definition_that_does_not_exist() -> None:
    """Submitting jobs: jobDefinition."""
    played = play({"a": {"jobDefinition": "nothing"}, "b": {"jobDefinition": "work:7"}})

    assert played.waits_for("a") == played.waits_for("b") == "JobDefinitionNotFound"


@rule("submit.disabled-queue")
def test_a_disabled_queue_lets_new_jobs_wait() -> None:
    """Submitting jobs: a queue that is DISABLED."""
    disabled = {"state": "DISABLED"}
    waiting = play({"a": {}}, queue=disabled)
    released = play(
        {"a": {}}, queue=disabled, events=[later("60s", "JobQueue", "main", state="ENABLED")]
    )

    assert (waiting.state("a"), waiting.waits_for("a")) == ("RUNNABLE", "JobQueueDisabled")
    assert released.state("a") == "SUCCEEDED"


@rule("submit.disabled-queue-finishes")
def test_a_disabled_queue_lets_attempts_finish_and_starts_nothing() -> None:
    """Submitting jobs: a queue that becomes DISABLED."""
    played = play(
        {"running": {}, "waiting": {}},
        max_vcpus=1,
        behaviors=[{"runtime": "2m"}],
        events=[later("30s", "JobQueue", "main", state="DISABLED")],
    )

    assert played.state("running") == "SUCCEEDED"
    assert played.waits_for("waiting") == "JobQueueDisabled"


@rule("submit.parameters")
def test_parameters_of_the_job_win_one_by_one() -> None:
    """Submitting jobs: parameters."""
    made = first_container(COMMAND, parameters={"size": "large"})

    assert made["command"] == ["make", "large", "red"]


@rule("submit.ref-in-command")
def test_placeholders_are_replaced_in_the_command_and_nowhere_else() -> None:
    """Submitting jobs: where Ref:: is replaced."""
    template = pod_template(
        image="repo/Ref::size",
        command=["run", "Ref::size"],
        args=["Ref::size"],
        env=[{"name": "SIZE", "value": "Ref::size"}],
    )
    made = first_container({"parameters": {"size": "small"}, "podTemplate": template})

    assert made["command"] == ["run", "small"]
    assert made["args"] == ["small"]
    assert made["image"] == "repo/Ref::size"
    assert {"name": "SIZE", "value": "Ref::size"} in made["env"]


@rule("submit.ref-unresolved")
def test_a_placeholder_without_a_value_fails_the_job() -> None:
    """Submitting jobs: Ref:: without a parameter."""
    played = play({"a": {}}, definition={"podTemplate": pod_template(command=["Ref::who"])})

    assert played.path("a") == ["SUBMITTED", "FAILED"]
    assert "Ref::who" in (played.reason("a") or "")


@rule("submit.ref-extra")
def test_a_parameter_that_nobody_names_does_no_harm() -> None:
    """Submitting jobs: parameters without a placeholder."""
    assert play({"a": {"parameters": {"who": "nobody"}}}).state("a") == "SUCCEEDED"


@rule("submit.ref-part")
def test_a_placeholder_may_be_a_part_of_a_word() -> None:
    """Submitting jobs: Ref:: within an element."""
    definition = {"podTemplate": pod_template(command=["--in=Ref::in,Ref::out"])}
    made = first_container(definition, parameters={"in": "x", "out": "y"})

    assert made["command"] == ["--in=x,y"]


@rule("submit.override-command")
def test_a_command_replaces_the_definitions() -> None:
    """Submitting jobs: ContainerOverrides.command."""
    made = first_container(COMMAND, containerOverrides=[{"command": ["echo", "Ref::size"]}])

    assert made["command"] == ["echo", "small"]


@rule("submit.override-environment")
def test_variables_are_merged_by_name() -> None:
    """Submitting jobs: ContainerOverrides.environment."""
    variables = [{"name": "KEPT", "value": "1"}, {"name": "CHANGED", "value": "1"}]
    changes = [{"name": "CHANGED", "value": "2"}, {"name": "ADDED", "value": "2"}]
    made = first_container(
        {"podTemplate": pod_template(env=variables)}, containerOverrides=[{"env": changes}]
    )
    own = {one["name"]: one["value"] for one in made["env"] if "AWS" not in one["name"]}

    assert own == {"KEPT": "1", "CHANGED": "2", "ADDED": "2"}


@rule("submit.override-resources")
def test_resources_replace_those_of_the_same_type() -> None:
    """Submitting jobs: ContainerOverrides.resourceRequirements."""
    template = pod_template(resources={"requests": {"cpu": "1", "memory": "1Gi"}})
    world = world_of(
        {"podTemplate": template},
        containerOverrides=[{"resources": {"requests": {"cpu": "3"}}}],
    )
    (made,) = pods_of(world)

    assert made["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "3", "memory": "1Gi"}
    assert world.started[0].plan.milli_cpu == 3000


@rule("submit.override-image")
def test_the_image_can_be_overridden() -> None:
    """Submitting jobs: EksContainerOverride.image."""
    assert first_container(containerOverrides=[{"image": "other:1"}])["image"] == "other:1"


@rule("submit.override-by-name")
def test_overrides_find_their_container_by_name() -> None:
    """Submitting jobs: EksContainerOverride.name."""
    template = pod_template()
    template["spec"]["containers"] += [{"name": "second", "image": "b"}]
    template["spec"]["initContainers"] = [{"name": "fetch", "image": "c"}]
    changes = [{"name": "fetch", "image": "new-c"}, {"name": "second", "image": "new-b"}]
    (made,) = pods_of(world_of({"podTemplate": template}, containerOverrides=changes))

    assert [one["image"] for one in made["spec"]["containers"]] == ["busybox", "new-b"]
    assert [one["image"] for one in made["spec"]["initContainers"]] == ["new-c"]


@rule("submit.override-unknown")
def test_an_override_of_no_container_fails_the_job_with_a_sentence() -> None:
    """Submitting jobs: a name that the definition does not have."""
    played = play({"a": {"containerOverrides": [{"name": "nobody"}]}})

    assert played.path("a") == ["SUBMITTED", "FAILED"]
    assert played.reason("a") == (
        "Invalid job: spec.containerOverrides names container nobody, but the definition has: main"
    )


@rule("submit.override-empty")
def test_an_empty_argument_is_handed_on() -> None:
    """Submitting jobs: empty strings in a command."""
    assert refusal_of_job(containerOverrides=[{"command": ["grep", ""]}]) is None
    assert first_container(containerOverrides=[{"command": ["grep", ""]}])["command"][1] == ""


@rule("submit.retry-strategy")
def test_a_retry_strategy_replaces_the_definitions_as_a_whole() -> None:
    """Submitting jobs: retryStrategy."""
    give_up = {"attempts": 5, "evaluateOnExit": [{"action": "EXIT", "onExitCode": "1"}]}
    played = play(
        {"own": {"retryStrategy": {"attempts": 3}}, "inherited": {}},
        definition={"retryStrategy": give_up},
        behaviors=[{"exitCode": 1}],
    )

    assert (played.attempts("own"), played.attempts("inherited")) == (3, 1)


@rule("submit.timeout")
def test_a_timeout_replaces_the_definitions() -> None:
    """Submitting jobs: timeout."""
    played = play(
        {"own": {"timeout": {"attemptDurationSeconds": 300}}, "inherited": {}},
        definition={"timeout": {"attemptDurationSeconds": 60}},
        behaviors=[{"runtime": "2m"}],
    )

    assert (played.state("own"), played.state("inherited")) == ("SUCCEEDED", "FAILED")


@rule("submit.reserved-environment")
def test_variables_of_the_operator_are_refused() -> None:
    """Submitting jobs: names that begin with AWS_BATCH."""
    stolen = [{"name": "AWS_BATCH_JOB_ID", "value": "1"}]
    played = play({"a": {}}, definition={"podTemplate": pod_template(env=stolen)})

    refused = refusal_of_job(containerOverrides=[{"env": stolen}])

    assert "names that start with AWS_BATCH are set by the operator" in (refused or "")
    assert played.path("a") == ["SUBMITTED", "FAILED"]
    assert "AWS_BATCH_JOB_ID" in (played.reason("a") or "")


@rule("submit.scheduling-priority")
def test_a_fifo_queue_ignores_the_priority_of_a_job() -> None:
    """Submitting jobs: schedulingPriorityOverride."""
    jobs = {"a": {}, "b": {"schedulingPriority": 0}, "c": {"schedulingPriority": 9999}}
    order = play(jobs, max_vcpus=1).order()

    assert [name for name, _ in order] == ["a", "b", "c"]
    assert refusal_of_job(schedulingPriority=10_000) is not None
    assert refusal_of_job(schedulingPriority=-1) is not None


@rule("submit.share-identifier")
def test_a_job_waits_whose_share_identifier_does_not_suit_its_queue() -> None:
    """Submitting jobs: shareIdentifier."""
    surplus = play({"a": {"shareIdentifier": "team"}})

    assert surplus.waits_for("a") == "ShareIdentifierNotUsed"
    assert "submit the job again without it" in surplus.final("a")["pending"]["message"]


@pytest.mark.parametrize(
    "spec",
    [{"jobQueue": "Main"}, {"jobDefinition": "work:0"}, {"jobDefinition": "work:1:2"}, {"size": 3}],
    ids=str,
)
def test_what_is_no_job_is_refused(spec: dict[str, Any]) -> None:
    assert refusal_of_job(**spec) is not None
