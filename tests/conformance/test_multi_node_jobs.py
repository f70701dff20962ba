"""Multi-node parallel jobs: a gang that starts whole, and whose main node decides."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.manifests.gangs import gang_job
from batch_operator.scheduling.mutations import StartAttempt
from conformance.rules import rule
from support.builders import definition, multi_node_spec, pod_template
from support.builders import job as a_job
from support.play import Played, play, refusal


def nodes(**more: Any) -> dict[str, Any]:
    ranges = [{"targetNodes": "0:", "podTemplate": pod_template()}]
    return {
        "type": "multinode",
        "nodeProperties": {"numNodes": 3, "nodeRangeProperties": ranges, **more},
    }


def gang(
    properties: dict[str, Any] | None = None, job: dict[str, Any] | None = None, **how: Any
) -> Played:
    """A job `a` of three nodes, unless something else is said."""
    spec = {**nodes(**(properties or {})), **how.pop("definition", {})}
    return play({"a": {"jobDefinition": "mpi", **(job or {})}}, definitions={"mpi": spec}, **how)


def running(played: Played) -> dict[int, float]:
    """When each node ran first, by its index."""
    found: dict[int, float] = {}
    for one in played.outcome.transitions:
        if one.job == "a" and one.node is not None and one.after == "RUNNING":
            found.setdefault(one.node, one.at_s)
    return found


def ended(played: Played) -> dict[int, str]:
    """The last state of each node."""
    return {
        one.node: one.after.value
        for one in played.outcome.transitions
        if one.job == "a" and one.node is not None
    }


@rule("nodes.type")
def test_a_job_of_a_multi_node_definition_runs_on_all_its_nodes() -> None:
    """Multi-node parallel jobs: NodeProperties."""
    played = gang()

    assert played.state("a") == "SUCCEEDED"
    assert sorted(running(played)) == [0, 1, 2]


@rule("nodes.overrides")
def test_node_overrides_change_the_number_of_nodes() -> None:
    """Multi-node parallel jobs: NodeOverrides."""
    played = gang(job={"nodeOverrides": {"numNodes": 5}})

    assert sorted(running(played)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("max_vcpus", "state"), [(6, "SUCCEEDED"), (5, "RUNNABLE")])
def test_node_overrides_change_what_nodes_ask_for(max_vcpus: int, state: str) -> None:
    """Multi-node parallel jobs: NodePropertyOverride."""
    asks = [{"resources": {"requests": {"cpu": "2"}}}]
    row = {"targetNodes": "0:", "containerOverrides": asks}
    played = gang(job={"nodeOverrides": {"nodePropertyOverrides": [row]}}, max_vcpus=max_vcpus)

    assert played.state("a") == state


@rule("nodes.bounds")
def test_the_bounds_of_a_multi_node_definition_are_checked() -> None:
    """Multi-node parallel jobs: numNodes, mainNode and nodeRangeProperties."""
    one_range = nodes()["nodeProperties"]["nodeRangeProperties"]

    assert refusal("JobDefinition", nodes()) is None
    assert refusal("JobDefinition", nodes(numNodes=1001)) is not None
    assert refusal("JobDefinition", nodes(nodeRangeProperties=one_range * 6)) is not None
    assert refusal("JobDefinition", nodes(nodeRangeProperties=[])) is not None
    assert refusal("JobDefinition", nodes(mainNode=1000)) is not None
    assert refusal("JobDefinition", nodes(mainNode=2)) is None
    assert "mainNode must be below" in (refusal("JobDefinition", nodes(mainNode=3)) or "")


@rule("nodes.ranges")
@pytest.mark.parametrize(
    ("ranges", "vcpus"),
    [
        ({"0:": "1"}, 3),
        ({":2": "1"}, 3),
        ({"0:2": "1"}, 3),
        ({"0": "1", "1:2": "2"}, 5),
        ({"0:2": "1", "1": "3"}, 5),  # the narrower wins
    ],
)
def test_ranges_may_be_open_and_nested(ranges: dict[str, str], vcpus: int) -> None:
    """Multi-node parallel jobs: targetNodes. A room of just the right size shows who asks what."""
    rows = [{"targetNodes": key, "podTemplate": pod_template(cpu)} for key, cpu in ranges.items()]
    fits = gang({"nodeRangeProperties": rows}, max_vcpus=vcpus)
    misfits = gang({"nodeRangeProperties": rows}, max_vcpus=vcpus - 1)

    assert fits.state("a") == "SUCCEEDED"
    assert misfits.waits_for("a") == "ComputeEnvironmentMaxResource"


@pytest.mark.parametrize("ranges", [["0:1"], ["1:"], ["0:3"], ["0", "2:"]])
def test_ranges_cover_all_nodes_and_no_others(ranges: list[str]) -> None:
    """Multi-node parallel jobs: targetNodes."""
    rows = [{"targetNodes": one, "podTemplate": pod_template()} for one in ranges]
    played = gang({"nodeRangeProperties": rows})

    assert played.state("a") == "FAILED"
    assert played.attempts("a") == 0


@pytest.mark.parametrize(("count", "state"), [(4, "SUCCEEDED"), (3, "SUCCEEDED"), (2, "FAILED")])
def test_an_open_range_keeps_one_node_at_least(count: int, state: str) -> None:
    """Multi-node parallel jobs: numNodes must be above the lowest index of the open range."""
    rows = [{"targetNodes": one, "podTemplate": pod_template()} for one in ("0:1", "2:")]
    played = gang({"nodeRangeProperties": rows}, {"nodeOverrides": {"numNodes": count}})

    assert played.state("a") == state


@rule("nodes.open-range")
def test_the_number_of_nodes_can_be_overridden_only_where_a_range_is_open() -> None:
    """Multi-node parallel jobs: NodeOverrides.numNodes."""
    closed = [{"targetNodes": "0:2", "podTemplate": pod_template()}]
    played = gang({"nodeRangeProperties": closed}, {"nodeOverrides": {"numNodes": 5}})

    assert played.state("a") == "FAILED"
    assert "numNodes" in (played.reason("a") or "")


@rule("nodes.gang")
def test_nothing_starts_before_there_is_room_for_all() -> None:
    """Multi-node parallel jobs: the whole capacity is waited for in RUNNABLE."""
    played = play(
        {"first": {}, "a": {"jobDefinition": "mpi"}},
        definitions={"mpi": nodes()},
        max_vcpus=3,
    )

    assert played.at("STARTING", "a") > played.at("SUCCEEDED", "first")


@rule("nodes.main-first")
def test_the_main_node_runs_before_the_others_start() -> None:
    """Multi-node parallel jobs: children start once the main node is RUNNING."""
    found = running(gang({"mainNode": 1}))

    assert found[1] < min(found[0], found[2])


@rule("nodes.outcome")
def test_the_main_nodes_exit_is_the_jobs_and_ends_the_others() -> None:
    """Multi-node parallel jobs: outcome."""
    played = gang(behaviors=[{"node": 0, "runtime": "20s"}, {"runtime": "1h"}])

    assert played.state("a") == "SUCCEEDED"
    assert played.at("SUCCEEDED", "a") < 60
    assert ended(played)[0] == "SUCCEEDED"
    assert {ended(played)[1], ended(played)[2]} == {"FAILED"}


@rule("nodes.child-failure")
def test_another_node_that_fails_changes_nothing() -> None:
    """Multi-node parallel jobs: outcome."""
    played = gang(
        job={"retryStrategy": {"attempts": 3}},
        behaviors=[{"node": 1, "exitCode": 1, "runtime": "1s"}, {"runtime": "20s"}],
    )

    assert played.state("a") == "SUCCEEDED"
    assert (ended(played)[0], ended(played)[1]) == ("SUCCEEDED", "FAILED")
    assert played.attempts("a") == 1


@rule("nodes.retry")
def test_a_failure_of_the_main_node_runs_all_nodes_again() -> None:
    """Multi-node parallel jobs: retries."""
    played = gang(
        job={"retryStrategy": {"attempts": 2}},
        behaviors=[{"node": 0, "attempt": 1, "exitCode": 1}],
    )
    second = {
        one.node
        for one in played.outcome.transitions
        if one.node is not None and one.attempt == 2 and one.after == "RUNNING"
    }

    assert played.state("a") == "SUCCEEDED"
    assert played.attempts("a") == 2
    assert second == {0, 1, 2}


@rule("nodes.environments")
def test_a_gang_goes_as_a_whole_to_the_first_environment_that_can_take_it() -> None:
    """Multi-node parallel jobs: environments. Here also a later one, and UNMANAGED ones."""
    order = [
        {"order": 1, "computeEnvironment": "local"},
        {"order": 2, "computeEnvironment": "large"},
    ]
    large = {
        "apiVersion": "batch-operator.io/v1alpha1",
        "kind": "ComputeEnvironment",
        "metadata": {"name": "large"},
        "spec": {"type": "UNMANAGED", "maxvCpus": 3},
    }
    played = gang(max_vcpus=2, others=[large], queue={"computeEnvironmentOrder": order})
    where = {
        one.environment
        for one in played.outcome.transitions
        if one.node is not None and one.environment
    }

    assert played.state("a") == "SUCCEEDED"
    assert where == {"large"}


def variables(group: int) -> dict[str, str]:
    """What the nodes of a group are told: literally, or by the annotation that it comes from."""
    plan = make_plan(a_job("a"), definition(spec=multi_node_spec(numNodes=3)), None)

    assert isinstance(plan, Plan)
    made = gang_job(StartAttempt(a_job("a"), plan, 0, 1, None, "local", {}), group)
    env = made["spec"]["template"]["spec"]["containers"][0]["env"]
    return {
        one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"] for one in env
    }


@rule("nodes.details")
def test_a_nodes_id_is_the_jobs_with_its_index() -> None:
    """Multi-node parallel jobs: nodes are `<job id>#<index>`."""
    assert variables(1)["AWS_BATCH_JOB_ID"] == "uid-a#$(AWS_BATCH_JOB_NODE_INDEX)"
