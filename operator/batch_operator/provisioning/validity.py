"""What is written in a spec and cannot be: a sentence that says what to write instead.

What one manifest can show to be wrong is refused when it is applied, by CEL rules of the CRD. This
is what takes arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.provisioning.pools import is_managed, pools_of, strategy_of
from batch_operator.provisioning.strategies import can_overshoot

if TYPE_CHECKING:
    from batch_operator.api.amounts import Amounts
    from batch_operator.api.compute_environment import ComputeEnvironmentSpec


def contradiction(spec: ComputeEnvironmentSpec) -> str | None:
    """Why an environment with such a spec can never have a node; None if it can."""
    if not (is_managed(spec) and spec.instance_types):
        return None
    pools = pools_of(spec)
    if not pools:
        return (
            f"bidPercentage {spec.bid_percentage} is below the spot price of every instance type: "
            f"raise it, or add on-demand to capacityTypes"
        )
    if not any(_has_room(one.offers.amounts) for one in pools):
        return (
            "nodeOverhead takes all CPU or all memory of every instance type: lower it, or add "
            "larger instanceTypes"
        )
    is_bounded = not can_overshoot(strategy_of(spec))
    if is_bounded and all(one.vcpus > spec.max_vcpus for one in pools):
        return (
            f"every instance type is larger than maxvCpus {spec.max_vcpus}, which BEST_FIT never "
            f"exceeds: raise it, or add smaller instanceTypes"
        )
    return None


def _has_room(amounts: Amounts) -> bool:
    return amounts.milli_cpu > 0 and amounts.memory > 0
