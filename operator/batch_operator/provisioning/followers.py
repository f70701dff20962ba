"""Environments whose nodes follow waiting Pods: Karpenter's, and those of other autoscalers.

There the autoscaler reads what Pods ask for, adds nodes and takes idle ones away. The operator
orders and removes none: two who decide on one node would undo each other's work. What it still does
is to know the nodes, cordon those that are announced to go or were made with older settings, learn
from refusals and interruptions, and say which pools it would rather have.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import ProvisionerType
from batch_operator.provisioning.plan import CapacityPlan
from batch_operator.provisioning.pools import is_managed, pools_of, strategy_of
from batch_operator.provisioning.strategies import in_order

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.provisioning.packing import Demand
    from batch_operator.provisioning.plan import View
    from batch_operator.provisioning.pools import PoolKey

KEEP_RUNNING: Mapping[ProvisionerType, Mapping[str, str]] = {
    ProvisionerType.KARPENTER: {"karpenter.sh/do-not-disrupt": "true"},
    ProvisionerType.NONE: {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
}
"""What tells an autoscaler not to take the node of a Pod that runs: by annotation of the Pod."""
WAITED_FOR_EVERY = timedelta(seconds=10)
"""While Pods wait for nodes, the autoscaler's word is asked for so often."""


def pod_annotations(spec: ComputeEnvironmentSpec) -> Mapping[str, str]:
    """What the Pods of an environment's jobs tell its autoscaler."""
    return KEEP_RUNNING.get(spec.provisioner.type, {}) if spec.provisioner is not None else {}


def provisioning_class(spec: ComputeEnvironmentSpec) -> str | None:
    """Of the ProvisioningRequest that is made for each attempt of a multi-node job, if one is."""
    asked = spec.provisioner.none if spec.provisioner is not None and is_managed(spec) else None
    return asked.provisioning_class_name.value if asked is not None else None


def expected_capacity(
    view: View, coming: Mapping[PoolKey, int], refused_gangs: Collection[str] = ()
) -> CapacityPlan:
    """What there is and, by the autoscaler's word, is `coming`; nothing is asked for.

    `refused_gangs` are those that the autoscaler has said to have no nodes for.
    """
    gangs = tuple(one for one in view.demand if one.gang in refused_gangs)
    staying = [one for one in view.nodes if one.stays]
    desired = Counter(one.pool for one in staying if one.pool is not None)
    desired.update(coming)
    sizes: dict[PoolKey | None, int] = {one.key: one.vcpus for one in pools_of(view.spec)}
    vcpus = sum(sizes.get(one.pool, -(-one.offers.amounts.milli_cpu // 1000)) for one in staying)
    return CapacityPlan(
        desired={key: desired[key] for key in sorted(desired)},
        vcpus=vcpus + sum(sizes.get(key, 0) * count for key, count in coming.items()),
        cordon=tuple(
            one for one in view.nodes if one.notice and not (one.draining_since or one.deleting)
        ),
        uncordon=tuple(
            one for one in view.nodes if one.draining_since and not (one.notice or one.deleting)
        ),
        refused=gangs or (() if any(coming.values()) else _refused(view)),
        to_come=coming,
        idle_since={
            one.name: view.idle_since.get(one.name, view.now)
            for one in staying
            if one.name not in view.load
        },
        preference=preference(view),
        look_again_at=min(_times(view), default=None),
    )


def _refused(view: View) -> tuple[Demand, ...]:
    """Pods for which all pools that suit them are refused now; where none is named, none is."""
    pools = pools_of(view.spec)
    open_ = [one for one in pools if not view.history(one.key).is_refused(view.now)]
    rooms = [(one.key, view.room_of_new(one).amounts) for one in open_]
    return tuple(
        one
        for one in view.demand
        if pools and not any(one.suits(key) and one.amounts.fits_into(room) for key, room in rooms)
    )


def _times(view: View) -> list[datetime]:
    """When the autoscaler is to be asked again, or may be told to prefer another pool."""
    back_offs = (one.refused_until for one in view.histories.values())
    times = [one for one in back_offs if one is not None and one > view.now]
    return [*times, view.now + WAITED_FOR_EVERY] if view.demand else times


def preference(view: View) -> tuple[PoolKey, ...]:
    """All pools, the one to be asked first in front: those that are refused now come last."""
    pools = in_order(strategy_of(view.spec), pools_of(view.spec), view.histories, view.now)
    keys = [one.key for one in pools]
    return tuple(sorted(keys, key=lambda key: view.history(key).is_refused(view.now)))
