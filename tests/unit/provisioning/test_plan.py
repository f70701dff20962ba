"""Plans by hand: which nodes are ordered for what waits, and which go when."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.amounts import Amounts
from batch_operator.provisioning.history import History
from batch_operator.provisioning.packing import Demand, Place
from batch_operator.provisioning.plan import Surplus, View, plan_capacity
from batch_operator.provisioning.pools import Space
from support.environments import (
    GIB,
    NOON,
    SPOT,
    ask,
    at,
    instance_type,
    managed,
    node,
    pool,
    space,
)

if TYPE_CHECKING:
    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.provisioning.plan import CapacityPlan

SMALL = instance_type("small", 4, "16Gi", pricePerHour=0.20)  # 0.05 a vCPU
LARGE = instance_type("large", 16, "64Gi", pricePerHour=0.64)  # 0.04 a vCPU
GPU = instance_type("gpu", 8, "64Gi", gpus=2, pricePerHour=4.0)
BOTH = {"capacityTypes": ["spot", "on-demand"]}
BEST_FIT = {"allocationStrategy": "BEST_FIT"}
LISTED = {"allocationStrategy": "BEST_FIT_PROGRESSIVE_ORDERED"}


def plan(spec: ComputeEnvironmentSpec, *demand: Demand, **view: Any) -> CapacityPlan:
    """The plan at noon, of an environment without nodes unless `nodes` are given."""
    return plan_capacity(View(**{"spec": spec, "nodes": (), "now": NOON, "demand": demand, **view}))


def desired(found: CapacityPlan) -> dict[str, int]:
    return {
        key.instance_type + (" spot" if key.capacity_type is SPOT else ""): count
        for key, count in found.desired.items()
    }


def unmet(found: CapacityPlan) -> int:
    return sum(one.count for one in found.unmet)


ORDERED: dict[str, tuple[ComputeEnvironmentSpec, list[Demand], dict[str, int], int]] = {
    "nothing waits": (managed(SMALL), [], {}, 0),
    "ten of one vCPU, four to a node": (managed(SMALL), [ask(10)], {"small": 3}, 0),
    "the lower price of a vCPU where all of it is used": (
        managed(SMALL, LARGE), [ask(32)], {"large": 2}, 0,
    ),
    "a last node that is no larger than pays": (  # 0.64/2 against 0.20/2 for the last two
        managed(SMALL, LARGE), [ask(18)], {"large": 1, "small": 1}, 0,
    ),
    "three small ones before a large one that is half used": (  # 0.64/8 against 0.20/4
        managed(SMALL, LARGE), [ask(8)], {"small": 2}, 0,
    ),
    "by the list the first type, however large": (
        managed(LARGE, SMALL, **LISTED), [ask(1)], {"large": 1}, 0,
    ),
    "by the list a type that is too small is skipped": (
        managed(SMALL, LARGE, **LISTED), [ask(1, vcpus=5)], {"large": 1}, 0,
    ),
    "memory fills a node first": (managed(SMALL), [ask(4, memory_gib=8)], {"small": 2}, 0),
    "GPUs fill a node first": (managed(SMALL, GPU), [ask(3, gpus=1)], {"gpu": 2}, 0),
    "110 Pods fill a node first": (managed(LARGE), [ask(200, 0.01, 0)], {"large": 2}, 0),
    "nodeOverhead leaves room for three": (
        managed(SMALL, nodeOverhead={"cpu": "200m"}), [ask(4)], {"small": 2}, 0,
    ),
    "the large ones first, the small ones into what is left": (
        managed(LARGE), [ask(12), ask(2, vcpus=10)], {"large": 2}, 0,
    ),
    "for one type alone": (
        managed(SMALL, LARGE), [ask(32, instance_type="small")], {"small": 8}, 0,
    ),
    "for a type that is not listed": (managed(SMALL), [ask(1, instance_type="other")], {}, 1),
    "for on-demand alone": (
        managed(SMALL, **BOTH), [ask(1, on_demand=True), ask(4)], {"small": 1, "small spot": 1}, 0,
    ),
    "a node on demand no larger than pays, whatever waits for spot": (
        managed(SMALL, LARGE, **BOTH), [ask(1, 4, on_demand=True), ask(16)],
        {"small": 1, "large spot": 1}, 0,
    ),
    "for on-demand where there is none": (
        managed(SMALL, capacityTypes=["spot"]), [ask(1, on_demand=True)], {}, 1,
    ),
    "too large for every type": (
        managed(SMALL, LARGE), [ask(2, vcpus=17), ask(1)], {"small": 1}, 2,
    ),
    "a request of nothing needs a node too": (managed(SMALL), [ask(1, 0, 0)], {"small": 1}, 0),
    "minvCpus without any demand": (
        managed(SMALL, LARGE, minvCpus=18), [], {"large": 1, "small": 1}, 0,
    ),
    "minvCpus within what is needed anyway": (
        managed(SMALL, minvCpus=4), [ask(5)], {"small": 2}, 0,
    ),
    "maxvCpus may be exceeded by one node": (managed(SMALL, maxvCpus=6), [ask(6)], {"small": 2}, 0),
    "by one node and no more": (managed(SMALL, maxvCpus=6), [ask(16)], {"small": 2}, 8),
    "never by BEST_FIT": (managed(SMALL, maxvCpus=6, **BEST_FIT), [ask(6)], {"small": 1}, 2),
    "a smaller type that fits before one that exceeds": (
        managed(LARGE, SMALL, maxvCpus=20, **LISTED), [ask(20)], {"large": 1, "small": 1}, 0,
    ),
    "the smallest one exceeds": (
        managed(LARGE, SMALL, maxvCpus=18, **LISTED), [ask(18)], {"large": 1, "small": 1}, 0,
    ),
    "BEST_FIT takes the cheapest node": (
        managed(SMALL, LARGE, **BEST_FIT), [ask(32)], {"small": 8}, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ORDERED)
def test_what_is_ordered_from_nothing(case: str) -> None:
    spec, demand, expected, left = ORDERED[case]
    found = plan(spec, *demand)

    assert desired(found) == desired(replace(found, desired=found.to_come)) == expected
    assert unmet(found) == left
    sizes = {one.name: one.vcpus for one in spec.instance_types}
    assert found.vcpus == sum(
        sizes[key.instance_type] * count for key, count in found.desired.items()
    )


def test_a_plan_does_not_hang_on_the_order_in_which_demand_is_told() -> None:
    spec = managed(SMALL, LARGE, GPU, maxvCpus=64)
    demand = [ask(5), ask(3, 6), ask(2, gpus=1), ask(4, 2, gang="a"), ask(2, 1, 8, on_demand=True)]

    assert plan(spec, *demand) == plan(spec, *reversed(demand))


# Capacity that is refused


def test_the_next_type_is_asked_while_one_is_refused() -> None:
    refused = {pool("large"): History().refused(NOON, "none left")}
    spec = managed(SMALL, LARGE)

    assert desired(plan(spec, ask(32), histories=refused)) == {"small": 8}
    assert desired(plan(spec, ask(32), histories=refused, now=at(30))) == {"large": 2}


def test_a_gang_is_refused_as_a_whole_when_a_part_of_it_is() -> None:
    """Its main node would wait for ever for the others, in an environment that has none for it."""
    refused = {pool("gpu"): History().refused(NOON, "none left")}
    main, others = ask(1, gang="a/1"), ask(2, gpus=1, gang="a/1")
    alone = ask(1, vcpus=2)
    found = plan(managed(SMALL, GPU), main, others, alone, histories=refused)

    assert set(found.refused) == {main, others}
    assert unmet(found) == 3


def test_on_demand_is_asked_while_spot_is_refused() -> None:
    refused = {pool("small", SPOT): History().refused(NOON, "none left")}

    assert desired(plan(managed(SMALL, **BOTH), ask(4), histories=refused)) == {"small": 1}


def test_best_fit_waits_for_its_type() -> None:
    refused = {pool("small"): History().refused(NOON, "none left")}
    found = plan(managed(SMALL, LARGE, **BEST_FIT), ask(4), histories=refused)

    assert (desired(found), unmet(found)) == ({}, 4)
    assert found.look_again_at == at(30)


def test_what_was_ordered_of_a_pool_that_refuses_is_on_order_no_more() -> None:
    refused = {pool("large"): History().refused(NOON, "none left")}
    found = plan(managed(SMALL, LARGE), ask(4), histories=refused, to_come={pool("large"): 1})

    assert desired(found) == {"small": 1}


# Nodes of multi-node jobs


def test_a_gang_gets_room_for_all_of_it_or_none() -> None:
    spec = managed(SMALL, maxvCpus=8)

    assert desired(plan(spec, ask(2, 4, gang="a"))) == {"small": 2}
    found = plan(spec, ask(3, 4, gang="a"))
    assert (desired(found), unmet(found)) == ({}, 3)


def test_a_gang_of_several_kinds_of_node_is_one() -> None:
    main, workers = ask(1, 4, gang="a"), ask(2, 2, gang="a")
    spec = managed(SMALL, maxvCpus=4, **BEST_FIT)
    found = plan(spec, main, workers)

    assert (desired(found), unmet(found)) == ({}, 3)
    assert desired(plan(managed(SMALL, maxvCpus=8), main, workers)) == {"small": 2}


def test_what_a_gang_leaves_is_there_for_others() -> None:
    spec = managed(SMALL, maxvCpus=8, **BEST_FIT)
    found = plan(spec, ask(3, 4, gang="a"), ask(2, 2, gang="b"), ask(2))

    assert desired(found) == {"small": 2}
    assert [one.gang for one in found.unmet] == ["a"]


# Nodes that there are


def test_room_that_there_is_comes_before_new_nodes() -> None:
    load = {"n1": Space(Amounts(1000, GIB), 1)}
    found = plan(managed(SMALL), ask(4), nodes=[node("n1")], load=load)

    assert desired(found) == {"small": 2}  # three fit beside the one that runs
    assert dict(found.to_come) == {pool(): 1}


def test_pods_that_run_count_against_the_number_that_a_node_takes() -> None:
    nodes = [node("n1", offers=space(4, pods=3))]
    found = plan(managed(SMALL), ask(2, 0.1), nodes=nodes, load={"n1": Space(Amounts(100, 1), 2)})

    assert dict(found.to_come) == {pool(): 1}


def test_orders_come_before_new_ones() -> None:
    found = plan(managed(SMALL), ask(4), to_come={pool(): 1})

    assert desired(found) == {"small": 1}


def test_orders_of_types_that_are_listed_no_more_are_dropped() -> None:
    assert desired(plan(managed(SMALL), ask(4), to_come={pool("other"): 3})) == {"small": 1}


def test_a_node_of_a_type_that_is_listed_no_more_is_used_and_goes_when_idle() -> None:
    old = node("old", of=pool("other"), offers=space(8))
    used = plan(managed(SMALL), ask(8), nodes=[old])
    idle = plan(managed(SMALL), nodes=[old], idle_since={"old": at(-60)})

    assert (desired(used), used.vcpus) == ({"other": 1}, 8)
    assert (desired(idle), idle.cordon) == ({}, (old,))


def test_a_node_without_labels_is_room_for_what_asks_for_no_type() -> None:
    bare = replace(node("bare"), pool=None)

    assert desired(plan(managed(SMALL), ask(4), nodes=[bare])) == {}
    assert desired(plan(managed(SMALL), ask(4, instance_type="small"), nodes=[bare])) == {
        "small": 1
    }


def test_a_node_that_somebody_cordoned_is_no_room() -> None:
    found = plan(managed(SMALL), ask(4), nodes=[node(cordoned=True)])

    assert dict(found.to_come) == {pool(): 1}


def test_a_lost_node_is_not_ordered_again_for_nobody() -> None:
    assert desired(plan(managed(SMALL), nodes=[node("n1", notice="spot")])) == {}


@pytest.mark.parametrize("load", [{}, {"n1": space(1)}], ids=["idle", "busy"])
def test_an_announced_node_is_cordoned_and_no_room(load: dict[str, Space]) -> None:
    going = node("n1", notice="spot")
    found = plan(managed(SMALL), ask(4), nodes=[going], load=load)

    assert found.cordon == (going,)
    assert dict(found.to_come) == {pool(): 1}


def test_a_node_that_is_starting_counts_with_what_it_will_have() -> None:
    """A cloud's GPUs are not allocatable before their device plugin runs, long after Ready."""
    spec = managed(GPU)
    bare = node("n1", of=pool("gpu"), offers=space(8, gpus=0))

    assert dict(plan(spec, ask(2, gpus=1), nodes=[bare], now=at(599)).to_come) == {}
    assert dict(plan(spec, ask(2, gpus=1), nodes=[bare], now=at(600)).to_come) == {pool("gpu"): 1}


