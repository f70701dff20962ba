"""What a job says while no node has its Pod: which is to come, or why none is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.builders import pod_template
from support.play import Played, play, written

if TYPE_CHECKING:
    from collections.abc import Sequence

QUEUE = {"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "cloud"}]}
CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
GIVES_UP = {
    "jobStateTimeLimitActions": [
        {"reason": CAPACITY, "state": "RUNNABLE", "maxTimeSeconds": 60, "action": "CANCEL"}
    ]
}
REFUSED = {"at": "0s", "refuseCapacity": {"for": "1h"}}


def waits(
    jobs: dict[str, Any] | None = None,
    *,
    start_up: str = "5m",
    max_vcpus: int = 8,
    capacity_types: Sequence[str] = ("spot",),
    **fields: Any,
) -> Played:
    """Jobs of 1 vCPU in an environment with nodes of 4, of spot unless it is said otherwise."""
    cloud = {
        "type": "MANAGED",
        "maxvCpus": max_vcpus,
        "capacityTypes": list(capacity_types),
        "allocationStrategy": "SPOT_CAPACITY_OPTIMIZED",
        "instanceTypes": [{"name": "c5", "vcpus": 4, "memory": "16Gi"}],
        "provisioner": {"type": "kwok"},
    }
    given = {"queue": QUEUE, "pools": [{"startUp": start_up}], **fields}
    return play(jobs or {"a": {}}, others=[written("ComputeEnvironment", "cloud", cloud)], **given)


def told(played: Played, job: str = "a") -> dict[str, Any]:
    pending: dict[str, Any] = played.final(job)["pending"]
    return pending


def test_it_says_which_node_was_ordered_and_when() -> None:
    played = waits(until="60s")

    assert told(played)["reason"] == "WaitingForNode"
    assert told(played)["message"].startswith("waits for a node of c5 (spot), ordered at 00:00:0")
    assert played.reason("a") is None


def test_once_it_is_known_it_says_how_long_they_take() -> None:
    """The second job's node is ordered when the first job's is there."""
    later = {"at": "3m", "apply": written("BatchJob", "b", {**JOB, "arrayProperties": FOUR})}
    played = waits(start_up="60s", events=[later], behaviors=[{"runtime": "1h"}], until="210s")

    assert "one of 2 nodes of c5" not in told(played, "b")["message"]
    assert "(they take about 60 s)" in told(played, "b")["message"]


JOB = {"jobQueue": "main", "jobDefinition": "work"}
FOUR = {"size": 4}


def test_where_capacity_is_refused_it_says_until_when_and_in_whose_words() -> None:
    played = waits(events=[REFUSED], until="10s")

    assert told(played)["reason"] == "InsufficientCapacity"
    assert told(played)["message"].startswith(
        "ComputeEnvironment cloud gets no more nodes for it now: c5 (spot) until 00:00:3"
    )
    assert "(there is no capacity at the moment)" in told(played)["message"]
    assert played.reason("a") == (
        f"{CAPACITY} - Service cannot fulfill the capacity requested for instance type [c5]"
    )


def test_nodes_that_are_slow_to_come_are_no_lack_of_capacity() -> None:
    """AWS Batch's clients gave good jobs up for that while an environment scaled from zero."""
    slow = waits(queue={**QUEUE, **GIVES_UP})
    refused = waits(queue={**QUEUE, **GIVES_UP}, events=[REFUSED])

    assert slow.state("a") == "SUCCEEDED"
    assert refused.state("a") == "FAILED"
    assert refused.reason("a") == f"Canceled by JobStateTimeLimit action due to reason: {CAPACITY}"


def test_time_that_passes_rewrites_no_status() -> None:
    soon, late = (
        waits({f"job-{number}": {} for number in range(8)}, start_up="9m", until=until)
        for until in ("60s", "8m")
    )

    assert writes(soon) == writes(late)


def writes(played: Played) -> dict[str, int]:
    """The operator's writes of BatchJobs, by verb."""
    by_kind: dict[str, dict[str, int]] = played.outcome.summary["writes"]
    return by_kind["BatchJob"]


