"""Why an environment cannot work: by what is written in its spec, or because no node ever came.

What can be seen in one manifest is refused when it is applied, by CEL rules of the CRD. Here is
what takes arithmetic, or time.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.provisioning.history import has_never_worked
from batch_operator.provisioning.pools import is_managed, pools_of, strategy_of
from batch_operator.provisioning.strategies import can_overshoot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from batch_operator.api.amounts import Amounts
    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.provisioning.history import History
    from batch_operator.provisioning.pools import PoolKey

NONE_JOINED = (
    "none of the nodes that were asked for joined the cluster and became ready: see what their "
    "provisioner says of them; they are asked for again in a while, and after a change of the spec"
)
TRIED_AGAIN_AFTER = timedelta(minutes=15)


def is_without_nodes(histories: Mapping[PoolKey, History], now: datetime) -> bool:
    """Whether no node has ever come, and the last order was given up only lately.

    AWS: a compute environment is made INVALID when none of its instances joined the cluster.
    DEVIATION: it stays so until it is updated; here it is tried again.
    """
    last = max((one.overdue_at for one in histories.values() if one.overdue_at), default=None)
    is_recent = last is not None and now < last + TRIED_AGAIN_AFTER
    return is_recent and has_never_worked(histories)


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