@pytest.mark.parametrize("is_gang", [False, True])
def test_places_that_are_full_are_not_tried_for_every_kind_of_pod(
    monkeypatch: pytest.MonkeyPatch, *, is_gang: bool
) -> None:
    """Tenants choose how many kinds there are: Pods whose memory differs by a byte are each one."""
    tried: list[int] = []
    count_of = Place.count_of
    monkeypatch.setattr(
        Place, "count_of", lambda place, one: (tried.append(1), count_of(place, one))[1]
    )
    kinds = [
        Demand(Amounts(4000, GIB + number), 1, gang=f"g{number}" if is_gang else None)
        for number in range(200)
    ]
    found = plan(managed(SMALL, maxvCpus=1000), *kinds)

    assert desired(found) == {"small": 200}
    assert len(tried) < 10 * len(kinds)


@pytest.mark.parametrize(
    ("unready_since", "ordered"),
    [
        pytest.param(0, 0, id="since it was made: it is starting"),
        pytest.param(5, 0, id="by a clock that is a little ahead"),
        pytest.param(3600, 1, id="it was ready and has died"),
    ],
)
def test_a_node_that_has_died_is_no_room_and_counts_all_the_same(
    *, unready_since: int, ordered: int
) -> None:
    """kube-scheduler's taint keeps Pods away from it at once."""
    dead = node("n1", ready=False, ready_at=None, unready_since=at(unready_since))
    now = at(unready_since + 60)
    roomy = plan(managed(SMALL), ask(1), nodes=[dead], now=now)
    narrow = plan(managed(SMALL, maxvCpus=4), ask(1), nodes=[dead], now=now)

    assert sum(roomy.to_come.values()) == ordered
    assert (roomy.cordon, narrow.to_come) == ((), {})


