"""The order of compute environments."""

from __future__ import annotations

from typing import Any

from conformance.rules import rule
from support.builders import pod_template
from support.play import Played, play, written

TOO_LARGE = (
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is "
    "higher than that can be met by the CE(s) attached to the job queue."
)


def cloud(name: str, vcpus: int, **fields: Any) -> dict[str, Any]:
    spec = {
        "type": "MANAGED",
        "maxvCpus": 64,
        "instanceTypes": [{"name": f"c{vcpus}", "vcpus": vcpus, "memory": "64Gi"}],
        "provisioner": {"type": "kwok", "kwok": {"startUpSeconds": 60}},
    }
    return written("ComputeEnvironment", name, spec, fields)


def of_8_vcpus(*environments: dict[str, Any], **fields: Any) -> Played:
    """A job of 8 vCPUs, and behind it one of 1, in a queue with these environments."""
    names = [one["metadata"]["name"] for one in environments]
    order = [{"order": n, "computeEnvironment": name} for n, name in enumerate(names)]
    return play(
        {"a": {"jobDefinition": "large"}, "b": {}},
        others=environments,
        queue={"computeEnvironmentOrder": order},
        definitions={"large": {"podTemplate": pod_template(cpu="8")}},
        **fields,
    )


@rule("order.suitable")
def test_the_first_that_can_have_large_enough_instances_takes_it() -> None:
    """The order of compute environments: the choice for a job."""
    off = cloud("off", 16, state="DISABLED")
    played = of_8_vcpus(off, cloud("small", 4), cloud("large", 8), cloud("larger", 16))

    assert played.rows("a")[0]["computeEnvironment"] == "large"
    assert played.rows("b")[0]["computeEnvironment"] == "small"


@rule("order.too-large")
def test_a_job_larger_than_any_instance_says_so_in_aws_s_words() -> None:
    """The order of compute environments: MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT."""
    played = of_8_vcpus(cloud("small", 4), until="1h")

    assert (played.state("a"), played.reason("a")) == ("RUNNABLE", TOO_LARGE)


@rule("order.too-large-blocks")
def test_a_job_larger_than_any_instance_stops_nobody() -> None:
    """The order of compute environments: blocked queues."""
    played = of_8_vcpus(cloud("small", 4), until="1h")

    assert played.state("b") == "SUCCEEDED"


@rule("order.scaling")
def test_a_job_that_waits_for_its_first_node_is_not_called_too_large() -> None:
    """The order of compute environments: scaling from zero."""
    played = of_8_vcpus(cloud("large", 16), until="30s")

    assert played.state("a") == "RUNNABLE"
    assert played.reason("a") != TOO_LARGE


@rule("order.no-capacity")
def test_a_job_goes_on_to_the_next_environment_when_the_first_gets_no_instances() -> None:
    """The order of compute environments: capacity."""
    refuses = {"computeEnvironment": "first", "for": "1h"}
    played = of_8_vcpus(
        cloud("first", 8), cloud("second", 8), events=[{"at": "0s", "refuseCapacity": refuses}]
    )

    assert [one["computeEnvironment"] for one in played.rows("a")] == ["first", "second"]
    assert played.state("a") == "SUCCEEDED"


@rule("order.max-wait")
def test_a_wait_for_instances_can_be_limited() -> None:
    """The order of compute environments: instances that are slow to come."""
    order = [
        {"order": 1, "computeEnvironment": "slow", "maxWaitSeconds": 20},
        {"order": 2, "computeEnvironment": "sure"},
    ]
    played = play(
        {"a": {}},
        others=[cloud("slow", 8), cloud("sure", 8)],
        queue={"computeEnvironmentOrder": order},
    )

    assert [one["computeEnvironment"] for one in played.rows("a")] == ["slow", "sure"]


@rule("order.capacity-code")
def test_refused_capacity_has_aws_s_code_and_names_the_instance_type() -> None:
    """The order of compute environments: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY."""
    refused = {"at": "0s", "refuseCapacity": {"for": "1h"}}
    played = of_8_vcpus(cloud("first", 8), events=[refused], until="20s")

    assert played.reason("a") == (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested "
        "for instance type [c8]"
    )


@rule("order.capacity-slow")
def test_instances_that_start_are_no_lack_of_capacity() -> None:
    """The order of compute environments: instances that are slow to come."""
    played = of_8_vcpus(cloud("first", 8), until="30s")

    assert (played.state("a"), played.reason("a")) == ("RUNNABLE", None)
