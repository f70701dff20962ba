"""What nodes that come, go or never appear teach of their pools."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batch_operator.provisioning.history import History, has_never_worked
from batch_operator.provisioning.plan import View, plan_capacity
from batch_operator.scheduling.learning import learn, note_orders
from batch_operator.scheduling.nodes_memo import Capacity
from batch_operator.scheduling.snapshot import PoolRefusal
from support.environments import NOON, at, instance_type, managed, node, pool, space
from support.scaled import scale_environment

if TYPE_CHECKING:
    from datetime import datetime

    from batch_operator.provisioning.nodes import Node

SPEC = managed(instance_type("small", 4, "64Gi"), instance_type("gpu", 8, "64Gi", gpus=2))


def capacity(*nodes: Node, to_come: int = 0, **history: object) -> Capacity:
    """An environment that has been planned at noon with these nodes there."""
    known = Capacity({}, {pool(): to_come} if to_come else {})
    known.plan = plan_capacity(View(spec=SPEC, nodes=(), now=NOON))
    known.nodes = {one.uid: one for one in nodes}
    if history:
        known.histories[pool()] = replace(History(), **history)
    return known


def look(known: Capacity, *nodes: Node, now: datetime, refused: str | None = None) -> History:
    """The history of the pool after one look."""
    refusals = {pool(): PoolRefusal(now, refused)} if refused else {}
    learn(known, SPEC, nodes, refusals, (), now)
    return known.histories.get(pool(), History())


def starting(name: str = "n1", created_s: float = 0) -> Node:
    return node(
        name,
        ready=False,
        ready_at=None,
        created_at=at(created_s),
        unready_since=at(created_s),
    )


def ready(name: str = "n1", created_s: float = 0, ready_s: float = 0) -> Node:
    return node(name, created_at=at(created_s), ready_at=at(ready_s))


def test_a_node_that_is_there_is_on_order_no_more() -> None:
    known = capacity(to_come=3, waiting_since=NOON)
    history = look(known, starting("n1"), starting("n2"), now=at(10))

    assert known.to_come == {pool(): 1}
    assert history.waiting_since is None
    note_orders(known, at(10))
    assert known.histories[pool()].waiting_since == at(10)


def test_after_a_restart_no_node_is_new() -> None:
    known = Capacity({}, {pool(): 2})
    look(known, starting(), now=at(10))

    assert known.to_come == {pool(): 2}


def test_a_node_that_became_ready_says_how_long_it_took() -> None:
    known = capacity(starting())

    assert look(known, ready(ready_s=42), now=at(43)).ready_seconds == 42
    assert look(known, ready(ready_s=42), now=at(44)).ready_seconds == 42


def test_a_node_that_lost_touch_for_a_moment_did_not_take_days() -> None:
    known = capacity(ready(ready_s=42))
    look(known, ready(ready_s=42), now=at(43))
    look(known, starting(), now=at(86_400))

    assert look(known, ready(ready_s=86_500), now=at(86_500)).ready_seconds == 42


def test_orders_of_which_nothing_comes_count_as_refused_in_the_end() -> None:
    known = capacity(to_come=2)
    note_orders(known, NOON)
    assert not look(known, now=at(599)).is_refused(at(599))
    history = look(known, now=at(600))

    assert history.is_refused(at(600))
    assert known.to_come == {pool(): 0}
    assert has_never_worked(known.histories)


def test_an_order_that_is_waited_for_is_still_waited_for_after_a_restart() -> None:
    """What the status remembers is since when: the time does not begin anew."""
    known = Capacity({pool(): History(waiting_since=NOON)}, {pool(): 1})

    assert look(known, now=at(600)).refused_in_a_row == 1


def test_a_scaled_pool_is_waited_for_as_long_as_its_environment_says() -> None:
    """Machines that boot for longer than ten minutes would be taken back as they come up."""
    spec = scale_environment(timeout_minutes=40).spec
    known = capacity(to_come=1, waiting_since=NOON)
    learn(known, spec, (), {}, (), at(40 * 60 - 1))
    before = dict(known.to_come)
    learn(known, spec, (), {}, (), at(40 * 60))

    assert before == {pool(): 1}
    assert known.to_come == {pool(): 0}
    assert known.history(pool()).message == "no node of it became ready within 2400 s"


def test_as_long_as_nodes_come_one_after_the_other_nothing_is_overdue() -> None:
    known = capacity(to_come=3)
    nodes: list[Node] = []
    for number in range(3):
        note_orders(known, at(500 * number))
        nodes.append(starting(f"n{number}", 500 * (number + 1)))
        history = look(known, *nodes, now=at(500 * (number + 1)))

    assert history.refused_at is None


def test_a_node_that_never_became_ready_counts_as_a_refusal_once() -> None:
    broken = starting()
    draining = replace(broken, cordoned=True, draining_since=at(600))
    known = capacity(broken)

    assert look(known, broken, now=at(600)).refusals == 0
    assert look(known, draining, now=at(601)).refusals == 1
    assert look(known, draining, now=at(602)).refusals == 1
    assert look(known, now=at(603)).interruptions == 0


def test_a_node_that_broke_later_counts_as_an_interruption() -> None:
    broken = starting()
    known = capacity(broken, came_at=NOON)
    history = look(known, replace(broken, draining_since=at(600)), now=at(601))

    assert (history.refusals, history.interruptions) == (0, 1)


def test_a_node_that_goes_although_nobody_sent_it_away_counts_as_an_interruption() -> None:
    there, drained = ready("n1"), replace(ready("n2"), draining_since=NOON)

    assert look(capacity(there), now=at(1)).interruptions == 1
    assert look(capacity(drained), now=at(1)).interruptions == 0


def test_a_refusal_from_the_future_is_not_heard_before_its_time() -> None:
    """Whoever may write Events can write any time there."""
    known = capacity(to_come=2)
    told = {pool(): PoolRefusal(at(100), "none left")}
    learn(known, SPEC, (), told, (), at(99))
    early = known.history(pool())
    learn(known, SPEC, (), told, (), at(100))
    late = known.history(pool())

    assert (early.refusals, late.refusals) == (0, 1)
    assert late.is_refused(at(129))
    assert not late.is_refused(at(130))


def test_what_was_refused_is_learned_once_and_ordered_no_more() -> None:
    known = capacity(to_come=2)
    history = look(known, now=at(0.7), refused="none left")
    again = look(known, now=at(0.9), refused="none left")

    assert known.to_come == {pool(): 0}
    assert (history.refusals, again.refusals) == (1, 1)
    assert history.message == "none left"


def test_the_least_that_nodes_have_is_remembered_when_they_are_gone() -> None:
    known = capacity()
    one, other = node("n1", offers=space(3.9, 62)), node("n2", offers=space(3.8, 63))
    assert look(known, one, other, now=at(1)).allocatable == space(3.8, 62)
    assert look(known, one, now=at(2)).allocatable == space(3.9, 62)

    assert look(known, now=at(3)).allocatable == space(3.9, 62)


def test_what_nodes_had_that_are_gone_is_forgotten_after_six_hours() -> None:
    """One bad image must not close a pool to larger Pods for ever."""
    known = capacity()
    small = node("n1", offers=space(1))
    look(known, small, now=at(1))
    there = look(known, small, now=at(100 * 3600))
    gone = look(known, now=at(6 * 3600 - 1))

    assert there.allocatable == space(1)
    assert gone.allocatable == space(1)
    assert look(known, now=at(6 * 3600)).allocatable is None


def test_what_nodes_had_that_are_gone_is_forgotten_with_a_new_spec() -> None:
    """The change may be what mends it."""
    known = capacity()
    learned = look(known, node("n1", offers=space(1)), now=at(1))

    assert learned.tried_anew().allocatable is None


def test_a_node_that_has_not_told_all_it_has_teaches_nothing() -> None:
    known = capacity()
    bare = node("n1", of=pool("gpu"), offers=space(8, gpus=0))
    look(known, bare, starting("n2"), now=at(1))

    assert known.histories[pool("gpu")].allocatable is None
    assert known.histories.get(pool(), History()).allocatable is None
