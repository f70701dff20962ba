"""The NodePools of an environment, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api.compute_environment import CapacityType
from batch_operator.provisioners.karpenter.node_pools import (
    agrees,
    groups_of,
    node_pools,
    without_absent,
)
from batch_operator.provisioning.pools import PoolKey
from support.karpenter import SMALL_AND_LARGE, karpenter_environment

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Environment

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND


def written(environment: Environment, *preference: PoolKey) -> dict[str, dict[str, Any]]:
    """The NodePools' specs by their names without the digest."""
    order = preference or [key for group in groups_of(environment) for key in group.pools]
    return {
        one["metadata"]["name"].rpartition("-")[0]: one["spec"]
        for one in node_pools(environment, order)
    }


def test_each_capacity_type_has_a_node_pool_that_labels_and_taints_its_nodes() -> None:
    specs = written(karpenter_environment(capacityTypes=["spot", "on-demand"]))

    assert sorted(specs) == ["karp-on-demand", "karp-spot"]
    template = specs["karp-spot"]["template"]
    labels = template["metadata"]["labels"]
    assert labels["batch-operator.io/compute-environment"] == "karp"
    assert labels["batch-operator.io/capacity-type"] == "spot"
    assert template["spec"]["taints"] == [
        {"key": "batch-operator.io/compute-environment", "value": "karp", "effect": "NoSchedule"}
    ]
    assert template["spec"]["requirements"] == [
        {
            "key": "node.kubernetes.io/instance-type",
            "operator": "In",
            "values": ["small", "large"],
        },
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]},
    ]


def test_spot_is_asked_first_unless_it_is_not_preferred() -> None:
    both = karpenter_environment(capacityTypes=["spot", "on-demand"])
    spot = [PoolKey(name, SPOT) for name in ("small", "large")]
    on_demand = [PoolKey(name, ON_DEMAND) for name in ("small", "large")]

    first = written(both, *spot, *on_demand)
    then = written(both, *on_demand, *spot)

    assert first["karp-spot"]["weight"] > first["karp-on-demand"]["weight"]
    assert then["karp-spot"]["weight"] < then["karp-on-demand"]["weight"]


def test_an_ordered_list_gives_a_node_pool_for_each_type_with_falling_weights() -> None:
    ordered = karpenter_environment(allocationStrategy="BEST_FIT_PROGRESSIVE_ORDERED")
    small, large = (PoolKey(name, ON_DEMAND) for name in ("small", "large"))

    weights = {name: spec["weight"] for name, spec in written(ordered, small, large).items()}
    turned = {name: spec["weight"] for name, spec in written(ordered, large, small).items()}

    assert weights == {"karp-small-on-demand": 100, "karp-large-on-demand": 99}
    assert turned == {"karp-small-on-demand": 99, "karp-large-on-demand": 100}


def test_a_hundred_ordered_types_stay_within_karpenters_weights() -> None:
    types = [{"name": f"t{number}", "vcpus": 2, "memory": "8Gi"} for number in range(100)]
    specs = written(
        karpenter_environment(
            instanceTypes=types, allocationStrategy="BEST_FIT_PROGRESSIVE_ORDERED"
        )
    )

    assert sorted(spec["weight"] for spec in specs.values()) == list(range(1, 101))


def test_a_node_pool_is_limited_by_max_vcpus() -> None:
    assert written(karpenter_environment())["karp-on-demand"]["limits"] == {"cpu": "64"}


def test_only_idle_nodes_are_taken_away_after_the_scale_down_delay() -> None:
    spec = written(karpenter_environment(scalingPolicy={"minScaleDownDelayMinutes": 7}))[
        "karp-on-demand"
    ]

    assert spec["disruption"] == {
        "consolidationPolicy": "WhenEmpty",
        "consolidateAfter": "7m",
        "budgets": [{"nodes": "0", "reasons": ["Underutilized", "Drifted"]}, {"nodes": "100%"}],
    }
    assert spec["template"]["spec"]["expireAfter"] == "Never"
    assert spec["template"]["spec"]["terminationGracePeriod"] is None


def test_nodes_tell_the_settings_that_they_were_made_with() -> None:
    def label(**spec: Any) -> str:
        labels = written(karpenter_environment(**spec))["karp-on-demand"]["template"]["metadata"]
        return str(labels["labels"]["batch-operator.io/infrastructure-settings"])

    assert label() == label(maxvCpus=8)
    assert label() != label(instanceTypes=SMALL_AND_LARGE[:1])


def test_a_spot_price_above_the_bid_leaves_the_type_out() -> None:
    dear = {**SMALL_AND_LARGE[1], "pricePerHour": 1.0, "spotPricePerHour": 0.9}
    spec = written(
        karpenter_environment(
            capacityTypes=["spot"], bidPercentage=50, instanceTypes=[SMALL_AND_LARGE[0], dear]
        )
    )["karp-spot"]

    assert spec["template"]["spec"]["requirements"][0]["values"] == ["small"]


def test_names_differ_where_they_would_read_the_same_and_leave_room_for_node_claims() -> None:
    ordered = {"allocationStrategy": "BEST_FIT_PROGRESSIVE_ORDERED"}
    one = karpenter_environment(
        name="a-b", instanceTypes=[{"name": "c", "vcpus": 1, "memory": "1Gi"}], **ordered
    )
    two = karpenter_environment(
        name="a", instanceTypes=[{"name": "b-c", "vcpus": 1, "memory": "1Gi"}], **ordered
    )
    long = karpenter_environment(name="x" * 63)

    assert groups_of(one)[0].name != groups_of(two)[0].name
    assert groups_of(one) == groups_of(one)
    assert len(groups_of(long)[0].name) <= 57


def test_what_others_added_does_not_count_as_a_difference() -> None:
    wanted = {"a": {"b": 1}, "list": [{"x": 1}], "gone": None}

    assert agrees(wanted, {"a": {"b": 1, "default": 2}, "list": [{"x": 1, "y": 2}], "more": 3})
    assert not agrees(wanted, {"a": {"b": 2}, "list": [{"x": 1}]})
    assert not agrees(wanted, {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}]})
    assert not agrees(wanted, {"a": {"b": 1}, "list": [{"x": 1}], "gone": "still there"})
    assert without_absent(wanted) == {"a": {"b": 1}, "list": [{"x": 1}]}
