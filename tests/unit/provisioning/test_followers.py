"""Environments whose nodes follow waiting Pods: nothing is ordered, everything is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType, ComputeEnvironmentSpec
from batch_operator.provisioning.followers import (
    WAITED_FOR_EVERY,
    expected_capacity,
    pod_annotations,
    preference,
    provisioning_class,
)
from batch_operator.provisioning.history import History
from batch_operator.provisioning.packing import Demand
from batch_operator.provisioning.plan import View
from batch_operator.provisioning.pools import PoolKey
from support.builders import START
from support.karpenter import karpenter_spec

SMALL, LARGE = (PoolKey(name, CapacityType.ON_DEMAND) for name in ("small", "large"))
WAITING = [Demand(Amounts(milli_cpu=1000), 5)]


def spec(**fields: object) -> ComputeEnvironmentSpec:
    return ComputeEnvironmentSpec.model_validate(karpenter_spec(**fields))


def test_waiting_pods_order_nothing_but_are_looked_after_soon() -> None:
    plan = expected_capacity(View(spec=spec(), nodes=[], now=START, demand=WAITING), {})

    assert plan.desired == {}
    assert plan.look_again_at == START + WAITED_FOR_EVERY


def test_what_the_autoscaler_has_ordered_is_expected() -> None:
    plan = expected_capacity(View(spec=spec(), nodes=[], now=START), {SMALL: 2})

    assert (plan.desired, plan.to_come, plan.vcpus) == ({SMALL: 2}, {SMALL: 2}, 8)
    assert plan.look_again_at is None


def test_a_refused_pool_is_asked_last_until_its_back_off_is_over() -> None:
    refused = {SMALL: History(refused_until=START + timedelta(seconds=30))}
    ordered = spec(allocationStrategy="BEST_FIT_PROGRESSIVE_ORDERED")
    now = View(spec=ordered, nodes=[], now=START, histories=refused)
    later = View(spec=ordered, nodes=[], now=START + timedelta(seconds=30), histories=refused)

    assert preference(now) == (LARGE, SMALL)
    assert preference(later) == (SMALL, LARGE)


def test_where_no_instance_types_are_named_none_is_refused() -> None:
    """Its autoscaler knows what there is; a Pod that waits is its business, and stays."""
    unnamed = ComputeEnvironmentSpec.model_validate(
        {"type": "MANAGED", "maxvCpus": 64, "provisioner": {"type": "none"}}
    )
    named = spec()
    refused = {key: History(refused_until=START + timedelta(seconds=30)) for key in (SMALL, LARGE)}
    view = View(spec=named, nodes=[], now=START, demand=WAITING, histories=refused)

    assert expected_capacity(view, {}).refused == tuple(WAITING)
    assert expected_capacity(replace(view, spec=unnamed), {}).refused == ()


def test_all_pools_are_named_also_where_a_strategy_waits_for_one() -> None:
    view = View(spec=spec(allocationStrategy="BEST_FIT"), nodes=[], now=START)

    assert set(preference(view)) == {SMALL, LARGE}


def test_pods_ask_their_autoscaler_to_leave_them_in_peace() -> None:
    other = ComputeEnvironmentSpec.model_validate(
        {"type": "MANAGED", "maxvCpus": 1, "provisioner": {"type": "none"}}
    )
    unmanaged = ComputeEnvironmentSpec.model_validate({"type": "UNMANAGED", "maxvCpus": 1})

    assert pod_annotations(spec()) == {"karpenter.sh/do-not-disrupt": "true"}
    assert pod_annotations(other) == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert pod_annotations(unmanaged) == {}


def test_only_a_managed_environment_asks_its_autoscaler_for_gangs() -> None:
    name = "check-capacity.autoscaling.x-k8s.io"
    provisioner = {"type": "none", "none": {"provisioningClassName": name}}
    managed, unmanaged = (
        ComputeEnvironmentSpec.model_validate(
            {"type": kind, "maxvCpus": 1, "provisioner": provisioner}
        )
        for kind in ("MANAGED", "UNMANAGED")
    )

    assert provisioning_class(managed) == name
    assert provisioning_class(unmanaged) is None
    assert provisioning_class(spec()) is None
