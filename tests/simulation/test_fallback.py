"""Where a job goes when its first compute environment has no nodes for it, or not now."""

from __future__ import annotations

from typing import Any

from support.builders import multi_node_spec, pod_template
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


def refused(name: str, lasts: str = "2h", at: str = "0s") -> dict[str, Any]:
    return {"at": at, "refuseCapacity": {"computeEnvironment": name, "for": lasts}}


def test_a_pod_that_waits_for_too_long_moves_on_in_order() -> None:
    slow = cloud("slow", provisioner={"type": "kwok", "kwok": {"startUpSeconds": 590}})
    played = played_in(
        {"a": {"retryStrategy": {"attempts": 1}}},
        slow,
        cloud("next"),
        queue=ordered("slow", "next", slow=120),
    )
    first = played.rows("a")[0]

    assert played.state("a") == "SUCCEEDED"
    assert environments_of(played) == ["slow", "next"]
    assert first["statusReason"] == (
        "Moved to the next compute environment: in slow no node took it for 120 s"
    )
    assert 150 < played.at("RUNNING", "a") < 170


def test_the_last_environment_is_waited_in_and_nobody_goes_in_circles() -> None:
    """All take ten times as long as they are given: each is tried once, in order."""
    slow = {"type": "kwok", "kwok": {"startUpSeconds": 300}}
    names = ("one", "two", "three")
    played = played_in(
        {"a": {}},
        *(cloud(name, provisioner=slow) for name in names),
        queue=ordered(*names, one=30, two=30, three=30),
    )

    assert played.state("a") == "SUCCEEDED"
    assert environments_of(played) == ["one", "two", "three"]


def test_an_environment_without_suitable_machines_is_not_moved_on_to() -> None:
    slow = cloud("slow", "8", provisioner={"type": "kwok", "kwok": {"startUpSeconds": 300}})
    large = {"podTemplate": pod_template(cpu="8")}
    played = played_in(
        {"a": {}}, slow, cloud("small"), definition=large, queue=ordered("slow", "small", slow=30)
    )

    assert environments_of(played) == ["slow"]


def test_refused_pods_go_on_at_once_and_only_as_many_as_have_no_node_to_come() -> None:
    two_nodes = {"computeEnvironment": "first", "nodes": 2, "startUp": "30s"}
    played = played_in(
        {"a": {"arrayProperties": {"size": 12}, "retryStrategy": {"attempts": 1}}},
        cloud("first"),
        cloud("second"),
        pools=[two_nodes, {"computeEnvironment": "second", "startUp": "30s"}],
    )
    first, second = (
        sum(
            one.environment == name and one.after == "RUNNING" for one in played.outcome.transitions
        )
        for name in ("first", "second")
    )

    assert played.counts("a") == {"SUCCEEDED": 12}
    assert (first, second) == (8, 4)
    assert played.at("RUNNING", "a", 11) < 40


def test_with_nowhere_else_to_go_refused_pods_wait_where_they_are() -> None:
    """Each environment is asked once; a full one is no place to go."""
    both = played_in(
        {"a": {}}, cloud("first"), cloud("second"), events=[refused("*", "20m")], until="5m"
    )
    full = played_in(
        {"a": {}, "b": {}},
        cloud("first"),
        cloud("tiny", max_vcpus=1),
        events=[refused("first", "20m")],
        behaviors=[{"runtime": "1h"}],
        until="10m",
    )

    assert both.state("a") == "RUNNABLE"
    assert environments_of(both) == ["first", "second"]
    assert sorted((full.state("a"), full.state("b"))) == ["RUNNABLE", "RUNNING"]


def test_pools_that_refuse_in_turns_do_not_send_a_job_to_and_fro() -> None:
    """Ten minutes here, ten minutes there: two moves at once, then one in five minutes at most."""
    turns = [
        refused("first" if number % 2 == 0 else "second", "10m", at=f"{number * 10}m")
        for number in range(24)
    ]
    unlucky = [{"computeEnvironment": name, "startUp": "11m"} for name in ("first", "second")]
    played = played_in(
        {"a": {}}, cloud("first"), cloud("second"), events=turns, pools=unlucky, until="4h"
    )

    assert 3 <= len(environments_of(played)) <= 11


def test_a_gang_that_is_refused_goes_on_as_a_whole() -> None:
    spec = multi_node_spec("0:1", cpu="4").model_dump(mode="json", by_alias=True, exclude_none=True)
    played = played_in(
        {"a": {"jobDefinition": "gang", "retryStrategy": {"attempts": 1}}},
        cloud("first"),
        cloud("second"),
        definitions={"gang": spec},
        pools=[{"computeEnvironment": "first", "nodes": 1}, {"startUp": "30s"}],
    )

    assert (played.state("a"), environments_of(played)) == ("SUCCEEDED", ["first", "second"])


def test_what_is_too_large_for_the_nodes_that_come_goes_on_and_never_comes_back() -> None:
    """Declared are 4 vCPUs, and a node has 3.92. The first child shows it to all behind it."""
    keeps = {"computeEnvironment": "small", "systemReserved": {"cpu": "80m"}}
    whole = {"podTemplate": pod_template(cpu="4")}
    late = {"at": "10m", "apply": written("BatchJob", "b", JOB)}
    played = played_in(
        {"a": {"retryStrategy": {"attempts": 1}}},
        cloud("small"),
        cloud("large", "8"),
        definition=whole,
        pools=[{**keeps, "startUp": "30s"}],
        events=[late],
    )

    assert (played.state("a"), played.state("b")) == ("SUCCEEDED", "SUCCEEDED")
    assert environments_of(played) == ["small", "large"]
    assert played.rows("a")[0]["statusReason"] == (
        "Moved to the next compute environment: small has no nodes that are large enough for it"
    )
    assert environments_of(played, "b") == ["large"]


def test_a_gang_of_which_a_part_is_too_large_goes_on_as_a_whole() -> None:
    """Its main node would fit. The first node of the environment comes for somebody else."""
    gang = multi_node_spec("0:0", "1:2", numNodes=3)
    spec = gang.model_dump(mode="json", by_alias=True, exclude_none=True)
    spec["nodeProperties"]["nodeRangeProperties"][1]["podTemplate"] = pod_template(cpu="4")
    keeps = {"computeEnvironment": "small", "systemReserved": {"cpu": "80m"}}
    played = played_in(
        {"first": {}, "gang": {"jobDefinition": "gang", "retryStrategy": {"attempts": 1}}},
        cloud("small"),
        cloud("large", "8"),
        definitions={"gang": spec},
        pools=[{**keeps, "startUp": "30s"}],
    )

    assert (played.state("first"), played.state("gang")) == ("SUCCEEDED", "SUCCEEDED")
    assert environments_of(played, "gang") == ["small", "large"]
