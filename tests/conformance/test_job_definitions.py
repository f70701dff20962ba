"""Job definitions: revisions, and what a Pod may be."""

from __future__ import annotations

from typing import Any

from batch_operator.api.job import BatchJobStatus
from batch_operator.lifecycle.plan import Definition
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.mutations import DeleteRevision
from conformance.rules import rule
from support.builders import definition, definition_spec, job, pod_template
from support.play import batch_job, later, play, pods_of, refusal, world_of
from support.world import World

LARGE = {"podTemplate": pod_template("1000")}
"""More than any environment has: a job of such a revision can be told by its waiting."""
NEVER_FITS = "ComputeEnvironmentMaxResource"


def _edited(**jobs: str) -> Any:
    """Jobs of definition `work` after it was made LARGE, and then as it had been again."""
    return play(
        {},
        events=[
            later("10s", "JobDefinition", "work", **LARGE),
            later("20s", "JobDefinition", "work", podTemplate=pod_template()),
            *(
                {"at": "30s", "apply": batch_job(name, jobDefinition=work)}
                for name, work in jobs.items()
            ),
        ],
    )


@rule("definitions.revisions")
def test_each_change_of_a_definition_is_the_next_revision() -> None:
    """Job definitions: revisions count from 1."""
    played = _edited(first="work:1", second="work:2", fourth="work:4")

    assert played.state("first") == "SUCCEEDED"
    assert played.waits_for("second") == NEVER_FITS
    assert played.waits_for("fourth") == "JobDefinitionNotFound"


@rule("definitions.immutable")
def test_a_job_goes_on_with_the_revision_that_it_was_given() -> None:
    """Job definitions: a revision cannot be changed."""
    played = play(
        {"a": {"arrayProperties": {"size": 6}, "retryStrategy": {"attempts": 2}}},
        max_vcpus=2,
        behaviors=[{"index": 4, "attempt": 1, "exitCode": 1}],
        events=[
            later("5s", "JobDefinition", "work", **LARGE),
            {"at": "8s", "restartOperator": {}},  # it is stored, and not only remembered
        ],
    )

    assert played.state("a") == "SUCCEEDED"


@rule("definitions.numbers-not-reused")
def test_going_back_is_a_new_revision() -> None:
    """Job definitions: a number stands for one revision for ever."""
    played = _edited(latest="work", third="work:3", second="work:2")

    assert played.state("latest") == played.state("third") == "SUCCEEDED"
    assert played.waits_for("second") == NEVER_FITS


@rule("definitions.latest-active")
def test_a_job_gets_the_latest_active_revision() -> None:
    """Job definitions: a job that names none."""
    edit = later("10s", "JobDefinition", "work", **LARGE)
    retract = later("20s", "JobDefinition", "work", inactiveRevisions=[2])
    submit = {"at": "30s", "apply": batch_job("a")}

    assert play({}, events=[edit, submit]).waits_for("a") == NEVER_FITS
    assert play({}, events=[edit, retract, submit]).state("a") == "SUCCEEDED"


@rule("definitions.named-revision")
def test_a_job_gets_the_revision_that_it_names() -> None:
    """Job definitions: name:revision."""
    played = play(
        {},
        events=[
            later("10s", "JobDefinition", "work", **LARGE),
            {"at": "20s", "apply": batch_job("old", jobDefinition="work:1")},
            {"at": "20s", "apply": batch_job("new", jobDefinition="work")},
        ],
    )

    assert played.state("old") == "SUCCEEDED"
    assert played.waits_for("new") == NEVER_FITS


@rule("definitions.inactive")
def test_a_job_of_an_inactive_definition_waits_until_it_is_active() -> None:
    """Job definitions: INACTIVE."""
    inactive = {"state": "INACTIVE"}
    waiting = play({"a": {}}, definition=inactive)
    released = play(
        {"a": {}},
        definition=inactive,
        events=[later("60s", "JobDefinition", "work", state="ACTIVE")],
    )

    one_revision = play({"a": {"jobDefinition": "work:1"}}, definition={"inactiveRevisions": [1]})

    assert one_revision.waits_for("a") == "JobDefinitionInactive"
    assert waiting.waits_for("a") == "JobDefinitionInactive"
    assert waiting.attempts("a") == 0
    assert released.state("a") == "SUCCEEDED"


