"""What a ComputeEnvironment says of capacity without nodes of its own, as AWS's Fargate."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from batch_operator.api.common import Model, Quantity, rules

_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


class TolerationOperator(StrEnum):
    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Model):
    """As in a Pod's spec."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                "a toleration without key is for every taint: write operator: Exists",
            ),
            (
                "!has(self.value) || !has(self.operator) || self.operator == 'Equal'",
                "a value is for operator: Equal",
            ),
        )
    )

    key: str | None = Field(
        default=None, max_length=317, pattern=_KEY, description="The taint's key; all if omitted."
    )
    operator: TolerationOperator = Field(
        default=TolerationOperator.EQUAL, description="Exists, or Equal to value."
    )
    value: str | None = Field(default=None, max_length=63, description="The taint's value.")
    effect: TaintEffect | None = Field(
        default=None, description="The taint's effect; all if omitted."
    )


def _price(of: str) -> float | None:
    found: float | None = Field(default=None, ge=0, le=1_000_000, description=f"Price of {of}.")
    return found


class ServerlessProvisioner(Model):
    """Capacity that comes with each Pod: virtual nodes, or a node made for one Pod.

    Requests are rounded up to AWS Fargate's sizes, and that counts and is paid for.
    """

    node_selector: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        default={},
        max_length=20,
        description="Labels of the nodes that Pods go to, such as type: virtual-kubelet. Omitted: "
        "something else sends them there, by the label batch-operator.io/compute-environment that "
        "they carry, such as a Fargate profile.",
    )
    tolerations: list[Toleration] = Field(
        default=[], max_length=20, description="What Pods tolerate there."
    )
    memory_overhead: Quantity = Field(
        default="0",
        description="What is added to a Pod's memory before it is rounded up: 256Mi for Fargate "
        "on EKS, 0 elsewhere.",
    )
    price_per_vcpu_hour: float | None = _price("a vCPU for an hour")
    price_per_gib_hour: float | None = _price("a GiB of memory for an hour")
    spot_price_per_vcpu_hour: float | None = _price("a vCPU for an hour on spot capacity")
    spot_price_per_gib_hour: float | None = _price("a GiB of memory for an hour on spot capacity")


NOT_FOR_SERVERLESS = [
    (
        "!has(self.provisioner) || self.provisioner.type != 'serverless' || "
        f"!has(self.{name}) || {unless}",
        f"a serverless environment takes {'one of' if name == 'capacityTypes' else 'no'} {name}: "
        f"{why}",
    )
    for name, unless, why in (
        ("instanceTypes", "size(self.instanceTypes) == 0", "there are no nodes to choose"),
        ("allocationStrategy", "false", "there is nothing to choose from"),
        ("minvCpus", "self.minvCpus == 0", "nothing is kept when idle"),
        ("bidPercentage", "false", "give the spot price in provisioner.serverless"),
        ("scalingPolicy", "false", "nothing is ever idle"),
        ("updatePolicy", "false", "no node is ever replaced"),
        ("nodeOverhead", "false", "there is provisioner.serverless.memoryOverhead"),
        (
            "capacityTypes",
            "size(self.capacityTypes) <= 1",
            "take one, and give the queue another environment with the other",
        ),
    )
]
"""CEL rules of an environment's spec: what AWS's type FARGATE does not take."""
