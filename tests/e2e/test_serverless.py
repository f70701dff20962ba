"""Capacity that comes with each Pod, on a virtual node as virtual-kubelet registers it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from support.kube import Kube, definition, job, wait_for
from support.play import written

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE = "virtual-e2e"
PROVIDER = "virtual-kubelet.io/provider"
SIZE = {"cpu": "500m", "memory": "1Gi"}
"""What 300m and 700Mi are rounded up to."""
PRICE_PER_SECOND = 0.5 * 0.2 + 1 * 0.05
"""Of that size: half of a vCPU, and a GiB."""
AT_ONCE = 2
MAX_VCPUS = 1


@pytest.fixture(scope="module")
def virtual_node(installed: Kube) -> Iterator[None]:
    """A large fake node with virtual-kubelet's label and taint, ready after two seconds."""
    size = {"cpu": "1000", "memory": "4Ti", "pods": "1000"}
    installed.apply(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": NODE,
                "labels": {"type": "virtual-kubelet", "kubernetes.io/role": "agent"},
                "annotations": {
                    "kwok.x-k8s.io/node": "fake",
                    "fake.batch-operator.io/start-up": "2s",
                },
            },
            "spec": {"taints": [{"key": PROVIDER, "value": "fake", "effect": "NoSchedule"}]},
            "status": {
                "capacity": size,
                "allocatable": size,
                "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}],
            },
        }
    )
    yield
    installed("delete", "node", NODE)


@pytest.fixture
def fargate(kube: Kube, virtual_node: None) -> Iterator[Kube]:
    """An environment whose Pods go to the virtual node, and a queue, named as the namespace is."""
    del virtual_node
    name = kube.namespace
    section = {
        "nodeSelector": {"type": "virtual-kubelet"},
        "tolerations": [{"key": PROVIDER, "operator": "Exists"}],
        "pricePerVcpuHour": 0.2 * 3600,
        "pricePerGibHour": 0.05 * 3600,
    }
    order = [{"order": 1, "computeEnvironment": name}]
    environment = {
        "type": "MANAGED",
        "maxvCpus": MAX_VCPUS,
        "provisioner": {"type": "serverless", "serverless": section},
    }
    kube.apply(
        written("ComputeEnvironment", name, environment),
        written("JobQueue", name, {"priority": 1, "computeEnvironmentOrder": order}),
    )
    yield kube
    kube("delete", "jobqueue,computeenvironment", name)


def played(name: str, **fate: str) -> dict[str, Any]:
    """A definition of Pods that the virtual node plays; their fate is kwok's."""
    made = definition(name, "", resources={"requests": {"cpu": "300m", "memory": "700Mi"}})
    annotations = {f"fake.batch-operator.io/{key}": value for key, value in fate.items()}
    made["spec"]["podTemplate"]["metadata"] = {"annotations": annotations}
    return made


def seconds(pod: dict[str, Any]) -> tuple[float, float]:
    """When a Pod was bound and when it ended."""
    [bound] = [one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled"]
    [container] = pod["status"]["containerStatuses"]
    times = bound["lastTransitionTime"], container["state"]["terminated"]["finishedAt"]
    began, ended = (datetime.fromisoformat(one).timestamp() for one in times)
    return began, ended


def test_a_pod_is_as_large_as_what_is_paid_for_and_ends_on_the_virtual_node(fargate: Kube) -> None:
    fargate.apply(played("works", runtime="4s"), job("j", "works", fargate.namespace))
    status = fargate.wait_for_state("j", "SUCCEEDED", "FAILED")
    [pod] = fargate.pods_of("j")
    [row] = status["attempts"]
    began, ended = seconds(pod)
    cost = PRICE_PER_SECOND * (ended - began)

    assert status["state"] == "SUCCEEDED"
    assert pod["spec"]["nodeName"] == NODE
    assert pod["spec"]["containers"][0]["resources"]["requests"] == SIZE
    assert row["instanceType"] == "500m-1024Mi"
    assert ended - began >= 4
    assert float(row["cost"]) == float(status["cost"]["total"]) == pytest.approx(cost)


def test_whole_sizes_fill_the_environment_and_its_cost_is_that_of_all_attempts(
    fargate: Kube,
) -> None:
    fargate.apply(
        played("works", runtime="3s"),
        played("fails", **{"runtime": "1s", "exit-code": "3"}),
        job("many", "works", fargate.namespace, arrayProperties={"size": 5}),
        job("bad", "fails", fargate.namespace, retryStrategy={"attempts": 2}),
    )
    many = fargate.wait_for_state("many", "SUCCEEDED", "FAILED")
    bad = fargate.wait_for_state("bad", "SUCCEEDED", "FAILED")
    spans = [seconds(one) for one in (*fargate.pods_of("many"), *fargate.pods_of("bad"))]
    total = PRICE_PER_SECOND * sum(ended - began for began, ended in spans)

    assert many["array"]["indexes"] == {"succeeded": "0-4"}
    assert [row["exitCode"] for row in bad["attempts"]] == [3, 3]
    assert len(spans) == 7
    for began, _ in spans:
        assert sum(other <= began < ended for other, ended in spans) <= AT_ONCE
    jobs = float(many["cost"]["total"]) + float(bad["cost"]["total"])
    assert jobs == pytest.approx(total)
    assert float(bad["cost"]["wasted"]) == float(bad["cost"]["total"])

    def used() -> float:
        found = (fargate.get("computeenvironment", fargate.namespace) or {})["status"].get(
            "cost", {}
        )
        return float(found.get("used", 0))

    wait_for("the environment's cost", lambda: used() == pytest.approx(total))


def test_a_job_whose_size_is_above_maxvcpus_says_so(fargate: Kube) -> None:
    """9 GiB come with 2 vCPUs at least."""
    large = played("large", runtime="1s")
    container = large["spec"]["podTemplate"]["spec"]["containers"][0]
    container["resources"] = {"requests": {"cpu": "700m", "memory": "9Gi"}}
    fargate.apply(large, job("j", "large", fargate.namespace))

    fargate.wait_for_pending("j", "ComputeEnvironmentMaxResource")