def test_a_node_that_stays_unready_is_broken_replaced_and_removed() -> None:
    dead = node("n1", ready=False, ready_at=None, unready_since=NOON)
    spec = managed(SMALL)

    waiting = plan(spec, ask(4), nodes=[dead], now=at(599))
    assert (waiting.cordon, waiting.look_again_at) == ((), at(600))
    given_up = plan(spec, ask(4), nodes=[dead], now=at(600))
    assert (given_up.cordon, dict(given_up.to_come)) == ((dead,), {pool(): 1})
    draining = replace(dead, cordoned=True, draining_since=at(600))
    assert plan(spec, ask(4), nodes=[draining], now=at(605)).remove == (draining,)


def test_where_machines_start_slowly_a_dead_node_is_given_up_no_later() -> None:
    """Half an hour to start, times five: that is how long a new one is waited for."""
    slow = {pool(): History(came_at=NOON, ready_seconds=1800)}
    started, dead = (
        node("n1", ready=False, ready_at=None, unready_since=at(since)) for since in (0, 9001)
    )
    spec = managed(SMALL)

    assert plan(spec, nodes=[started], histories=slow, now=at(8999)).look_again_at == at(9000)
    assert plan(spec, nodes=[started], histories=slow, now=at(9000)).cordon == (started,)
    assert plan(spec, nodes=[dead], histories=slow, now=at(9600)).look_again_at == at(9601)
    assert plan(spec, nodes=[dead], histories=slow, now=at(9601)).cordon == (dead,)


