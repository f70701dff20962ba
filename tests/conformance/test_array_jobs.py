"""Array jobs: many children, one parent."""

from __future__ import annotations

from typing import Any

from batch_operator.api import meta
from batch_operator.api.job import JobState
from batch_operator.lifecycle.attempt import Phase
from conformance.rules import rule
from support.builders import pod_template
from support.play import play, pods_of, refusal_of_job, variables_of, world_of


def array(size: int = 3, **more: Any) -> dict[str, Any]:
    return {"arrayProperties": {"size": size}, **more}


@rule("arrays.size")
def test_an_array_has_one_to_ten_thousand_children() -> None:
    """Array jobs: ArrayProperties.size."""
    alone = world_of(**array(1))
    assert "AWS_BATCH_JOB_ARRAY_INDEX" in variables_of(pods_of(alone)[0])

    sizes = {0: False, 1: True, 2: True, 10_000: True, 10_001: False}

    assert {size: refusal_of_job(**array(size)) is None for size in sizes} == sizes


@rule("arrays.children-alike")
def test_children_differ_in_their_index_and_in_nothing_else() -> None:
    """Array jobs: what children share."""
    first, second = pods_of(world_of(**array(2)))
    own = {"AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ARRAY_INDEX"}
    here, there = variables_of(first), variables_of(second)

    assert {name for name in here if here[name] != there[name]} == own
    for made in (first, second):
        del made["metadata"]["name"], made["metadata"]["labels"][meta.LABEL_ARRAY_INDEX]
        del made["spec"]["containers"][0]["env"]
    assert first == second


@rule("arrays.places")
def test_each_child_has_its_place_in_the_queue() -> None:
    """Array jobs: scheduling of children."""
    played = play({"a": {}, "b": array(), "c": {}}, max_vcpus=2)

    assert played.order() == [("a", None), ("b", 0), ("b", 1), ("b", 2), ("c", None)]


@rule("arrays.children-pending")
def test_children_begin_as_submitted() -> None:
    """Array jobs: a child's first state."""
    played = play({"a": array()})

    assert played.path("a", 0)[:2] == ["SUBMITTED", "RUNNABLE"]


@rule("arrays.parent-states")
def test_a_parent_is_pending_while_its_children_wait_and_run() -> None:
    """Array jobs: the parent's states."""
    good = play({"a": array()}, max_vcpus=1)
    bad = play({"a": array()}, behaviors=[{"index": 0, "exitCode": 1}])

    assert good.path("a") == ["SUBMITTED", "PENDING", "SUCCEEDED"]
    assert bad.path("a") == ["SUBMITTED", "PENDING", "FAILED"]
    assert good.at("PENDING", "a") < good.at("SUCCEEDED", "a", 0)


def test_a_parent_says_that_it_is_pending_from_its_first_runnable_child_on() -> None:
    """Array jobs: the parent's states, as they are stored."""
    world = world_of(arrayProperties={"size": 3}, max_vcpus=1)
    waiting = world.state("a")
    world.move(world.live()[0], Phase.RUNNING)
    world.settle()

    assert (waiting, world.state("a")) == ("PENDING", "PENDING")


@rule("arrays.parent-succeeds")
def test_a_parent_succeeds_when_all_children_have() -> None:
    """Array jobs: SUCCEEDED."""
    played = play({"a": array()}, behaviors=[{"index": 1, "runtime": "5m"}])

    assert played.counts("a") == {"SUCCEEDED": 3}
    assert played.at("SUCCEEDED", "a") >= played.at("SUCCEEDED", "a", 1)


@rule("arrays.parent-fails-last")
def test_a_parent_fails_when_every_child_is_over() -> None:
    """Array jobs: FAILED."""
    played = play(
        {"a": array()}, behaviors=[{"index": 0, "exitCode": 1}, {"index": 2, "runtime": "5m"}]
    )

    assert played.state("a") == "FAILED"
    assert played.at("FAILED", "a") >= played.at("SUCCEEDED", "a", 2) > 300


