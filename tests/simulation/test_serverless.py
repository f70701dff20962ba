"""Capacity that comes with each Pod: what runs at the same time, and what never can."""

from __future__ import annotations

from typing import Any

from support.builders import multi_node_spec, pod_template
from support.play import Played, play, written

LONG = {"job": "*", "runtime": "5m"}


def on_fargate(
    jobs: dict[str, Any], resources: dict[str, str], max_vcpus: int = 4, **more: Any
) -> Played:
    """Jobs in a queue to a serverless environment, with a Pod that asks for so much."""
    section = {"nodeSelector": {"type": "virtual-kubelet"}}
    environment = {
        "type": "MANAGED",
        "maxvCpus": max_vcpus,
        "provisioner": {"type": "serverless", "serverless": section},
    }
    return play(
        jobs,
        others=[written("ComputeEnvironment", "fargate", environment)],
        behaviors=[LONG],
        queue={"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "fargate"}]},
        definition={"podTemplate": pod_template(resources={"requests": resources})},
        **more,
    )


def test_what_runs_at_once_is_bounded_by_whole_sizes() -> None:
    """Four Pods of 1.5 vCPUs hold two each, so two of them fill an environment of 4 vCPUs."""
    array = {"arrayProperties": {"size": 4}}
    played = on_fargate({"a": array}, {"cpu": "1500m", "memory": "1Gi"})
    starts = sorted(played.at("RUNNING", "a", index) for index in range(4))

    assert played.state("a") == "SUCCEEDED"
    assert starts[1] - starts[0] < 10
    assert starts[2] - starts[1] >= 300


def test_memory_may_make_a_size_larger() -> None:
    """A Pod of 1 vCPU with 9 GiB gets 2 vCPUs: two of them fill an environment of 4."""
    array = {"arrayProperties": {"size": 3}}
    played = on_fargate({"a": array}, {"cpu": "1", "memory": "9Gi"})
    starts = sorted(played.at("RUNNING", "a", index) for index in range(3))

    assert starts[2] - starts[1] >= 300


def test_what_is_larger_than_the_largest_size_never_fits_and_says_so() -> None:
    played = on_fargate({"a": {}}, {"cpu": "33", "memory": "1Gi"}, max_vcpus=100, until="2m")

    assert played.waits_for("a") == "JobResourceRequirement"
    assert played.final("a")["pending"]["message"] == (
        "its Pod asks for 33 vCPUs, 1Gi of memory, and the largest size of serverless "
        "environments (fargate) is 32 vCPUs, 244Gi of memory, the overhead included: request "
        "less, or add an environment with nodes to the queue"
    )


def test_what_its_size_puts_above_max_vcpus_never_fits() -> None:
    played = on_fargate({"a": {}}, {"cpu": "3", "memory": "1Gi"}, max_vcpus=3, until="2m")

    assert played.waits_for("a") == "ComputeEnvironmentMaxResource"


def test_a_multi_node_job_cannot_run_where_there_are_no_nodes() -> None:
    """AWS: multi-node parallel jobs are not for Fargate."""
    spec = multi_node_spec("0:").to_wire()
    played = on_fargate(
        {"gang": {"jobDefinition": "gang"}},
        {"cpu": "1"},
        definitions={"gang": spec},
        until="2m",
    )

    assert played.waits_for("gang") == "JobResourceRequirement"
    assert "a multi-node job cannot run" in played.final("gang")["pending"]["message"]


def test_an_operator_that_starts_again_goes_on() -> None:
    array = {"arrayProperties": {"size": 4}}
    restart = {"at": "60s", "restartOperator": {"downFor": "30s"}}
    played = on_fargate({"a": array}, {"cpu": "1500m"}, events=[restart])

    assert played.counts("a") == {"SUCCEEDED": 4}
