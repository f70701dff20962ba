"""What is said of nodes that are not as they should be."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import CapacityType
from batch_operator.provisioning.history import History
from batch_operator.provisioning.node_faults import node_faults
from batch_operator.provisioning.pools import PoolKey
from support.builders import START
from support.managed import a_node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.provisioning.nodes import Node

HOUR = timedelta(hours=1)
SMALL, SPOT = (PoolKey("small", one) for one in (CapacityType.ON_DEMAND, CapacityType.SPOT))


def told(
    *nodes: Node,
    strays: Iterable[Node] = (),
    histories: Mapping[PoolKey, History] | None = None,
    after: timedelta = HOUR,
) -> dict[str, str]:
    found = node_faults("elastic", nodes, strays, histories or {}, START + after)
    return {one.reason: one.message for one in found}


def test_nothing_is_said_of_nodes_that_are_in_order_or_on_their_way_out() -> None:
    drained = a_node("b", cordoned=True, draining_since=START)

    assert told(a_node("a"), drained) == {}


def test_a_node_that_is_not_ready_is_told_of_after_a_while() -> None:
    late = a_node("late", ready=False, unready_since=START)

    assert told(late, after=timedelta(minutes=4)) == {}
    assert told(late, after=timedelta(minutes=5))["NodesNotReady"].startswith("node late not ready")


def test_a_node_that_somebody_cordoned_is_told_of() -> None:
    assert told(a_node("c", cordoned=True))["NodesCordoned"].startswith("node c cordoned by")


def test_a_node_of_no_known_pool_is_told_of() -> None:
    assert told(a_node("c", pool=None))["NodesUnlabelled"].startswith("node c without a proper")


def test_a_node_that_does_not_say_whether_it_is_spot_is_told_of() -> None:
    said = told(a_node("u", says_capacity_type=False))["NodesOfUnknownCapacityType"]

    assert said.startswith("node u without the label batch-operator.io/capacity-type: counted and")


def test_a_node_without_the_label_of_its_environment_is_told_of() -> None:
    said = told(strays=[a_node("o", environment="")])["NodesOrphaned"]

    assert said.startswith("node o without the label batch-operator.io/compute-environment")
    assert said.endswith("delete, or label with elastic")


def test_a_node_that_two_environments_claim_is_told_of_at_each_with_the_other() -> None:
    said = told(strays=[a_node("d", environment="other")])["NodesDisputed"]

    assert "(the other: other)" in said


def test_a_taint_without_a_value_is_that_of_no_environment() -> None:
    said = told(strays=[a_node("d", claimed_by="")])["NodesDisputed"]

    assert "(the other: none, for the taint has no value)" in said


def test_on_demand_nodes_that_were_lost_are_told_of_for_an_hour_and_spot_nodes_never() -> None:
    lost = History(interruptions=1, interrupted_at=START)

    assert "NodesLost" in told(histories={SMALL: lost}, after=HOUR - timedelta(seconds=1))
    assert told(histories={SMALL: lost}, after=HOUR) == {}
    assert told(histories={SPOT: lost}, after=timedelta(0)) == {}


def test_of_many_nodes_three_are_named() -> None:
    many = [a_node(f"n{number}", cordoned=True) for number in range(5)]

    assert told(*many)["NodesCordoned"].startswith("nodes n0, n1, n2 and 2 more cordoned")


def test_what_costs_most_comes_first() -> None:
    found = told(a_node("c", cordoned=True), strays=[a_node("o", environment="")])

    assert list(found) == ["NodesOrphaned", "NodesCordoned"]