def test_new_nodes_are_planned_with_what_nodes_of_the_pool_really_had() -> None:
    """Of 16 GiB the system keeps one: three Pods of 4 GiB fit, not four."""
    spec = managed(SMALL)
    asked = ask(4, vcpus=1, memory_gib=4)

    assert desired(plan(spec, asked)) == {"small": 1}
    learned = {pool(): History(allocatable=space(3.9, 15, pods=29))}
    assert desired(plan(spec, asked, histories=learned)) == {"small": 2}


def test_a_node_may_take_more_pods_than_kubelets_usually_do() -> None:
    learned = {pool(): History(allocatable=space(4, 16, pods=250))}

    assert desired(plan(managed(SMALL), ask(200, 0.01, 0), histories=learned)) == {"small": 1}


def test_what_daemon_sets_take_is_taken_off_old_and_new_nodes() -> None:
    daemons = {pool(): Space(Amounts(500, GIB), 2)}
    spec = managed(SMALL)

    assert desired(plan(spec, ask(4), daemons=daemons)) == {"small": 2}
    assert desired(plan(spec, ask(3), daemons=daemons)) == {"small": 1}
    assert desired(plan(spec, ask(4), daemons=daemons, nodes=[node()])) == {"small": 2}


# State, minvCpus and maxvCpus


