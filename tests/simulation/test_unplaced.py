"""A job that no node takes gives way to those that can run, and to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.builders import pod_template
from support.play import Played, play, written

if TYPE_CHECKING:
    from collections.abc import Mapping

MINUTE = 60.0
ELSEWHERE = {"node.kubernetes.io/instance-type": "fast"}


def selecting(cpu: str = "1") -> dict[str, Any]:
    """A Pod for a type of node that `local` does not have."""
    return {"spec": {**pod_template(cpu)["spec"], "nodeSelector": ELSEWHERE}}


TYPO = {"podTemplate": selecting()}
WIDE = {
    "type": "multinode",
    "nodeProperties": {
        "numNodes": 2,
        "mainNode": 0,
        "nodeRangeProperties": [{"targetNodes": "0:", "podTemplate": selecting()}],
    },
}
HUGE = {"containerOverrides": [{"resources": {"requests": {"cpu": "6"}}}]}
SMALL_NODES = [
    {"computeEnvironment": "local", "instanceType": "s", "count": 4, "vcpus": 4, "memory": "8Gi"}
]
WORKS = {"job": "*", "runtime": "60s"}


def played(jobs: Mapping[str, Any], *, max_vcpus: int = 1, **fields: Any) -> Played:
    fields = {"behaviors": [WORKS], "until": "2h", **fields}
    return play(jobs, definitions={"typo": TYPO}, max_vcpus=max_vcpus, **fields)


def comes(at: str, name: str, **spec: Any) -> dict[str, Any]:
    job = written("BatchJob", name, {"jobQueue": "main", "jobDefinition": "work", **spec})
    return {"at": at, "apply": job}


def test_after_a_quarter_of_an_hour_it_gives_way_to_the_job_behind_it() -> None:
    found = played({"wrong": {"jobDefinition": "typo"}, "right": {}})
    rows = found.rows("wrong")

    assert found.state("right") == "SUCCEEDED"
    assert 15 * MINUTE < found.at("RUNNING", "right") < 16 * MINUTE
    assert rows[0]["statusReason"] == "Preempted: no node took it, and it made room for job right"


def test_it_says_what_the_scheduler_said_and_when_it_is_tried_again() -> None:
    found = played({"wrong": {"jobDefinition": "typo"}, "right": {}}, until="20m")

    assert found.state("wrong") == "RUNNABLE"
    assert found.waits_for("wrong") == "Unschedulable"
    assert (found.reason("wrong") or "").startswith("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - ")
    assert found.final("wrong")["pending"]["message"] == (
        "no node of ComputeEnvironment local took its Pod (0/1 nodes are available: 1 node(s) "
        "didn't match Pod's node affinity/selector), and others can use its vCPUs: it is tried "
        "again at 00:45Z; see its template's nodeSelector, tolerations, affinity, volumes and "
        "requests"
    )


def test_another_of_its_kind_is_runnable_too_and_says_the_same() -> None:
    """It was SUBMITTED, though nothing but that was in its way; time limits passed it over."""
    found = played(
        {"wrong": {"jobDefinition": "typo"}, "right": {}},
        events=[comes("20m", "another", jobDefinition="typo")],
        behaviors=[{"runtime": "10m"}],
        until="22m",
    )

    assert found.path("another") == ["SUBMITTED", "RUNNABLE"]
    assert found.waits_for("another") == "Unschedulable"
    assert (found.reason("another") or "").startswith("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT")


def test_what_nobody_else_can_use_it_keeps() -> None:
    found = played({"wrong": {"jobDefinition": "typo"}}, until="1h")

    assert found.attempts("wrong") == 1
    assert found.waits_for("wrong") == "Unschedulable"


def test_who_only_waits_for_others_to_end_keeps_its_vcpus() -> None:
    """Small jobs that go on for ever leave no node empty enough; but one of them will."""
    found = played(
        {"small": {"arrayProperties": {"size": 12}}, "large": {}, "behind": {}},
        max_vcpus=12,
        nodes=[{**SMALL_NODES[0], "count": 1, "vcpus": 4}],
        behaviors=[{"job": "small", "runtime": "30m"}, WORKS],
        until="3h",
    )

    assert {found.state(name) for name in ("small", "large", "behind")} == {"SUCCEEDED"}
    assert found.attempts("large") == 1


def test_a_request_larger_than_every_node_gives_way_though_maxvcpus_has_room_for_it() -> None:
    found = played(
        {"huge": HUGE, "right": {"arrayProperties": {"size": 4}}}, max_vcpus=8, nodes=SMALL_NODES,
        events=[comes("1m", "more", arrayProperties={"size": 4})],
    )  # fmt: skip

    assert found.state("right") == found.state("more") == "SUCCEEDED"
    assert found.waits_for("huge") == "Unschedulable"


def test_an_array_that_fills_its_environment_lets_those_behind_it_pass() -> None:
    found = played(
        {"wrong": {"jobDefinition": "typo", "arrayProperties": {"size": 50}}, "right": {}},
        max_vcpus=4,
    )

    assert found.state("right") == "SUCCEEDED"
    assert found.counts("wrong") == {"RUNNABLE": 50}


def test_longer_each_time() -> None:
    found = played(
        {"wrong": {"jobDefinition": "typo"}, "right": {"arrayProperties": {"size": 600}}},
        until="9h",
    )
    ended = [one["stoppedAt"] for one in found.rows("wrong")]

    assert [one[11:16] for one in ended] == ["00:15", "01:00", "02:15", "04:30", "08:46"]


def test_a_job_goes_on_in_the_next_environment() -> None:
    """Of `local` no node takes it; in `other`, which is busy when it comes, one does."""
    order = [
        {"order": 1, "computeEnvironment": "local"},
        {"order": 2, "computeEnvironment": "other"},
    ]
    found = played(
        {"wrong": {"jobDefinition": "typo"}, "right": {}},
        queue={"computeEnvironmentOrder": order},
        others=[written("ComputeEnvironment", "other", {"type": "UNMANAGED", "maxvCpus": 1})],
        nodes=[
            {**SMALL_NODES[0], "count": 1},
            {**SMALL_NODES[0], "computeEnvironment": "other", "instanceType": "fast"},
        ],
        behaviors=[{"job": "right", "runtime": "40m"}, WORKS],
        events=[comes("1m", "third")],
    )  # fmt: skip

    assert {found.state(name) for name in ("wrong", "right", "third")} == {"SUCCEEDED"}


def test_a_gang_gives_way_as_one() -> None:
    found = play(
        {"gang": {"jobDefinition": "wide"}, "right": {}},
        definitions={"wide": WIDE},
        max_vcpus=2,
        behaviors=[WORKS],
        until="1h",
    )  # fmt: skip

    assert found.state("right") == "SUCCEEDED"
    assert found.waits_for("gang") == "Unschedulable"


@pytest.mark.parametrize("priority", [0, 5])
def test_a_queue_of_any_priority_gets_its_vcpus(priority: int) -> None:
    order = [{"order": 1, "computeEnvironment": "local"}]
    other = written("JobQueue", "other", {"priority": priority, "computeEnvironmentOrder": order})
    found = played(
        {"wrong": {"jobDefinition": "typo"}, "right": {"jobQueue": "other"}}, others=[other]
    )

    assert found.state("right") == "SUCCEEDED"


def test_units_of_a_resource_are_given_back_too() -> None:
    """The only licence is held by a job that no node takes; another environment has room."""
    licence = {"consumableResources": [{"name": "licence", "quantity": 1}]}
    order = [{"order": 1, "computeEnvironment": "other"}]
    found = played(
        {"wrong": {"jobDefinition": "typo", **licence}, "right": {"jobQueue": "there", **licence}},
        others=[
            written("ConsumableResource", "licence", {"totalQuantity": 1}),
            written("ComputeEnvironment", "other", {"type": "UNMANAGED", "maxvCpus": 1}),
            written("JobQueue", "there", {"priority": 1, "computeEnvironmentOrder": order}),
        ],
    )

    assert found.state("right") == "SUCCEEDED"
    assert found.waits_for("wrong") == "Unschedulable"


def test_all_jobs_of_the_kind_are_kept_out_together() -> None:
    """Twenty jobs of one mistaken definition do not have a quarter of an hour each."""
    wrong = {f"wrong-{number}": {"jobDefinition": "typo"} for number in range(20)}
    found = played({**wrong, "right": {}}, max_vcpus=2)

    assert found.state("right") == "SUCCEEDED"
    assert found.at("RUNNING", "right") < 16 * MINUTE
    assert {found.waits_for(name) for name in wrong} == {"Unschedulable"}


def test_others_of_the_definition_that_ask_for_less_are_not_kept_out() -> None:
    found = played(
        {"huge": HUGE, "right": {"arrayProperties": {"size": 9}}}, max_vcpus=6, nodes=SMALL_NODES
    )

    assert found.state("right") == "SUCCEEDED"
    assert found.waits_for("huge") == "Unschedulable"


def test_what_no_node_takes_preempts_once_and_not_for_ever() -> None:
    urgent = {
        "priority": 9,
        "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "local"}],
    }
    other = written("JobQueue", "urgent", {**urgent, "preemption": {"enabled": True}})
    found = played(
        {"old": {"arrayProperties": {"size": 4}}},
        max_vcpus=4,
        others=[other],
        behaviors=[{"job": "old", "runtime": "10h"}, WORKS],
        events=[comes("5m", "wrong", jobQueue="urgent", jobDefinition="typo")],
        until="24h",
    )

    assert found.state("old") == "SUCCEEDED"
    assert found.attempts("old") == 5