@rule("definitions.inactive-spares")
def test_jobs_that_were_submitted_before_are_spared() -> None:
    """Job definitions: DeregisterJobDefinition."""
    played = play(
        {"running": {"retryStrategy": {"attempts": 2}}, "waiting": {}},
        max_vcpus=1,
        behaviors=[{"job": "running", "attempt": 1, "exitCode": 1}],
        events=[
            later("5s", "JobDefinition", "work", state="INACTIVE"),
            {"at": "8s", "restartOperator": {}},
        ],
    )

    assert played.state("running") == played.state("waiting") == "SUCCEEDED"
    assert played.attempts("running") == 2


@rule("definitions.purge")
def test_revisions_beyond_the_limit_are_deleted_unless_a_job_uses_them() -> None:
    """Job definitions: how long revisions are kept."""
    world = World()
    made = definition("work", definition_spec(revisionHistoryLimit=1), revision=5)
    world.definitions = [Definition(made.object, dict.fromkeys(range(1, 6), definition_spec()))]
    world.restart()
    world.submit(job(status=BatchJobStatus(job_definition="work:2"), suspend=True))
    found = run_cycle(world.cache.snapshot(world.now, Policy(), 1000), world.memo).mutations

    assert [one.revision for one in found if isinstance(one, DeleteRevision)] == [1, 3]


@rule("definitions.one-kind")
def test_a_definition_has_what_its_type_demands_and_nothing_else() -> None:
    """Job definitions: exactly one kind of properties."""
    nodes = {
        "numNodes": 2,
        "nodeRangeProperties": [{"targetNodes": "0:", "podTemplate": pod_template()}],
    }

    assert refusal("JobDefinition", {"podTemplate": pod_template()}) is None
    assert refusal("JobDefinition", {"type": "multinode", "nodeProperties": nodes}) is None
    for wrong in (
        {},
        {"type": "multinode"},
        {"nodeProperties": nodes},
        {"podTemplate": pod_template(), "nodeProperties": nodes},
    ):
        assert refusal("JobDefinition", wrong) is not None


@rule("definitions.pod-fields")
def test_the_whole_pod_template_is_passed_on() -> None:
    """Job definitions: more than EksPodProperties."""
    template = pod_template(workingDir="/data", lifecycle={"preStop": {"sleep": {"seconds": 1}}})
    more = {
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "topologySpreadConstraints": [],
        "volumes": [{"name": "settings", "configMap": {"name": "settings"}}],
    }
    template["spec"] |= more
    (made,) = pods_of(world_of({"podTemplate": template}))
    container = made["spec"]["containers"][0]

    assert {name: made["spec"][name] for name in more} == more
    assert container["workingDir"] == "/data"
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 1}}}


@rule("definitions.cpu-required")
def test_a_job_needs_a_cpu_request_and_may_leave_memory_out() -> None:
    """Job definitions: resourceRequirements."""
    nothing = {"podTemplate": pod_template(resources={})}
    given = {"resources": {"requests": {"cpu": "1"}}}
    played = play({"a": {}, "b": {"containerOverrides": [given]}}, definition=nothing)

    assert played.path("a") == ["SUBMITTED", "FAILED"]
    assert "requests any CPU" in (played.reason("a") or "")
    assert played.state("b") == "SUCCEEDED"


@rule("definitions.cpu-steps")
def test_a_tenth_of_a_cpu_counts_as_that() -> None:
    """Job definitions: vCPUs."""
    played = play(
        {"a": {"arrayProperties": {"size": 11}}},
        definition={"podTemplate": pod_template("100m")},
        max_vcpus=1,
    )
    first_end = min(played.at("SUCCEEDED", "a", index) for index in range(11))
    together = [index for index in range(11) if played.at("RUNNING", "a", index) < first_end]

    assert len(together) == 10


@rule("definitions.containers-max")
def test_a_pod_may_have_more_than_ten_containers() -> None:
    """Job definitions: containers of a Pod."""
    template = pod_template()
    template["spec"]["containers"] += [
        {"name": f"more-{number}", "image": "busybox"} for number in range(11)
    ]
    (made,) = pods_of(world_of({"podTemplate": template}))

    assert len(made["spec"]["containers"]) == 12
