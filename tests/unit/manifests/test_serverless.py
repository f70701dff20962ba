"""Pods that bring their capacity with them: where they go, and what they ask for."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.api.quantity import memory_bytes
from batch_operator.api.serverless import ServerlessProvisioner
from batch_operator.lifecycle.attempt import observed_attempt
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.manifests.pods import pod
from batch_operator.scheduling.mutations import StartAttempt
from support.builders import definition, definition_spec, job
from support.builders import pod as stored_pod

MIB = 1 << 20
EKS = ServerlessProvisioner.model_validate(
    {
        "nodeSelector": {"eks.amazonaws.com/compute-type": "fargate"},
        "tolerations": [{"key": "eks.amazonaws.com/compute-type", "operator": "Exists"}],
        "memoryOverhead": "256Mi",
    }
)
PLAIN = ServerlessProvisioner()


def container(name: str = "main", **resources: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "resources": resources}


def made(section: ServerlessProvisioner, *containers: Any, **spec: Any) -> dict[str, Any]:
    """The Pod of a job with these containers; the first attempt."""
    template = {"spec": {"containers": list(containers), **spec}}
    one = job("render")
    found = make_plan(one, definition(spec=definition_spec(podTemplate=template)), None)
    assert isinstance(found, Plan), found
    start = StartAttempt(
        one, found, 0, 1, None, "fargate", section.node_selector, serverless=section
    )
    return pod(start)


def test_it_goes_where_the_environment_says_without_the_taint_of_nodes() -> None:
    spec = made(EKS, container(requests={"cpu": "1", "memory": "1Gi"}))["spec"]

    assert spec["nodeSelector"] == {"eks.amazonaws.com/compute-type": "fargate"}
    assert spec["tolerations"] == [{"key": "eks.amazonaws.com/compute-type", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("section", "memory"), [(PLAIN, "2048Mi"), (EKS, "1792Mi")], ids=["ECS", "EKS"]
)
def test_its_container_gets_the_whole_size_but_for_the_overhead(
    section: ServerlessProvisioner, memory: str
) -> None:
    spec = made(section, container(requests={"cpu": "600m", "memory": "1Gi"}))["spec"]
    requests = spec["containers"][0]["resources"]["requests"]

    assert requests["cpu"] == "1000m"
    assert memory_bytes(requests["memory"]) == memory_bytes(memory)


def test_a_limit_below_the_new_request_is_raised_to_it() -> None:
    limits = {"cpu": "4", "memory": "1Gi"}
    spec = made(PLAIN, container(requests={"cpu": "600m", "memory": "1Gi"}, limits=limits))["spec"]
    resources = spec["containers"][0]["resources"]

    assert resources["limits"]["cpu"] == "4"
    assert memory_bytes(resources["limits"]["memory"]) == 2048 * MIB


def test_what_others_ask_for_stays_and_the_first_gets_what_is_over() -> None:
    made_pod = made(
        PLAIN,
        container(requests={"cpu": "300m", "memory": "100Mi"}),
        container("proxy", requests={"cpu": "300m", "memory": "100Mi"}),
        initContainers=[container("fetch", requests={"cpu": "900m", "memory": "3Gi"})],
    )
    first, proxy = made_pod["spec"]["containers"]

    assert proxy["resources"]["requests"] == {"cpu": "300m", "memory": "100Mi"}
    assert first["resources"]["requests"]["cpu"] == "700m"
    assert memory_bytes(first["resources"]["requests"]["memory"]) == 3 * 1024 * MIB - 100 * MIB


def test_what_it_holds_is_seen_on_the_pod_itself() -> None:
    spec = made(PLAIN, container(limits={"cpu": "1500m", "memory": "1Gi"}))["spec"]
    seen = stored_pod(spec=spec)

    assert observed_attempt(seen).milli_cpu == 2000