def test_a_disabled_environment_keeps_its_minimum_and_adds_nothing_for_demand() -> None:
    found = plan(managed(SMALL, minvCpus=4), ask(9), is_enabled=False)

    assert (desired(found), unmet(found)) == ({"small": 1}, 9)


def test_nodes_on_their_way_out_count_until_they_are_gone() -> None:
    leaving = [node(f"n{number}", notice="spot") for number in range(2)]
    found = plan(managed(SMALL, maxvCpus=8), ask(4), nodes=leaving)

    assert (desired(found), unmet(found)) == ({}, 4)


def test_the_minimum_is_kept_by_nodes_on_their_way_out_before_new_ones() -> None:
    leaving = node("n1", cordoned=True, draining_since=NOON)
    found = plan(managed(SMALL, minvCpus=4), nodes=[leaving], now=at(60))

    assert (found.uncordon, found.remove, dict(found.to_come)) == ((leaving,), (), {})


# Scale-in


def test_a_node_goes_when_it_has_been_idle_for_long_enough() -> None:
    spec = managed(SMALL, scalingPolicy={"minScaleDownDelayMinutes": 20})
    idle = node("n1")

    early = plan(spec, nodes=[idle], idle_since={"n1": NOON}, now=at(1199))
    assert (early.cordon, early.look_again_at) == ((), at(1200))
    late = plan(spec, nodes=[idle], idle_since={"n1": NOON}, now=at(1200))
    assert (late.cordon, desired(late)) == ((idle,), {})


def test_a_delay_of_zero_takes_a_node_as_soon_as_it_is_idle() -> None:
    spec = managed(SMALL, scalingPolicy={"minScaleDownDelayMinutes": 0})

    assert plan(spec, nodes=[node("n1")]).cordon == (node("n1"),)


