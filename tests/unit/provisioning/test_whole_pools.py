"""Plans for pools that nobody can take a single node out of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType
from batch_operator.provisioning.plan import View, plan_capacity
from batch_operator.provisioning.pools import PoolKey, Space
from support.builders import START
from support.scaled import scale_environment, scaled_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_operator.provisioning.nodes import Node
    from batch_operator.provisioning.plan import CapacityPlan

SMALL = PoolKey("small", CapacityType.ON_DEMAND)
LONG_AGO, NOW = START, START + timedelta(hours=1)
IDLE = {"n-1": LONG_AGO, "n-2": LONG_AGO}


def planned(nodes: Sequence[Node], scale_in: str = "WhenPoolIsIdle", **view: Any) -> CapacityPlan:
    nodes = [replace(one, ready=True, unready_since=None) for one in nodes]
    return plan_capacity(View(spec=scale_environment(scale_in).spec, nodes=nodes, now=NOW, **view))


def names(nodes: Sequence[Node]) -> list[str]:
    return sorted(one.name for one in nodes)


BUSY = Space(Amounts(1000))


def test_an_idle_node_is_not_even_cordoned_while_another_of_its_pool_is_in_use() -> None:
    pool = [scaled_node("n-1"), scaled_node("n-2")]
    one_by_one = planned(pool, "MarkMachines", idle_since={"n-2": LONG_AGO}, load={"n-1": BUSY})
    whole = planned(pool, idle_since={"n-2": LONG_AGO}, load={"n-1": BUSY})

    assert names(one_by_one.cordon) == ["n-2"]
    assert names(whole.cordon) == []
    assert whole.desired == {SMALL: 2}


def test_a_pool_of_which_all_nodes_are_idle_goes() -> None:
    plan = planned([scaled_node("n-1"), scaled_node("n-2")], idle_since=IDLE)

    assert names(plan.cordon) == ["n-1", "n-2"]
    assert plan.desired.get(SMALL, 0) == 0


def test_all_are_cordoned_for_long_enough_and_go_together() -> None:
    plan = planned([scaled_node("n-1", draining=True), scaled_node("n-2", draining=True)])

    assert names(plan.remove) == ["n-1", "n-2"]


def test_one_that_is_in_use_again_calls_back_the_others() -> None:
    plan = planned([scaled_node("n-1"), scaled_node("n-2", draining=True)], load={"n-1": BUSY})

    assert names(plan.uncordon) == ["n-2"]
    assert names(plan.remove) == []
    assert plan.desired == {SMALL: 2}


def test_a_node_that_was_given_up_is_not_called_back() -> None:
    released = scaled_node("n-2", draining=True, released=True)

    plan = planned([scaled_node("n-1"), released], load={"n-1": BUSY})

    assert plan.uncordon == ()
    assert plan.desired == {SMALL: 1}
