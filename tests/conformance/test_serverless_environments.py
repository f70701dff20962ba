"""AWS: user guide, "Fargate compute environments"; API, ComputeResource, ResourceRequirement."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.api.amounts import Amounts
from batch_operator.api.crd import custom_resource_definitions
from batch_operator.api.serverless import ServerlessProvisioner
from batch_operator.provisioning.packing import Demand
from batch_operator.provisioning.serverless import rounded
from batch_operator.scheduling.backlog import Ask
from batch_operator.scheduling.suitability import Suitability
from conformance.rules import rule
from support.builders import environment

GIB = 1 << 30
PLAIN = ServerlessProvisioner()


def serverless(**section: Any) -> Any:
    provisioner = {"type": "serverless", "serverless": section}
    return environment("fargate", type="MANAGED", maxvCpus=64, provisioner=provisioner)


def demand(milli_cpu: int = 1000, gib: int = 1, gpus: int = 0, gang: str | None = None) -> Demand:
    return Demand(Amounts(milli_cpu, gib * GIB, gpus), 1, gang=gang)


def refused_fields() -> dict[str, str]:
    """What the CRD says of fields in a serverless environment, by field."""
    [crd] = [
        one
        for one in custom_resource_definitions().values()
        if one["spec"]["names"]["kind"] == "ComputeEnvironment"
    ]
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rules = schema["properties"]["spec"]["x-kubernetes-validations"]
    begin = "a serverless environment takes "
    found = [one["message"] for one in rules if one["message"].startswith(begin)]
    return {one.removeprefix(begin).partition(":")[0].rpartition(" ")[2]: one for one in found}


@rule("serverless.fields")
def test_a_serverless_environment_takes_none_of_the_fields_of_nodes() -> None:
    """Serverless compute environments: no fields that are about instances.

    The end-to-end suite has the API server refuse them.
    """
    assert refused_fields().keys() >= {
        "instanceTypes",
        "allocationStrategy",
        "minvCpus",
        "bidPercentage",
        "scalingPolicy",
    }


@rule("serverless.spot")
def test_a_serverless_environment_is_on_demand_or_spot() -> None:
    """Serverless compute environments: FARGATE or FARGATE_SPOT."""
    assert refused_fields()["capacityTypes"].endswith(
        "take one, and give the queue another environment with the other"
    )


@rule("serverless.sizes")
def test_a_request_is_rounded_up_to_the_next_pair() -> None:
    """Serverless compute environments: documented pairs."""
    assert rounded(Amounts(1100, 3 * GIB), PLAIN) == Amounts(2000, 4 * GIB)


@rule("serverless.too-large")
@pytest.mark.parametrize(("milli_cpu", "gib"), [(32_001, 60), (1000, 245)])
def test_what_is_above_the_largest_pair_suits_no_serverless_environment(
    milli_cpu: int, gib: int
) -> None:
    """Serverless compute environments: the largest pair."""
    assert not Suitability()(serverless(), (demand(milli_cpu, gib),))


@rule("serverless.gpus")
def test_gpus_suit_no_serverless_environment() -> None:
    """Serverless compute environments: no GPUs."""
    assert not Suitability()(serverless(), (demand(gpus=1),))


@rule("serverless.multi-node")
def test_multi_node_jobs_suit_no_serverless_environment() -> None:
    """Serverless compute environments: no multi-node parallel jobs."""
    assert Suitability()(serverless(), (demand(),))
    assert not Suitability()(serverless(), (demand(gang="gang:1"),))


@rule("serverless.overhead")
def test_the_overhead_is_added_before_rounding() -> None:
    """Serverless compute environments: what EKS adds."""
    eks = ServerlessProvisioner(memory_overhead="256Mi")

    assert rounded(Amounts(1000, 2 * GIB), eks) == Amounts(1000, 3 * GIB)
    assert rounded(Amounts(1000, 2 * GIB), PLAIN) == Amounts(1000, 2 * GIB)


@rule("serverless.max")
def test_a_start_holds_its_whole_size() -> None:
    """Serverless compute environments: maxvCpus bounds sizes."""
    ask = Ask(1100, needs=(demand(1100),))

    assert ask.milli_in(serverless()) == 2000
    assert ask.milli_in(environment("nodes")) == 1100