def test_a_node_for_which_something_waits_is_not_idle() -> None:
    found = plan(managed(SMALL), ask(1), nodes=[node("n1")], idle_since={"n1": at(-3600)})

    assert found.cordon == ()
    assert dict(found.idle_since) == {}


def test_a_busy_node_stays() -> None:
    found = plan(
        managed(SMALL), nodes=[node("n1")], load={"n1": space(1)}, idle_since={"n1": at(-3600)}
    )

    assert (found.cordon, found.remove, desired(found)) == ((), (), {"small": 1})


def test_the_newest_idle_nodes_go_first_and_the_minimum_stays() -> None:
    nodes = [node(f"n{number}", created_at=at(number)) for number in range(3)]
    idle = {one.name: at(-60) for one in nodes}
    found = plan(managed(SMALL, minvCpus=5), nodes=nodes, idle_since=idle)

    assert (found.cordon, found.look_again_at) == ((nodes[2],), None)


def test_a_cordoned_node_is_removed_when_what_came_meanwhile_would_be_known() -> None:
    draining = node("n1", cordoned=True, draining_since=NOON)
    spec = managed(SMALL)

    early = plan(spec, nodes=[draining], now=at(4))
    assert (early.remove, early.look_again_at) == ((), at(5))
    assert plan(spec, nodes=[draining], now=at(5)).remove == (draining,)
    assert plan(spec, nodes=[draining], now=at(5), load={"n1": space(1)}).remove == ()


def test_a_job_that_arrives_while_a_node_drains_wins() -> None:
    draining = node("n1", cordoned=True, draining_since=NOON)
    found = plan(managed(SMALL), ask(1), nodes=[draining], now=at(5))

    assert (found.uncordon, found.remove, dict(found.to_come)) == ((draining,), (), {})
    assert desired(found) == {"small": 1}


def test_a_disabled_environment_calls_no_node_back() -> None:
    draining = node("n1", cordoned=True, draining_since=NOON)
    found = plan(managed(SMALL), ask(1), nodes=[draining], now=at(5), is_enabled=False)

    assert (found.uncordon, found.remove) == ((), (draining,))


# Orders that are not needed any more


def test_an_order_is_taken_back_when_it_was_not_needed_for_as_long_as_a_node_stays_idle() -> None:
    spec, orders = managed(SMALL), {pool(): 3}
    first = plan(spec, ask(4), to_come=orders)
    assert (dict(first.to_come), dict(first.surplus)) == (orders, {pool(): Surplus(NOON, 2)})
    assert first.look_again_at == at(60)

    last = plan(spec, ask(4), to_come=orders, surplus=first.surplus, now=at(60))
    assert (dict(last.to_come), dict(last.surplus)) == ({pool(): 1}, {})


def test_of_orders_only_so_many_are_taken_back_as_were_over_all_the_time() -> None:
    spec, orders = managed(SMALL), {pool(): 3}
    first = plan(spec, ask(4), to_come=orders)
    fewer = plan(spec, ask(8), to_come=orders, surplus=first.surplus, now=at(30))
    last = plan(spec, ask(4), to_come=orders, surplus=fewer.surplus, now=at(60))

    assert dict(last.to_come) == {pool(): 2}
    assert dict(last.surplus) == {pool(): Surplus(at(60), 1)}


def test_orders_that_are_all_needed_again_begin_anew() -> None:
    spec, orders = managed(SMALL), {pool(): 2}
    first = plan(spec, ask(4), to_come=orders)
    needed = plan(spec, ask(8), to_come=orders, surplus=first.surplus, now=at(59))
    last = plan(spec, ask(4), to_come=orders, surplus=needed.surplus, now=at(60))

    assert dict(last.to_come) == orders


def test_orders_for_the_minimum_are_needed() -> None:
    found = plan(managed(SMALL, minvCpus=8), to_come={pool(): 3})

    assert dict(found.surplus) == {pool(): Surplus(NOON, 1)}
