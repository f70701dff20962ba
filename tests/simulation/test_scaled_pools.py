"""Pools that can only be emptied: whole they come and go, whatever their jobs do."""

from __future__ import annotations

from support.play import play, written
from support.scaled import target

POOL = {
    "type": "MANAGED",
    "maxvCpus": 8,
    "instanceTypes": [{"name": "small", "vcpus": 2, "memory": "4Gi"}],
    "scalingPolicy": {"minScaleDownDelayMinutes": 1},
}


def nodes_at(scale_in: str, until: str) -> int:
    """How many nodes there are at a time, of four: one is busy for 10 minutes, the others 1."""
    scale = {"scaleIn": scale_in, "targets": [target("small")]}
    spec = {**POOL, "provisioner": {"type": "scale", "scale": scale}}
    played = play(
        {"a": {"arrayProperties": {"size": 4}}},
        definition={"podTemplate": two_vcpus()},
        others=[written("ComputeEnvironment", "pool", spec)],
        queue={"computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "pool"}]},
        behaviors=[{"job": "a", "index": 0, "runtime": "10m"}, {"job": "*", "runtime": "1m"}],
        until=until,
    )
    status = played.outcome.statuses["ComputeEnvironment", "", "pool"]
    return int(status["nodes"]["ready"])


def two_vcpus() -> dict[str, object]:
    resources = {"requests": {"cpu": "2"}}
    return {"spec": {"containers": [{"name": "main", "image": "busybox", "resources": resources}]}}


def test_where_machines_are_marked_idle_ones_go_one_by_one() -> None:
    assert [nodes_at("MarkMachines", until) for until in ("50s", "5m", "15m")] == [4, 1, 0]


def test_a_pool_that_goes_whole_stays_until_its_last_job_has_ended() -> None:
    assert [nodes_at("WhenPoolIsIdle", until) for until in ("50s", "5m", "15m")] == [4, 4, 0]
