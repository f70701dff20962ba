"""cluster-autoscaler's ProvisioningRequest takes what is asked for the nodes of multi-node jobs.

The operator has the rights of its chart. The autoscaler itself needs a cloud; its part, conditions
and nodes, is played here.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.compute_environment import CapacityType
from batch_operator.provisioners.kwok.nodes import fake_node
from batch_operator.provisioning.pools import PoolKey
from localcluster import modules
from support.builders import environment, multi_node_spec
from support.kube import Kube, job, wait_for
from support.play import written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "asks-e2e"
REQUESTS = "provisioningrequests.autoscaling.x-k8s.io"
ATOMIC = "best-effort-atomic-scale-up.autoscaling.x-k8s.io"
OURS = ("-l", f"batch-operator.io/compute-environment={NAME}")
RIGHTS = "provisioners.none.enabled=true"
SPEC: dict[str, Any] = {
    "type": "MANAGED",
    "maxvCpus": 8,
    "instanceTypes": [{"name": "small", "vcpus": 4, "memory": "16Gi"}],
    "provisioner": {
        "type": "none",
        "none": {"provisioningClassName": ATOMIC, "validUntilSeconds": 600},
    },
}
SMALL = PoolKey("small", CapacityType.ON_DEMAND)


@pytest.fixture(scope="module")
def crd(installed: Kube) -> Iterator[None]:
    """The autoscaler's CRD."""
    folder = modules.folder_of(*modules.CLUSTER_AUTOSCALER_CRDS)
    file = f"-f={folder / '11_provisioningrequest.crd.yaml'}"
    installed.serve("--server-side", file)
    yield
    installed("delete", file)


@pytest.fixture
def asking(
    crd: None, restricted: Callable[..., Kube]
) -> Iterator[Callable[..., tuple[Kube, dict[str, Any]]]]:
    """Submits a gang to a queue with these environments after ours; the request for its nodes."""
    del crd
    kube = restricted(RIGHTS)

    def submit(*others: str) -> tuple[Kube, dict[str, Any]]:
        order = [
            {"order": number, "computeEnvironment": name}
            for number, name in enumerate((NAME, *others))
        ]
        kube.apply(
            written("ComputeEnvironment", NAME, SPEC),
            written("JobQueue", NAME, {"priority": 1, "computeEnvironmentOrder": order}),
            written("JobDefinition", "gang", multi_node_spec("0", "1:", numNodes=3).to_wire()),
            job("gang", "gang", NAME),
        )
        [request] = wait_for("the request", lambda: kube.items(REQUESTS))
        return kube, request

    yield submit
    kube("delete", "batchjob", "gang", "--ignore-not-found")
    kube("delete", "nodes", *OURS)
    kube("delete", "jobqueue,computeenvironment", NAME)


def answer(kube: Kube, request: dict[str, Any], *conditions: str, message: str) -> None:
    """What the autoscaler writes into a request: these conditions hold."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251  # a real cluster's time
    status = {
        "conditions": [
            {
                "type": one,
                "status": "True",
                "reason": one,
                "message": message,
                "lastTransitionTime": at,
            }
            for one in conditions
        ]
    }
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    kube("patch", REQUESTS, request["metadata"]["name"], *patch)


def test_a_gang_gets_all_of_its_nodes_by_one_request(
    asking: Callable[..., tuple[Kube, dict[str, Any]]],
) -> None:
    kube, request = asking()
    templates = kube.items("podtemplates", *OURS)
    pods = wait_for("three Pods", lambda: len(found := kube.pods_of("gang")) == 3 and found)
    used = {
        one["metadata"]["annotations"]["autoscaling.x-k8s.io/consume-provisioning-request"]
        for one in pods
    }

    assert request["spec"] == {
        "provisioningClassName": ATOMIC,
        "podSets": [
            {"podTemplateRef": {"name": one["metadata"]["name"]}, "count": count}
            for one, count in zip(templates, (1, 2), strict=True)
        ],
        "parameters": {"ValidUntilSeconds": "600"},
    }
    assert used == {request["metadata"]["name"]}
    for one in templates:
        spec = one["template"]["spec"]
        assert "schedulingGates" not in spec
        assert spec["nodeSelector"] == {"batch-operator.io/compute-environment": NAME}

    answer(kube, request, "Accepted", "Provisioned", message="three Pods have room")
    kube.apply(fake_node(f"{NAME}-1", environment(NAME, **SPEC), SMALL, start_up_s=0))
    status = kube.wait_for_state("gang", "SUCCEEDED", "FAILED")

    assert status["state"] == "SUCCEEDED"
    assert len(status["attempts"]) == 1

    kube("delete", "batchjob", "gang")
    wait_for(
        "what was asked for it to go with it",
        lambda: not kube.items(f"{REQUESTS},podtemplates", *OURS),
    )


def test_a_request_that_failed_is_told_as_the_reason_why_the_gang_waits(
    asking: Callable[..., tuple[Kube, dict[str, Any]]],
) -> None:
    kube, request = asking()
    answer(kube, request, "Accepted", "Failed", message="no small left in the zone")

    kube.wait_for_pending("gang", "InsufficientCapacity", "Failed: no small left in the zone")


def test_a_gang_whose_request_failed_goes_to_the_next_environment(
    asking: Callable[..., tuple[Kube, dict[str, Any]]],
) -> None:
    kube, request = asking("fake")
    answer(kube, request, "Accepted", "Failed", message="no small left in the zone")
    status = kube.wait_for_state("gang", "SUCCEEDED", "FAILED")

    assert status["state"] == "SUCCEEDED"
    moved, ran = status["attempts"]
    assert moved["statusReason"].startswith("Moved to the next compute environment: ")
    assert (moved["computeEnvironment"], ran["computeEnvironment"]) == (NAME, "fake")
