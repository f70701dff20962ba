"""AWS's rules of managed compute environments, where nodes follow waiting Pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.crd import custom_resource_definitions
from batch_operator.provisioners.karpenter.node_pools import groups_of, node_pools
from batch_operator.provisioning.followers import pod_annotations
from conformance.rules import rule
from support.karpenter import SMALL_AND_LARGE, karpenter_environment

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Environment


def written(environment: Environment) -> list[dict[str, Any]]:
    """The NodePools' specs, heaviest first."""
    order = [key for group in groups_of(environment) for key in group.pools]
    specs = [one["spec"] for one in node_pools(environment, order)]
    return sorted(specs, key=lambda one: -one["weight"])


def instance_types(spec: dict[str, Any]) -> list[str]:
    values: list[str] = spec["template"]["spec"]["requirements"][0]["values"]
    return values


@rule("follow.min")
def test_idle_vcpus_cannot_be_asked_for() -> None:
    """Followed environments: minvCpus are refused."""
    crd = custom_resource_definitions()["batch-operator.io_computeenvironments.yaml"]
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rules = {one["message"]: one["rule"] for one in spec["x-kubernetes-validations"]}
    [cel] = [text for message, text in rules.items() if message.startswith("minvCpus needs a")]

    assert "self.minvCpus == 0" in cel
    assert "['karpenter', 'none']" in cel


@rule("follow.scale-in")
def test_only_empty_nodes_go_after_the_delay_and_pods_hold_theirs() -> None:
    """Followed environments: only idle nodes go, after the delay."""
    environment = karpenter_environment(scalingPolicy={"minScaleDownDelayMinutes": 20})
    [spec] = written(environment)

    assert spec["disruption"]["consolidationPolicy"] == "WhenEmpty"
    assert spec["disruption"]["consolidateAfter"] == "20m"
    assert pod_annotations(environment.spec) == {"karpenter.sh/do-not-disrupt": "true"}


@rule("follow.ordered")
def test_the_order_of_the_list_is_the_order_of_weights() -> None:
    """Followed environments: the order of instance types is kept."""
    specs = written(karpenter_environment(allocationStrategy="BEST_FIT_PROGRESSIVE_ORDERED"))

    assert [instance_types(one) for one in specs] == [["small"], ["large"]]


@rule("follow.cost")
def test_karpenter_chooses_among_the_types_of_a_capacity_type() -> None:
    """Followed environments: Karpenter chooses an instance type."""
    specs = written(
        karpenter_environment(
            capacityTypes=["spot"], allocationStrategy="SPOT_PRICE_CAPACITY_OPTIMIZED"
        )
    )

    assert [instance_types(one) for one in specs] == [["small", "large"]]


@rule("follow.max")
def test_the_limit_is_karpenters_too() -> None:
    """Followed environments: the limit is not exceeded."""
    specs = written(karpenter_environment(maxvCpus=10, capacityTypes=["spot", "on-demand"]))

    assert [one["limits"] for one in specs] == [{"cpu": "10"}, {"cpu": "10"}]


@rule("follow.update")
def test_karpenter_leaves_updates_to_the_rules_of_all_environments() -> None:
    """Followed environments: nodes tell their settings, and no drift takes one that is in use."""
    [before] = written(karpenter_environment())
    [after] = written(karpenter_environment(instanceTypes=SMALL_AND_LARGE[:1]))
    labels = [one["template"]["metadata"]["labels"][meta.LABEL_SETTINGS] for one in (before, after)]

    assert labels[0] != labels[1]
    assert "Drifted" in before["disruption"]["budgets"][0]["reasons"]
    assert before["template"]["spec"]["terminationGracePeriod"] is None
