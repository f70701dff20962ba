"""Capacity that comes with each Pod: which size it gets, and what that costs.

AWS: ECS developer guide, "Amazon ECS task definition parameters for Fargate", task size; Batch API
reference, `ResourceRequirement`, has the same pairs. EKS user guide, "Pod CPU and memory": Fargate
adds 256 MB to each Pod's memory, then rounds up to the next pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType, ProvisionerType
from batch_operator.api.quantity import memory_bytes

if TYPE_CHECKING:
    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.api.serverless import ServerlessProvisioner

GIB = 1 << 30
_HALF = GIB // 2
_SIZES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (250, (_HALF, GIB, 2 * GIB)),
    (500, tuple(range(GIB, 4 * GIB + 1, GIB))),
    (1000, tuple(range(2 * GIB, 8 * GIB + 1, GIB))),
    (2000, tuple(range(4 * GIB, 16 * GIB + 1, GIB))),
    (4000, tuple(range(8 * GIB, 30 * GIB + 1, GIB))),
    (8000, tuple(range(16 * GIB, 60 * GIB + 1, 4 * GIB))),
    (16_000, tuple(range(32 * GIB, 120 * GIB + 1, 8 * GIB))),
    (32_000, (60 * GIB, 120 * GIB, 244 * GIB)),
)
"""Milli-CPU, and the bytes of memory that there can be with it."""
LARGEST = Amounts(_SIZES[-1][0], _SIZES[-1][1][-1])


def serverless_of(spec: ComputeEnvironmentSpec) -> ServerlessProvisioner | None:
    """What an environment says of it, if it is one whose capacity comes with each Pod."""
    provisioner = spec.provisioner
    if provisioner is None or provisioner.type is not ProvisionerType.SERVERLESS:
        return None
    return provisioner.serverless


def rounded(asked: Amounts, section: ServerlessProvisioner) -> Amounts | None:
    """The smallest size that holds what a Pod asks for and the overhead; None: there is none.

    AWS: no size has GPUs.
    """
    memory = asked.memory + memory_bytes(section.memory_overhead)
    if asked.gpus:
        return None
    for milli_cpu, sizes in _SIZES:
        if asked.milli_cpu <= milli_cpu and memory <= sizes[-1]:
            return Amounts(milli_cpu, next(one for one in sizes if memory <= one))
    return None


def price_per_hour(
    size: Amounts, capacity_type: CapacityType, section: ServerlessProvisioner
) -> float | None:
    """What a size costs in an hour; a spot price that is not given is the on-demand one.

    AWS pays by the second, which is this for each of 3600. None: there is no price.
    """
    vcpu, gib = section.price_per_vcpu_hour, section.price_per_gib_hour
    if capacity_type is CapacityType.SPOT:
        vcpu = (
            vcpu if section.spot_price_per_vcpu_hour is None else section.spot_price_per_vcpu_hour
        )
        gib = gib if section.spot_price_per_gib_hour is None else section.spot_price_per_gib_hour
    if vcpu is None or gib is None:
        return None
    return vcpu * size.milli_cpu / 1000 + gib * size.memory / GIB