def test_a_job_that_may_have_spot_nodes_only_is_told_of_these() -> None:
    """A budget says so, and the on-demand nodes that could be had are not for it."""
    budget = {"name": "day", "amount": 0, "window": "DAY", "action": "SPOT_ONLY"}
    played = waits(
        capacity_types=("spot", "on-demand"),
        queue={**QUEUE, "budgets": [budget]},
        events=[{"at": "0s", "refuseCapacity": {"capacityType": "spot", "for": "1h"}}],
        until="10s",
    )

    assert told(played)["reason"] == "InsufficientCapacity"
    assert told(played)["message"].startswith(
        "ComputeEnvironment cloud gets no more nodes for it now: c5 (spot) until 00:00:3"
    )


def test_a_pod_that_can_run_nowhere_keeps_no_node_and_says_what_the_scheduler_says() -> None:
    """Its zone is known to the scheduler alone. Two nodes are tried; other jobs go on meanwhile."""
    template = pod_template()
    template["spec"]["nodeSelector"] = {"topology.kubernetes.io/zone": "nowhere"}
    played = waits(
        {"a": {"jobDefinition": "nowhere"}, "b": {}},
        start_up="60s",
        definitions={"nowhere": {"podTemplate": template}},
        until="30m",
    )
    nodes = played.environment("cloud")["nodes"]

    assert played.state("b") == "SUCCEEDED"
    assert told(played)["reason"] == "Unschedulable"
    assert "kube-scheduler did not put it there: 0/" in told(played)["message"]
    assert "node(s) didn't match Pod's node affinity/selector" in told(played)["message"]
    assert (nodes["desired"], nodes["ready"]) == (0, 0)
    assert played.outcome.summary["writes"]["Node"]["create"] == 2


WHOLE = {"podTemplate": pod_template(cpu="4")}
KEEPS = {"startUp": "60s", "systemReserved": {"cpu": "80m", "memory": "1Gi"}}
TOO_LARGE = (
    "a Pod of it asks for 4 vCPUs, and the largest instance type, c5 of ComputeEnvironment cloud, "
    "leaves 3.92 vCPUs, 15Gi of memory for jobs beside DaemonSets and what its nodes keep: request "
    "less, or add a larger one to its spec.instanceTypes"
)


def test_a_job_that_fits_a_type_but_none_of_its_nodes_says_so_and_holds_no_room() -> None:
    """The first node shows it. The job is in nobody's way, and one that is smaller starts."""
    later = {"at": "5m", "apply": written("BatchJob", "b", {**JOB, "jobDefinition": "small"})}
    small = {"podTemplate": pod_template()}
    played = waits(
        definition=WHOLE,
        definitions={"small": small},
        max_vcpus=4,
        pools=[KEEPS],
        events=[later],
        until="30m",
    )

    assert played.state("b") == "SUCCEEDED"
    assert (played.state("a"), told(played)["reason"]) == ("RUNNABLE", "JobResourceRequirement")
    assert told(played)["message"] == TOO_LARGE
    assert str(played.reason("a")).startswith("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT")
    assert played.attempts("a") == 1


def test_what_was_learned_of_nodes_outlives_them_and_the_operator() -> None:
    """No Pod is made for a second job that no node has room for, and no node is ordered."""
    events = [
        {"at": "20m", "restartOperator": {"downFor": "30s"}},
        {"at": "25m", "apply": written("BatchJob", "b", JOB)},
    ]
    played = waits(definition=WHOLE, max_vcpus=4, pools=[KEEPS], events=events, until="40m")

    assert told(played, "b")["message"] == TOO_LARGE
    assert played.attempts("b") == 0
    assert played.environment("cloud")["nodes"]["desired"] == 0


def test_a_time_limit_for_what_no_node_takes_ends_such_a_job() -> None:
    """Though nodes could be had: none of them is any good to it."""
    template = pod_template()
    template["spec"]["nodeSelector"] = {"topology.kubernetes.io/zone": "nowhere"}
    limit = {"reason": "Unschedulable", "state": "RUNNABLE", "maxTimeSeconds": 600}
    played = waits(
        {"a": {"jobDefinition": "nowhere"}},
        start_up="60s",
        definitions={"nowhere": {"podTemplate": template}},
        queue={**QUEUE, "jobStateTimeLimitActions": [{**limit, "action": "TERMINATE"}]},
        until="1h",
    )

    assert played.state("a") == "FAILED"
    assert 600 <= played.at("FAILED", "a") < 1200
