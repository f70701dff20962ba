"""Jobs of a queue with preemption take capacity back; their victims lose no try."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import multi_node_spec, pod_template
from support.play import play, written

ORDER = [{"order": 1, "computeEnvironment": "local"}]
LONG = {"job": "*", "runtime": "10m"}


def urgent_queue(**preemption: Any) -> dict[str, Any]:
    spec = {"priority": 9, "computeEnvironmentOrder": ORDER}
    return written("JobQueue", "urgent", {**spec, "preemption": {"enabled": True, **preemption}})


def comes(at: str, name: str = "urgent", **spec: Any) -> dict[str, Any]:
    job = written("BatchJob", name, {"jobQueue": "urgent", "jobDefinition": "work", **spec})
    return {"at": at, "apply": job}


def test_an_urgent_job_takes_the_place_of_the_one_that_loses_least() -> None:
    played = play(
        {"old": {}, "young": {}},
        others=[urgent_queue()],
        max_vcpus=2,
        behaviors=[LONG],
        events=[comes("5m")],
    )

    assert played.state("urgent") == "SUCCEEDED"
    assert played.at("RUNNING", "urgent") < 6 * 60
    assert {played.state("old"), played.state("young")} == {"SUCCEEDED"}
    assert sorted([played.attempts("old"), played.attempts("young")]) == [1, 2]


def test_a_victim_loses_no_try_and_says_who_needed_its_place() -> None:
    """`attempts` is 1, and the job succeeds in its second attempt all the same."""
    played = play(
        {"victim": {"retryStrategy": {"attempts": 1}}},
        others=[urgent_queue()],
        max_vcpus=1,
        behaviors=[LONG],
        events=[comes("60s")],
    )
    first, second = played.rows("victim")

    assert (played.state("victim"), played.state("urgent")) == ("SUCCEEDED", "SUCCEEDED")
    assert first["statusReason"] == "Preempted: made room for job urgent"
    assert second["statusReason"] == "Essential container in task exited"
    assert played.path("victim") == [
        "SUBMITTED",
        "RUNNABLE",
        "STARTING",
        "RUNNING",
        "RUNNABLE",
        "STARTING",
        "RUNNING",
        "SUCCEEDED",
    ]


def test_a_victim_stands_in_front_of_those_that_have_not_run() -> None:
    played = play(
        {"victim": {}, "next": {}},
        others=[urgent_queue()],
        max_vcpus=1,
        behaviors=[LONG],
        events=[comes("60s")],
    )

    assert [job for job, _ in played.order()] == ["victim", "urgent", "victim", "next"]


def test_children_of_an_array_make_room_one_by_one() -> None:
    played = play(
        {"array": {"arrayProperties": {"size": 8}}},
        definitions={"large": {"podTemplate": pod_template("3")}},
        others=[urgent_queue()],
        max_vcpus=8,
        behaviors=[LONG],
        events=[comes("60s", jobDefinition="large")],
    )

    assert played.state("array") == "SUCCEEDED"
    assert played.attempts("array") == 8 + 3
    assert played.at("RUNNING", "urgent") < 120


def test_an_urgent_array_gets_all_its_room_at_once() -> None:
    played = play(
        {"array": {"arrayProperties": {"size": 20}}},
        others=[urgent_queue()],
        max_vcpus=20,
        behaviors=[{"job": "array", "runtime": "5h"}, LONG],
        events=[comes("60s", arrayProperties={"size": 20})],
        until="30m",
    )
    began = [played.at("RUNNING", "urgent", index) for index in range(20)]

    assert max(began) - min(began) < 5


def test_those_behind_do_not_pass_into_the_room_that_is_made() -> None:
    """Two of twelve make room for a job that has two vCPUs already; small ones would fit there."""
    small = {"arrayProperties": {"size": 50}, "timeout": {"attemptDurationSeconds": 60}}
    preempts = urgent_queue(minRunSeconds=0)
    preempts["spec"]["backfill"] = True
    played = play(
        {"array": {"arrayProperties": {"size": 12}, "timeout": {"attemptDurationSeconds": 36000}}},
        definitions={"large": {"podTemplate": pod_template("4")}},
        others=[preempts],
        max_vcpus=14,
        behaviors=[{"job": "array", "runtime": "5h"}, {"job": "small", "runtime": "55s"}, LONG],
        events=[comes("60s", jobDefinition="large"), comes("60s", "small", **small)],
        until="30m",
    )

    assert played.order()[12] == ("urgent", None)


def test_single_jobs_do_not_wait_one_after_the_other_for_their_room() -> None:
    played = play(
        {"array": {"arrayProperties": {"size": 8}}},
        others=[urgent_queue()],
        max_vcpus=8,
        behaviors=[{"job": "array", "runtime": "5h"}, LONG],
        events=[comes("60s", f"urgent-{number}") for number in range(8)],
        until="30m",
    )
    began = [played.at("RUNNING", f"urgent-{number}") for number in range(8)]

    assert max(began) - min(began) < 5


def test_a_gang_makes_room_as_a_whole() -> None:
    played = play(
        {"gang": {"jobDefinition": "nodes"}},
        definitions={"nodes": multi_node_spec("0:", numNodes=3).to_wire()},
        others=[urgent_queue()],
        max_vcpus=3,
        behaviors=[LONG],
        events=[comes("60s")],
    )

    assert (played.state("urgent"), played.state("gang")) == ("SUCCEEDED", "SUCCEEDED")
    assert [one["statusReason"] for one in played.rows("gang")] == [
        "Preempted: made room for job urgent",
        "Essential container in task exited",
    ]


def test_those_that_have_run_for_too_short_a_time_are_spared_until_then() -> None:
    played = play(
        {"young": {}},
        others=[urgent_queue(minRunSeconds=300)],
        max_vcpus=1,
        behaviors=[LONG],
        events=[comes("60s")],
    )

    assert 300 <= played.at("RUNNING", "urgent") < 420


@pytest.mark.parametrize("priority", [9, 10])
def test_nothing_is_taken_from_queues_of_the_same_or_a_higher_priority(priority: int) -> None:
    played = play(
        {"equal": {}},
        queue={"priority": priority},
        others=[urgent_queue()],
        max_vcpus=1,
        behaviors=[LONG],
        events=[comes("60s")],
    )

    assert played.attempts("equal") == 1
    assert played.at("RUNNING", "urgent") >= 600


def test_nothing_is_stopped_where_that_would_not_be_enough() -> None:
    """One vCPU of two is held by the queue itself, so a job of two must wait for it anyway."""
    played = play(
        {"small": {}},
        definitions={"large": {"podTemplate": pod_template("2")}},
        others=[urgent_queue()],
        max_vcpus=2,
        behaviors=[{"job": "first", "runtime": "5m"}, LONG],
        events=[comes("1s", "first"), comes("60s", "large", jobDefinition="large")],
    )

    assert 300 <= played.at("RUNNING", "large") < 420
    assert played.attempts("small") == 2


def test_a_share_that_holds_more_than_its_part_gives_it_to_one_that_holds_less() -> None:
    policy = written("SchedulingPolicy", "fair", {"fairsharePolicy": {}})
    played = play(
        {"rich": {"shareIdentifier": "rich", "arrayProperties": {"size": 4}}},
        queue={"schedulingPolicy": "fair", "preemption": {"enabled": True}},
        others=[policy],
        max_vcpus=4,
        behaviors=[LONG],
        events=[
            {
                "at": "60s",
                "apply": written(
                    "BatchJob",
                    "poor",
                    {
                        "jobQueue": "main",
                        "jobDefinition": "work",
                        "shareIdentifier": "poor",
                        "arrayProperties": {"size": 4},
                    },
                ),
            }
        ],
    )
    early = [at for at in (played.at("RUNNING", "poor", index) for index in range(4)) if at < 300]

    assert len(early) == 2
    assert (played.state("rich"), played.state("poor")) == ("SUCCEEDED", "SUCCEEDED")
    assert played.attempts("rich") == 6
    assert played.attempts("poor") == 4
