"""Where a job goes when its first compute environment has no nodes for it, or not now."""

from __future__ import annotations

from typing import Any

from support.builders import pod_template
from support.play import Played, later, play, written

LONG = {"job": "*", "runtime": "60s"}


def cloud(name: str, *types: str, max_vcpus: int = 64, **fields: Any) -> dict[str, Any]:
    """A MANAGED environment; a type is its vCPUs, with 4 GiB each."""
    spec = {
        "type": "MANAGED",
        "maxvCpus": max_vcpus,
        "instanceTypes": [
            {"name": f"c{one}", "vcpus": int(one), "memory": f"{int(one) * 4}Gi"}
            for one in types or ("4",)
        ],
        "provisioner": {"type": "kwok", "kwok": {"startUpSeconds": 30}},
    }
    return written("ComputeEnvironment", name, spec, fields)


def ordered(*names: str, **waits: int) -> dict[str, Any]:
    """The queue's environments in this order, with maxWaitSeconds where one is given."""
    rows = [
        {"order": number, "computeEnvironment": name}
        | ({"maxWaitSeconds": waits[name]} if name in waits else {})
        for number, name in enumerate(names)
    ]
    return {"computeEnvironmentOrder": rows}


def played_in(jobs: dict[str, Any], *environments: dict[str, Any], **fields: Any) -> Played:
    names = [one["metadata"]["name"] for one in environments]
    given = {"queue": ordered(*names), "behaviors": [LONG], **fields}
    return play(jobs, others=environments, **given)


def environments_of(played: Played, job: str = "a") -> list[str]:
    return [one["computeEnvironment"] for one in played.rows(job)]


def test_after_too_many_losses_a_spot_only_environment_is_passed_over() -> None:
    retry = {"retryStrategy": {"attempts": 5, "onHostLost": {"moveToOnDemandAfter": 1}}}
    lost = {"computeEnvironment": "spot", "notice": "60s"}
    played = played_in(
        {"a": retry},
        cloud("spot", capacityTypes=["spot"]),
        cloud("sure"),
        events=[{"at": "60s", "interruptNodes": lost}],
    )

    assert played.state("a") == "SUCCEEDED"
    assert environments_of(played) == ["spot", "sure"]
    assert "on-demand" in played.rows("a")[1]["nodeName"]


def test_where_there_is_no_on_demand_capacity_a_job_says_so_and_stops_nobody() -> None:
    retry = {"retryStrategy": {"attempts": 5, "onHostLost": {"moveToOnDemandAfter": 1}}}
    played = played_in(
        {"a": retry},
        cloud("spot", capacityTypes=["spot"]),
        events=[
            {"at": "60s", "interruptNodes": {"computeEnvironment": "spot", "notice": "60s"}},
            {"at": "5m", "apply": written("BatchJob", "b", JOB)},
        ],
        until="1h",
    )

    assert (played.state("a"), played.waits_for("a")) == ("RUNNABLE", "JobResourceRequirement")
    assert played.state("b") == "SUCCEEDED"


JOB = {"jobQueue": "main", "jobDefinition": "work"}


def test_a_job_goes_to_the_first_environment_whose_machines_are_large_enough() -> None:
    large = {"podTemplate": pod_template(cpu="8")}
    played = played_in({"a": {}}, cloud("small"), cloud("large", "16"), definition=large)

    assert played.state("a") == "SUCCEEDED"
    assert environments_of(played) == ["large"]


def test_a_job_that_no_machine_is_large_enough_for_waits_beside_the_queue() -> None:
    large = {"podTemplate": pod_template(cpu="8")}
    too_large = {"jobDefinition": "large"}
    played = played_in(
        {"a": too_large, "b": {}}, cloud("small"), definitions={"large": large}, until="1h"
    )
    told = played.final("a")["pending"]

    assert (played.state("a"), told["reason"]) == ("RUNNABLE", "JobResourceRequirement")
    assert str(played.reason("a")).startswith("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - ")
    assert (
        "the largest instance type, c4 of ComputeEnvironment small, has 4 vCPUs" in told["message"]
    )
    assert played.state("b") == "SUCCEEDED"


def test_it_starts_when_the_environment_gets_larger_machines() -> None:
    large = {"podTemplate": pod_template(cpu="8")}
    types = [{"name": "c16", "vcpus": 16, "memory": "64Gi"}]
    played = played_in(
        {"a": {}},
        cloud("small"),
        definition=large,
        events=[later("10m", "ComputeEnvironment", "small", instanceTypes=types)],
    )

    assert played.state("a") == "SUCCEEDED"
    assert played.at("RUNNING", "a") > 10 * 60


def test_nothing_is_called_too_large_while_an_environment_scales_from_zero() -> None:
    """AWS Batch does so: a client that believed it ended good jobs."""
    slow = {"type": "kwok", "kwok": {"startUpSeconds": 500}}
    limit = {
        "reason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        "state": "RUNNABLE",
        "maxTimeSeconds": 60,
        "action": "CANCEL",
    }
    played = played_in(
        {"a": {}},
        cloud("small", provisioner=slow),
        queue={**ordered("small"), "jobStateTimeLimitActions": [limit]},
    )

    assert played.state("a") == "SUCCEEDED"
