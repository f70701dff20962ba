"""What people and clouds do to nodes of MANAGED environments: it is told, and nothing is lost."""

from __future__ import annotations

from support.managed import (
    NODE,
    condition,
    delete,
    elastic,
    environment,
    labels,
    node_of,
    patch_node,
    play_elastic,
)
from support.play import batch_job, later

RETRIED = {"retryStrategy": {"attempts": 2}}


def comes(at: str, name: str, **spec: object) -> dict[str, object]:
    return {"at": at, "apply": batch_job(name, **spec)}


def test_a_node_that_somebody_deletes_is_told_of_and_its_job_runs_on_another() -> None:
    played = play_elastic({"a": RETRIED}, events=[delete("60s", "Node", f"{NODE}*")], until="10m")
    told = condition(played, "Degraded")

    assert told is not None
    assert told[0] == "NodesLost"
    assert played.state("a") == "RUNNING"
    lost = f"Host EC2 (instance {node_of(played, 'a')}) terminated."
    assert played.rows("a")[0]["statusReason"] == lost


def test_that_nodes_were_lost_is_said_for_an_hour() -> None:
    events = [delete("60s", "Node", f"{NODE}*"), comes("90m", "b")]
    played = play_elastic({"a": RETRIED}, events=events)

    assert (played.state("a"), played.state("b")) == ("SUCCEEDED", "SUCCEEDED")
    assert condition(played, "Degraded") is None


def test_a_provisioner_that_refuses_for_an_hour_is_told_of_and_the_job_waits() -> None:
    full = [{"instanceType": "small", "capacityType": "on-demand", "nodes": 0}]
    refusing = elastic(provisioner={"type": "kwok", "kwok": {"capacity": full}})
    opens = later("1h", "ComputeEnvironment", "elastic", provisioner={"kwok": {"capacity": []}})
    waiting = play_elastic({"a": {}}, refusing, events=[opens], until="30m")
    after = play_elastic({"a": {}}, refusing, events=[opens], until="3h")

    assert condition(waiting, "Degraded") == (
        "CapacityRefused",
        "every pool had no more nodes when last asked: the pool has no more nodes",
    )
    assert waiting.state("a") == "RUNNABLE"
    assert after.state("a") == "SUCCEEDED"
    assert condition(after, "Degraded") is None


def test_a_node_without_its_label_is_told_of_by_name_and_replaced() -> None:
    """Its taint still keeps everybody else away: it is paid for, and nobody uses it."""
    events = [
        patch_node("60s", metadata=labels(compute_environment=None)),
        comes("70s", "b"),
    ]
    played = play_elastic({"a": {}}, events=events, until="5m")
    told = condition(played, "Degraded")

    assert told is not None
    assert told[0] == "NodesOrphaned"
    assert f"node {node_of(played, 'a')} without the label" in told[1]
    assert (played.state("a"), played.state("b")) == ("RUNNING", "RUNNING")
    assert environment(played)["nodes"]["ready"] == 1


def test_a_node_that_gets_its_label_back_is_one_of_the_environment_again() -> None:
    events = [
        patch_node("60s", metadata=labels(compute_environment=None)),
        patch_node("120s", metadata=labels(compute_environment="elastic")),
    ]
    played = play_elastic({"a": {}}, events=events, until="5m")

    assert played.state("a") == "RUNNING"
    assert (condition(played, "Degraded") or ("",))[0] != "NodesOrphaned"
    assert environment(played)["nodes"]["ready"] == 1


def test_a_node_that_two_environments_claim_is_told_of_at_both_and_counted_for_neither() -> None:
    events = [patch_node("60s", metadata=labels(compute_environment="other"))]
    played = play_elastic({"a": {}}, elastic(), elastic("other"), events=events, until="5m")
    told = [condition(played, "Degraded", name) for name in ("elastic", "other")]

    assert [one[0] for one in told if one] == ["NodesDisputed", "NodesDisputed"]
    assert all(NODE in one[1] for one in told if one)
    assert [environment(played, one)["nodes"]["ready"] for one in ("elastic", "other")] == [0, 0]
    assert played.state("a") == "RUNNING"


def test_a_node_without_its_instance_type_is_told_of_and_used() -> None:
    events = [
        patch_node("60s", metadata={"labels": {"node.kubernetes.io/instance-type": None}}),
        comes("70s", "b"),
    ]
    played = play_elastic({"a": {}}, events=events, until="5m")

    assert (condition(played, "Degraded") or ("",))[0] == "NodesUnlabelled"
    assert (played.state("a"), played.state("b")) == ("RUNNING", "RUNNING")


def test_a_node_that_does_not_say_whether_it_is_spot_is_told_of_and_used() -> None:
    events = [patch_node("60s", metadata=labels(capacity_type=None)), comes("70s", "b")]
    played = play_elastic({"a": {}}, events=events, until="5m")

    assert (condition(played, "Degraded") or ("",))[0] == "NodesOfUnknownCapacityType"
    assert (played.state("a"), played.state("b")) == ("RUNNING", "RUNNING")
    assert environment(played)["nodes"]["ready"] == 1


def test_a_node_that_somebody_cordons_is_left_alone_and_told_of() -> None:
    """New work gets another node; the cordoned one is not removed when it is idle."""
    events = [
        patch_node("60s", spec={"unschedulable": True}),
        comes("70s", "b"),
    ]
    played = play_elastic({"a": {}}, events=events, until="30m")

    assert (condition(played, "Degraded") or ("",))[0] == "NodesCordoned"
    assert (played.state("a"), played.state("b")) == ("SUCCEEDED", "SUCCEEDED")
    assert node_of(played, "b") != node_of(played, "a")
    assert environment(played)["nodes"]["desired"] == 1


def test_a_node_that_does_not_become_ready_is_told_of_and_given_up() -> None:
    """AWS: an environment of which no instance joins the cluster is INVALID."""
    slow = [{"startUp": "2h"}]
    waiting = play_elastic({"a": {}}, pools=slow, until="9m")
    given_up = play_elastic({"a": {}}, pools=slow, until="12m")
    told = condition(waiting, "Degraded")

    assert told is not None
    assert told[0] == "NodesNotReady"
    assert NODE in told[1]
    assert environment(waiting)["status"] == "VALID"
    assert environment(given_up)["status"] == "INVALID"
    assert (condition(given_up, "Stalled") or ("",))[0] == "NoNodeJoined"
