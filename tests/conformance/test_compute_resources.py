"""Compute resources: which instances are launched and terminated, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformance.rules import rule
from support.builders import pod_template
from support.play import play, refusal, written

if TYPE_CHECKING:
    from support.play import Played, Spec

SMALL = {"name": "small", "vcpus": 4, "memory": "16Gi", "pricePerHour": 0.20}
LARGE = {"name": "large", "vcpus": 16, "memory": "64Gi", "pricePerHour": 0.64}
CHEAP = {"name": "cheap", "vcpus": 4, "memory": "16Gi", "spotPricePerHour": 0.04}
DEAR = {"name": "dear", "vcpus": 4, "memory": "16Gi", "spotPricePerHour": 0.06}
RUNS_LONG = [{"runtime": "1h"}]
RUNS_SHORT = [{"runtime": "10s"}]
SPOT, BOTH = ["spot"], ["spot", "on-demand"]


def environment(*types: Spec, **fields: Any) -> dict[str, Any]:
    return {
        "type": "MANAGED",
        "maxvCpus": 100,
        "instanceTypes": list(types) or [SMALL],
        "provisioner": {"type": "kwok", "kwok": {"startUpSeconds": 30}},
        **fields,
    }


def played(
    jobs: dict[str, Any],
    spec: Spec,
    *,
    until: str = "2m",
    behaviors: Any = RUNS_LONG,
    definitions: Any = None,
    events: Any = (),
) -> Played:
    """Jobs of 1 vCPU in an environment `elastic`, as they are at some time."""
    order = [{"order": 1, "computeEnvironment": "elastic"}]
    return play(
        jobs,
        others=[written("ComputeEnvironment", "elastic", spec)],
        queue={"computeEnvironmentOrder": order},
        behaviors=behaviors,
        definitions=definitions,
        events=events,
        until=until,
    )


def array(size: int) -> dict[str, Any]:
    return {"a": {"arrayProperties": {"size": size}}}


def nodes(found: Played) -> dict[str, int]:
    """How many nodes there should be, by instance type, and are."""
    pools = found.environment("elastic").get("pools", ())
    assert all(one["desired"] == one["ready"] for one in pools)
    return {one["instanceType"]: one["desired"] for one in pools if one["desired"]}


def refused(instance_type: str, lasts: str, at: str = "0s") -> dict[str, Any]:
    return {"at": at, "refuseCapacity": {"instanceType": instance_type, "for": lasts}}


def after_a_refusal(strategy: str, *types: Spec) -> dict[str, int]:
    """Nodes for a job that comes half an hour after the pool of `cheap` has refused once.

    The job before it found its node in another pool and is over.
    """
    spec = environment(*types, capacityTypes=SPOT, allocationStrategy=strategy)
    late = written("BatchJob", "late", {"jobQueue": "main", "jobDefinition": "work"})
    found = played(
        {"early": {}},
        spec,
        behaviors=[{"job": "early", "runtime": "10s"}, *RUNS_LONG],
        events=[refused("cheap", "10s"), {"at": "30m", "apply": late}],
        until="32m",
    )
    assert found.state("early") == "SUCCEEDED"
    return nodes(found)


@rule("resources.best-fit")
def test_best_fit_takes_the_cheapest_node_that_holds_the_job() -> None:
    """Compute resources: BEST_FIT."""
    spec = environment(LARGE, SMALL, allocationStrategy="BEST_FIT")
    wide = {"podTemplate": pod_template("5")}

    assert nodes(played(array(32), spec)) == {"small": 8}
    found = played({"a": {"jobDefinition": "wide"}}, spec, definitions={"wide": wide})
    assert nodes(found) == {"large": 1}


@rule("resources.best-fit-waits")
def test_best_fit_waits_for_its_type() -> None:
    """Compute resources: BEST_FIT without capacity."""
    spec = environment(SMALL, LARGE, allocationStrategy="BEST_FIT")
    while_refused = played(array(4), spec, events=[refused("small", "10m")])
    afterwards = played(array(4), spec, events=[refused("small", "1m")], until="10m")

    assert nodes(while_refused) == {}
    assert nodes(afterwards) == {"small": 1}


@rule("resources.progressive")
def test_the_price_of_a_vcpu_decides_as_far_as_it_is_used() -> None:
    """Compute resources: BEST_FIT_PROGRESSIVE."""
    spec = environment(SMALL, LARGE, allocationStrategy="BEST_FIT_PROGRESSIVE")

    assert nodes(played(array(32), spec)) == {"large": 2}
    assert nodes(played(array(2), spec)) == {"small": 1}


@rule("resources.progressive-next")
def test_the_next_type_is_taken_while_one_is_refused() -> None:
    """Compute resources: BEST_FIT_PROGRESSIVE without capacity."""
    spec = environment(SMALL, LARGE, allocationStrategy="BEST_FIT_PROGRESSIVE")
    found = played(array(32), spec, events=[refused("large", "10m")])

    assert nodes(found) == {"small": 8}


@rule("resources.ordered")
def test_the_list_decides_among_types_that_are_large_enough() -> None:
    """Compute resources: BEST_FIT_PROGRESSIVE_ORDERED."""
    ordered = {"allocationStrategy": "BEST_FIT_PROGRESSIVE_ORDERED"}
    wide = {"podTemplate": pod_template("5")}

    assert nodes(played(array(2), environment(LARGE, SMALL, **ordered))) == {"large": 1}
    assert nodes(played(array(2), environment(SMALL, LARGE, **ordered))) == {"small": 1}
    found = played(
        {"a": {"jobDefinition": "wide"}},
        environment(SMALL, LARGE, **ordered),
        definitions={"wide": wide},
    )
    assert nodes(found) == {"large": 1}


@rule("resources.ordered-on-demand")
def test_the_list_is_for_on_demand_alone() -> None:
    """Compute resources: BEST_FIT_PROGRESSIVE_ORDERED and Spot Instances."""
    ordered = environment(allocationStrategy="BEST_FIT_PROGRESSIVE_ORDERED")
    refused = refusal("ComputeEnvironment", {**ordered, "capacityTypes": ["spot"]})

    assert "BEST_FIT_PROGRESSIVE_ORDERED is for on-demand alone" in (refused or "")
    assert refusal("ComputeEnvironment", ordered) is None


@rule("resources.spot-capacity")
def test_a_pool_that_refused_lately_comes_after_one_that_did_not() -> None:
    """Compute resources: SPOT_CAPACITY_OPTIMIZED."""
    assert after_a_refusal("SPOT_CAPACITY_OPTIMIZED", CHEAP, DEAR) == {"dear": 1}
    assert after_a_refusal("BEST_FIT_PROGRESSIVE", CHEAP, DEAR) == {"cheap": 1}


@rule("resources.spot-price-capacity")
def test_a_refusal_weighs_as_much_as_the_price_once_more() -> None:
    """Compute resources: SPOT_PRICE_CAPACITY_OPTIMIZED: 0.04 twice is more than 0.06, not 0.09."""
    dearer = {**DEAR, "spotPricePerHour": 0.09}

    assert after_a_refusal("SPOT_PRICE_CAPACITY_OPTIMIZED", CHEAP, DEAR) == {"dear": 1}
    assert after_a_refusal("SPOT_PRICE_CAPACITY_OPTIMIZED", CHEAP, dearer) == {"cheap": 1}


@rule("resources.spot-prioritized")
def test_the_list_decides_where_capacity_does_not() -> None:
    """Compute resources: SPOT_CAPACITY_OPTIMIZED_PRIORITIZED."""
    prioritized = "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED"
    other = {**DEAR, "name": "other"}
    spec = environment(DEAR, CHEAP, capacityTypes=SPOT, allocationStrategy=prioritized)

    assert nodes(played(array(2), spec)) == {"dear": 1}
    assert after_a_refusal(prioritized, CHEAP, other, DEAR) == {"other": 1}


@rule("resources.spot-only")
def test_on_demand_comes_when_spot_refuses() -> None:
    """Compute resources: the SPOT_ strategies and On-Demand Instances."""
    free = {**SMALL, "pricePerHour": 0.0, "spotPricePerHour": 0.1}
    spec = environment(free, capacityTypes=BOTH, allocationStrategy="SPOT_CAPACITY_OPTIMIZED")
    spot_refuses = {"at": "0s", "refuseCapacity": {"capacityType": "spot", "for": "10m"}}
    with_spot, without = played(array(4), spec), played(array(4), spec, events=[spot_refuses])

    assert [one["capacityType"] for one in with_spot.environment("elastic")["pools"]] == ["spot"]
    assert [
        one["capacityType"] for one in without.environment("elastic")["pools"] if one["desired"]
    ] == ["on-demand"]


@rule("resources.default-strategy")
def test_prices_decide_when_no_strategy_is_given() -> None:
    """Compute resources: default of allocationStrategy."""
    assert nodes(played(array(32), environment(SMALL, LARGE))) == {"large": 2}
    assert nodes(played(array(4), environment(DEAR, CHEAP, capacityTypes=SPOT))) == {"cheap": 1}


@rule("resources.min")
def test_the_minimum_is_kept_idle_and_disabled() -> None:
    """Compute resources: minvCpus."""
    assert nodes(played({}, environment(minvCpus=6), until="10m")) == {"small": 2}
    assert nodes(played({}, environment(minvCpus=6, state="DISABLED"), until="10m")) == {"small": 2}


@rule("resources.desired")
def test_desired_vcpus_follow_the_jobs() -> None:
    """Compute resources: desiredvCpus."""
    spec = environment(minvCpus=4)
    busy = played(array(10), spec).environment("elastic")
    over = played(array(10), spec, behaviors=RUNS_SHORT, until="10m").environment("elastic")

    assert busy["vcpus"] == {"used": "10", "max": 100, "desired": 12}
    assert over["vcpus"] == {"used": "0", "max": 100, "desired": 4}


@rule("resources.max")
def test_the_maximum_is_exceeded_by_one_node_at_most() -> None:
    """Compute resources: maxvCpus."""
    best_fit = {"allocationStrategy": "BEST_FIT"}

    assert nodes(played(array(10), environment(maxvCpus=6))) == {"small": 2}
    assert nodes(played(array(10), environment(maxvCpus=6, **best_fit))) == {"small": 1}


@rule("resources.scale-in")
def test_only_nodes_without_jobs_go() -> None:
    """Compute resources: scale-in."""
    behaviors = [{"job": "a", "index": 0, "runtime": "1h"}, *RUNS_SHORT]
    found = played(array(20), environment(), behaviors=behaviors, until="30m")

    assert found.counts("a") == {"RUNNING": 1, "SUCCEEDED": 19}
    assert found.attempts("a") == 20
    assert nodes(found) == {"small": 1}


@rule("resources.delay")
def test_a_node_stays_for_a_while_after_its_last_job() -> None:
    """Compute resources: minScaleDownDelayMinutes."""
    spec = environment(scalingPolicy={"minScaleDownDelayMinutes": 5})
    during = played(array(4), spec, behaviors=RUNS_SHORT, until="5m")
    after = played(array(4), spec, behaviors=RUNS_SHORT, until="7m")

    assert nodes(during) == {"small": 1}
    assert nodes(after) == {}


@rule("resources.bid")
def test_a_spot_price_above_the_bid_is_not_paid() -> None:
    """Compute resources: bidPercentage."""
    spec = environment({**SMALL, "spotPricePerHour": 0.15}, capacityTypes=BOTH)
    bid = {**spec, "bidPercentage": 70}

    [accepted] = played(array(4), spec).environment("elastic")["pools"]
    [too_dear] = played(array(4), bid).environment("elastic")["pools"]

    assert (accepted["capacityType"], too_dear["capacityType"]) == ("spot", "on-demand")
