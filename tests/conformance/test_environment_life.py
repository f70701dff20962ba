"""The life of compute environments: ENABLED and DISABLED, INVALID, updates, deletion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from conformance.rules import rule
from support.managed import LARGE, SMALL, elastic, environment, is_gone, node_of, play_elastic
from support.managed import delete as deleted
from support.play import batch_job, later, refusal

if TYPE_CHECKING:
    from support.play import Played

MANIFEST = Path(__file__).resolve().parent.parent.parent / "charts" / "batch-operator.yaml"
TO_LARGE: dict[str, Any] = {"instanceTypes": [LARGE]}
DETACHED = later(
    "50s",
    "JobQueue",
    "main",
    computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "local"}],
)


def change(at: str = "60s", **spec: Any) -> dict[str, Any]:
    return later(at, "ComputeEnvironment", "elastic", **spec)


def comes(at: str = "70s", name: str = "late") -> dict[str, Any]:
    return {"at": at, "apply": batch_job(name)}


def updated(runtime: str = "10m", *, until: str | None = None, **policy: Any) -> Played:
    """`a` runs on a node of before when the instance types are changed."""
    return play_elastic(
        {"a": {"retryStrategy": {"attempts": 2}}},
        elastic(updatePolicy=policy),
        events=[change(**TO_LARGE), comes()],
        runtime=runtime,
        until=until,
    )


@rule("life.status")
def test_the_words_for_how_an_environment_fares() -> None:
    """The life of compute environments: status."""
    gone = [DETACHED, deleted("60s", "ComputeEnvironment", "elastic")]
    found = [
        environment(play_elastic({"a": {}}, until="2m"))["status"],
        environment(play_elastic({"a": {}}, elastic(nodeOverhead={"cpu": 4}), until="2m"))[
            "status"
        ],
        environment(updated(until="2m"))["status"],
        environment(play_elastic({"a": {}}, events=gone, until="2m"))["status"],
    ]

    assert found == ["VALID", "INVALID", "UPDATING", "DELETING"]


@rule("life.healthy")
def test_the_reason_of_a_valid_environment() -> None:
    """The life of compute environments: statusReason."""
    status = environment(play_elastic({}, until="2m"))

    assert status["statusReason"] == "ComputeEnvironment Healthy"


@rule("life.disabled-places-nothing")
def test_nothing_new_is_placed_in_a_disabled_environment() -> None:
    """The life of compute environments: DISABLED, new jobs."""
    events = [change(state="DISABLED"), comes()]
    played = play_elastic({"a": {}}, elastic(maxvCpus=8), events=events, until="5m")

    assert played.state("late") == "RUNNABLE"
    assert environment(played)["nodes"]["desired"] == 1


@rule("life.disabled-running")
def test_what_runs_in_a_disabled_environment_goes_on() -> None:
    """The life of compute environments: DISABLED, running jobs."""
    played = play_elastic({"a": {}}, events=[change(state="DISABLED")])

    assert (played.state("a"), played.attempts("a")) == ("SUCCEEDED", 1)


@rule("life.disabled-min")
def test_a_disabled_environment_keeps_its_minimum() -> None:
    """The life of compute environments: DISABLED, minvCpus."""
    disabled = elastic(minvCpus=8, state="DISABLED")
    played = play_elastic({}, disabled, until="30m")

    assert environment(played)["nodes"]["ready"] == 2


@rule("life.created-enabled")
def test_an_environment_may_be_disabled_from_the_start() -> None:
    """The life of compute environments: state at creation."""
    assert refusal("ComputeEnvironment", elastic(state="DISABLED")["spec"]) is None


@rule("life.invalid-takes-nothing")
def test_an_invalid_environment_gets_no_jobs() -> None:
    """The life of compute environments: INVALID, placements."""
    played = play_elastic({}, elastic(nodeOverhead={"cpu": 4}), events=[comes()], until="5m")

    assert environment(played)["status"] == "INVALID"
    assert played.waits_for("late") == "NoComputeEnvironment"


@rule("life.invalid-update")
def test_an_update_mends_an_invalid_environment() -> None:
    """The life of compute environments: INVALID, mended."""
    events = [comes(), change("5m", nodeOverhead={"cpu": 1})]
    played = play_elastic({}, elastic(nodeOverhead={"cpu": 4}), events=events)

    assert environment(played)["status"] == "VALID"
    assert played.state("late") == "SUCCEEDED"


@rule("life.no-instance-joined")
def test_an_environment_that_never_gets_a_node_is_invalid() -> None:
    """The life of compute environments: no instance joined."""
    played = play_elastic({"a": {}}, pools=[{"startUp": "10h"}], until="12m")

    assert environment(played)["status"] == "INVALID"
    assert environment(played)["statusReason"].startswith("none of the nodes that were asked for")
    assert environment(played)["nodes"]["ready"] == 0


@rule("life.invalid-for-ever")
def test_an_environment_without_nodes_is_tried_again() -> None:
    """The life of compute environments: INVALID until updated."""
    given_up = later("11m", "BatchJob", "a", terminate={"reason": "enough"})
    events = [given_up, comes("20m", "early"), comes("27m")]
    played = play_elastic({"a": {}}, pools=[{"startUp": "10h"}], events=events, until="30m")

    assert environment(played)["status"] == "VALID"
    assert played.waits_for("late") != "NoComputeEnvironment"


@rule("life.scaling-update")
def test_a_scaling_update_keeps_all_nodes() -> None:
    """The life of compute environments: scaling update."""
    scaled: dict[str, Any] = {
        "minvCpus": 4,
        "maxvCpus": 128,
        "scalingPolicy": {"minScaleDownDelayMinutes": 20},
    }
    played = play_elastic({"a": {}}, events=[change(**scaled)], until="5m")

    assert environment(played)["status"] == "VALID"
    assert environment(played)["nodes"]["draining"] == 0


@rule("life.infrastructure-update")
def test_an_infrastructure_update_replaces_nodes_as_jobs_ask_for_them() -> None:
    """The life of compute environments: infrastructure update."""
    during, after = updated(until="3m"), updated()

    assert environment(during)["status"] == "UPDATING"
    assert (during.state("a"), during.state("late")) == ("RUNNING", "RUNNING")
    assert "-large-" in node_of(during, "late")
    assert environment(after)["status"] == "VALID"


@rule("life.update-timeout")
def test_jobs_may_run_on_for_the_timeout_of_the_update() -> None:
    """The life of compute environments: jobExecutionTimeoutMinutes."""
    long, longer = updated("29m"), updated("40m")
    short = updated("9m", jobExecutionTimeoutMinutes=5)

    assert [one.attempts("a") for one in (long, longer, short)] == [1, 2, 2]


@rule("life.update-terminate")
def test_jobs_are_ended_at_once_if_the_policy_says_so() -> None:
    """The life of compute environments: terminateJobsOnUpdate."""
    played = updated(terminateJobsOnUpdate=True)

    assert played.attempts("a") == 2
    assert played.at("SUCCEEDED", "a") < 60 + 600 + 120


@rule("life.update-retried")
def test_what_an_update_ends_reads_like_a_lost_host() -> None:
    """The life of compute environments: retries after an update."""
    played = updated(terminateJobsOnUpdate=True)

    assert played.state("a") == "SUCCEEDED"
    assert played.rows("a")[0]["statusReason"] == (
        f"Host EC2 (instance {node_of(played, 'a')}) terminated."
    )


@rule("life.best-fit")
def test_best_fit_has_no_infrastructure_updates() -> None:
    """The life of compute environments: BEST_FIT."""
    plain, fit = elastic()["spec"], elastic(allocationStrategy="BEST_FIT")["spec"]
    refused = refusal("ComputeEnvironment", fit, plain)
    other_types = refusal("ComputeEnvironment", {**fit, "instanceTypes": [LARGE]}, fit)

    assert "BEST_FIT can be neither set nor left by an update" in (refused or "")
    assert "with BEST_FIT neither the names and sizes of instanceTypes" in (other_types or "")
    assert refusal("ComputeEnvironment", {**fit, "maxvCpus": 8}, fit) is None
    assert fit["instanceTypes"] == [SMALL]


@rule("life.delete-in-use")
def test_an_environment_in_use_cannot_be_deleted() -> None:
    """The life of compute environments: deletion in use. Tried on a real API server end to end."""
    documents = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    policies = [one for one in documents if one and one["kind"] == "ValidatingAdmissionPolicy"]
    [policy] = [one for one in policies if one["metadata"]["name"].endswith("-in-use")]
    [constraint] = policy["spec"]["matchConstraints"]["resourceRules"]

    assert constraint["operations"] == ["DELETE"]
    assert constraint["resources"] == ["computeenvironments"]
    assert environment(play_elastic({}, until="2m"))["queues"] == ["main"]


@rule("life.delete-disabled")
def test_an_environment_that_no_queue_names_can_be_deleted_as_it_is() -> None:
    """The life of compute environments: DISABLED before deletion."""
    events = [DETACHED, deleted("60s", "ComputeEnvironment", "elastic")]
    played = play_elastic({"a": {}}, events=events)

    assert (played.state("a"), played.attempts("a")) == ("SUCCEEDED", 1)
    assert is_gone(played)
