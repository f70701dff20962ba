"""Nodes follow demand on a real API server: they come for what waits, and go when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.kube import IMAGE, wait_for

if TYPE_CHECKING:
    from support.kube import Kube

VERSION = "batch-operator.io/v1alpha1"
NODES_MAX, VCPUS, CHILDREN = 10, 4, 60


def ours(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def environment(name: str) -> dict[str, Any]:
    return ours(
        "ComputeEnvironment",
        name,
        type="MANAGED",
        maxvCpus=NODES_MAX * VCPUS,
        capacityTypes=["spot"],
        instanceTypes=[{"name": "fake", "vcpus": VCPUS, "memory": "16Gi", "pricePerHour": 3.6}],
        provisioner={"type": "kwok", "kwok": {"startUpSeconds": 2}},
        scalingPolicy={"minScaleDownDelayMinutes": 0},
    )


def array(name: str) -> list[dict[str, Any]]:
    container = {
        "name": "main",
        "image": IMAGE,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
    }
    template = {
        "metadata": {"annotations": {"fake.batch-operator.io/runtime": "30s"}},
        "spec": {"containers": [container]},
    }
    return [
        ours(
            "JobQueue",
            name,
            priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": name}],
        ),
        ours("JobDefinition", name, podTemplate=template),
        ours(
            "BatchJob",
            name,
            jobQueue=name,
            jobDefinition=name,
            arrayProperties={"size": CHILDREN},
            retryStrategy={"attempts": 3},
        ),
    ]


def nodes_of(kube: Kube, name: str) -> list[dict[str, Any]]:
    return kube.items("nodes", "-l", f"batch-operator.io/compute-environment={name}")


def is_ready(node: dict[str, Any]) -> bool:
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"]
    )


def test_nodes_come_for_an_array_and_go_with_it_and_an_interruption_costs_one_try(
    kube: Kube,
) -> None:
    name = "follows"
    kube("delete", "jobqueue,computeenvironment", name, "--ignore-not-found")
    kube.apply(environment(name), *array(name))

    ready = wait_for(
        "ten nodes",
        lambda: found if len(found := list(filter(is_ready, nodes_of(kube, name)))) >= 10 else None,
    )
    first = ready[0]["metadata"]["name"]
    on_it = ("--field-selector", f"spec.nodeName={first},status.phase=Running")
    running = wait_for("children on the first node", lambda: kube.items("pods", *on_it))
    kube("taint", "node", first, "batch-operator.io/interrupted=:NoSchedule")
    most = len(ready)

    def ended() -> dict[str, Any] | None:
        nonlocal most
        most = max(most, len(nodes_of(kube, name)))
        job = kube.get("batchjob", name)
        return job if job and job["status"]["state"] == "SUCCEEDED" else None

    status = wait_for("the array", ended)["status"]
    wait_for("the nodes to go", lambda: not nodes_of(kube, name))

    def pools() -> list[tuple[int, int]]:
        found = (kube.get("computeenvironment", name) or {})["status"]["pools"]
        return [(one["desired"], one["interruptions"]) for one in found]

    wait_for("no node to be wanted and one to be lost", lambda: pools() == [(0, 1)])

    def is_told() -> bool:
        text = kube("describe", "computeenvironment", name)
        return all(one in text for one in ("ScaledUp", "NodesLost", "1 node of fake (spot)"))

    wait_for("Events of nodes that came and of the one that was lost", is_told)

    assert status["array"]["statusSummary"]["SUCCEEDED"] == CHILDREN
    again = kube.items("pods", "-l", "batch-operator.io/attempt=2")
    assert 0 < len(again) <= VCPUS  # those that ran on the interrupted node
    assert float(status["cost"]["wasted"]) > 0
    assert most <= NODES_MAX
    assert 0 < len(running) <= VCPUS
    kube("delete", "jobqueue,computeenvironment", name)
    wait_for("the environment to go", lambda: not kube.get("computeenvironment", name))