@rule("arrays.failure-stops-nobody")
def test_a_child_that_fails_stops_no_other() -> None:
    """Array jobs: a child that fails."""
    played = play({"a": array(5)}, max_vcpus=1, behaviors=[{"index": 0, "exitCode": 1}])

    assert played.counts("a") == {"SUCCEEDED": 4, "FAILED": 1}


@rule("arrays.summary")
def test_the_summary_counts_children_by_every_state() -> None:
    """Array jobs: statusSummary."""
    world = world_of(max_vcpus=3, **array(5))
    pods = world.live()
    world.move(pods[0], Phase.SUCCEEDED, node_name="node")
    world.move(pods[1], Phase.RUNNING, node_name="node")
    world.move(pods[2], Phase.STARTING, node_name="node")
    world.settle()
    status = world.jobs["uid-a"].status.array

    assert status is not None
    assert status.status_summary == {
        JobState.SUBMITTED: 0,
        JobState.PENDING: 0,
        JobState.RUNNABLE: 2,
        JobState.STARTING: 1,
        JobState.RUNNING: 1,
        JobState.SUCCEEDED: 1,
        JobState.FAILED: 0,
    }


@rule("arrays.child-records")
def test_an_array_is_one_object_that_names_its_children_in_intervals() -> None:
    """Array jobs: ArrayPropertiesDetail of children."""
    world = world_of(**array(5000))
    for pod in [one for one in world.live() if one.index != 17]:
        world.move(pod, Phase.RUNNING, node_name="node")
    world.settle()
    status = world.jobs["uid-a"].status.array
    labels = pods_of(world)[17]["metadata"]["labels"]

    assert status is not None
    assert status.indexes.running == "0-16,18-99"
    assert labels[meta.LABEL_ARRAY_INDEX] == "17"


@rule("arrays.fixed-shape")
def test_an_array_may_be_limited_and_have_gaps() -> None:
    """Array jobs: what AWS does not have."""
    played = play(
        {
            "narrow": {"arrayProperties": {"size": 3, "maxParallel": 1}},
            "sparse": {"arrayProperties": {"indexes": "3,7-8"}},
            "strict": {"arrayProperties": {"size": 4, "maxFailedIndexes": 0, "maxParallel": 1}},
        },
        behaviors=[{"job": "strict", "exitCode": 1}],
    )
    sparse = [index for name, index in played.order() if name == "sparse"]

    assert played.at("RUNNING", "narrow", 1) >= played.at("SUCCEEDED", "narrow", 0)
    assert sparse == [3, 7, 8]
    assert played.state("strict") == "FAILED"
    assert played.attempts("strict") < 4


@rule("arrays.parameters")
def test_children_may_differ_in_their_parameters() -> None:
    """Array jobs: what AWS does not have."""
    parameters = {"matrix": [{"name": "lr", "values": ["1", "2"]}]}
    world = world_of(arrayProperties={"size": 2, "parameters": parameters})

    assert [variables_of(pod)["lr"] for pod in pods_of(world)] == ["1", "2"]


@rule("arrays.rerun")
def test_what_failed_in_an_array_may_be_run_again() -> None:
    """Array jobs: what AWS does not have."""
    played = play(
        {
            "a": {"arrayProperties": {"size": 4}},
            "again": {"arrayProperties": {"rerunFailedOf": "a"}},
        },
        behaviors=[{"job": "a", "index": index, "exitCode": 1} for index in (1, 3)],
    )

    assert [index for name, index in played.order() if name == "again"] == [1, 3]
    assert (played.state("a"), played.state("again")) == ("FAILED", "SUCCEEDED")


@rule("arrays.multi-node")
def test_a_multi_node_job_that_is_an_array_fails_with_a_sentence() -> None:
    """Array jobs: multi-node parallel jobs cannot be arrays."""
    nodes = {
        "numNodes": 2,
        "nodeRangeProperties": [{"targetNodes": "0:", "podTemplate": pod_template()}],
    }
    played = play(
        {"a": {"jobDefinition": "mpi", "arrayProperties": {"size": 2}}},
        definitions={"mpi": {"type": "multinode", "nodeProperties": nodes}},
    )

    assert played.state("a") == "FAILED"
    assert "leave spec.arrayProperties out" in (played.reason("a") or "")
