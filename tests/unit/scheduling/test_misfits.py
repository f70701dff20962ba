"""Pods that kube-scheduler does not put where there is room: what they hold, order and say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from batch_operator.api.compute_environment import ComputeEnvironmentStatus
from batch_operator.lifecycle.attempt import Phase
from batch_operator.scheduling.awaited import node_hold
from batch_operator.scheduling.capacity import provide
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.snapshot import Changes, Snapshot
from support.builders import attempt, environment
from support.environments import GIB, NOON, at, instance_type, managed, node

if TYPE_CHECKING:
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.holds import Hold
    from batch_operator.provisioning.nodes import Node
    from batch_operator.scheduling.faults import Fault

SMALL = instance_type("small", 4)
ELASTIC = replace(environment("elastic"), spec=managed(SMALL), status=ComputeEnvironmentStatus())
ZONE = "0/{} nodes are available: {} node(s) didn't match Pod's node affinity/selector."


class Waiting:
    """An environment, its nodes, and Pods that wait there; each cycle sees what they are then."""

    def __init__(self, *attempts: PodAttempt) -> None:
        self.memo = Memo()
        self.attempts = {one.pod_name: one for one in attempts}
        self.nodes: dict[str, Node] = {}
        self.now = NOON

    def see(self, seconds: float) -> None:
        self.now = at(seconds)
        faults: list[Fault] = []
        provide(self._snapshot(), self.memo, faults)

        assert faults == []

    def says(self, nodes: int) -> None:
        """The scheduler has tried all Pods that wait on so many nodes."""
        for name, one in self.attempts.items():
            if one.node_name is None:
                self.attempts[name] = replace(one, unschedulable=ZONE.format(nodes, nodes))

    def add(self, name: str, seconds: float) -> None:
        self.nodes[name] = node(name, created_at=at(seconds), ready_at=at(seconds))

    def hold(self) -> Hold | None:
        first = next(one for one in self.attempts.values() if one.phase is Phase.UNBOUND)
        return node_hold(self._snapshot(), self.memo, first)

    @property
    def desired(self) -> int:
        plan = self.memo.nodes.capacities["elastic"].plan
        assert plan is not None
        return sum(plan.desired.values())

    @property
    def kept(self) -> set[str]:
        """The names of nodes that are neither idle nor about to go for that."""
        plan = self.memo.nodes.capacities["elastic"].plan
        assert plan is not None
        return self.nodes.keys() - plan.idle_since.keys() - {one.name for one in plan.cordon}

    def _snapshot(self) -> Snapshot:
        attempts: dict[str, dict[str, PodAttempt]] = {}
        for name, one in self.attempts.items():
            attempts.setdefault(one.job_uid, {})[name] = one
        return Snapshot(
            now=self.now,
            jobs={},
            job_uids={},
            attempts=attempts,
            definitions={},
            queues={},
            environments={"elastic": ELASTIC},
            refusals={},
            nodes={"elastic": self.nodes},
            changes=Changes(nodes={"elastic"}),
        )


def waits(name: str = "pod", **fields: Any) -> PodAttempt:
    given = {"job_uid": "uid-job", "environment": "elastic", "node_name": None, "memory": GIB}
    return attempt(Phase.UNBOUND, **{"pod_name": name, **given, **fields})


def first_node() -> Waiting:
    """A node was ordered for a Pod, has come, and the scheduler has tried it."""
    those = Waiting(waits())
    those.says(0)
    those.see(0)
    those.add("a", 40)
    those.see(41)
    those.says(1)
    return those


def second_node() -> Waiting:
    """The first node was no place for the Pod, and the second is none either."""
    those = first_node()
    those.see(162)
    those.add("b", 200)
    those.see(201)
    those.says(2)
    those.see(322)
    return those


def test_a_node_that_does_not_get_the_pod_is_not_kept_for_it_and_another_is_ordered() -> None:
    those = first_node()
    those.see(160)
    assert (those.kept, those.desired) == ({"a"}, 1)

    those.see(162)

    assert (those.kept, those.desired) == (set(), 2)


def test_after_the_second_nothing_is_ordered_and_the_job_says_what_the_scheduler_says() -> None:
    those = second_node()
    hold = those.hold()

    assert those.kept == set()
    assert hold is not None
    assert (hold.reason, hold.stalled) == ("Unschedulable", True)
    assert hold.message == (
        "nodes a and b had room for what Pod pod requests, and kube-scheduler did not put it "
        "there: 0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector; no "
        "more nodes are ordered for it before 12:35Z: see its template's nodeSelector, affinity, "
        "volumes and ports"
    )
    assert "uid-job" in those.memo.to_look

    those.nodes.clear()
    for seconds in range(400, 2100, 100):
        those.see(seconds)
        assert those.desired == 0


def test_half_an_hour_later_it_is_tried_again() -> None:
    those = second_node()
    those.nodes.clear()
    those.see(322 + 1800)

    assert those.desired == 1


def test_each_time_it_is_left_alone_for_longer() -> None:
    those = first_node()
    tried: list[int] = []
    seconds = 42
    while seconds < 12 * 3600:
        those.see(seconds)
        for name, there in list(those.nodes.items()):
            if there.name not in those.kept:
                del those.nodes[name]
        if those.memo.nodes.capacities["elastic"].to_come:
            tried.append(seconds)
            those.add(f"n{seconds}", seconds)
            those.says(seconds)  # something else than before
        seconds += 30
    pauses = [after - before for before, after in pairwise(tried) if after - before > 1800]

    assert [pause // 1800 for pause in pauses] == [1, 2, 4, 8]


def test_however_many_jobs_are_stuck_none_keeps_a_node() -> None:
    """A bounded number is judged at a time, and who has been judged makes room for others."""
    stuck = [waits(f"pod-{number:03}", job_uid=f"uid-{number:03}") for number in range(150)]
    those = Waiting(*stuck)
    those.says(0)
    those.add("a", 0)
    those.add("b", 0)
    those.see(1)
    those.says(2)
    for seconds in range(30, 900, 30):
        those.see(seconds)

    assert those.kept == set()


def test_while_the_scheduler_says_nothing_new_no_node_is_to_blame_for_ten_minutes() -> None:
    """It may be down. After ten minutes it has tried the Pod again, and has found the same."""
    those = Waiting(waits())
    those.says(0)
    those.see(0)
    those.add("a", 40)
    for seconds in range(41, 640, 30):
        those.see(seconds)

        assert (those.kept, those.desired) == ({"a"}, 1)

    those.see(641)

    assert (those.kept, those.desired) == (set(), 2)


def test_a_scheduler_that_binds_others_meanwhile_is_at_work() -> None:
    """It says of the Pod what it said before: nothing has changed for it."""
    other = waits("other", job_uid="uid-other")
    those = Waiting(waits(), other)
    those.says(1)
    those.add("a", 0)
    those.see(1)
    those.attempts["other"] = replace(other, phase=Phase.RUNNING, node_name="a", bound_at=at(60))
    those.see(61)
    those.see(122)

    assert those.desired == 2


def test_room_that_is_taken_and_freed_again_is_room_from_then_on() -> None:
    those = first_node()
    full = waits("full", job_uid="uid-full", milli_cpu=4000, node_name="a", bound_at=at(100))
    those.attempts["full"] = replace(full, phase=Phase.RUNNING)
    those.see(101)
    del those.attempts["full"]
    those.see(130)
    those.says(2)
    those.see(162)

    assert "a" in those.kept


def test_a_node_that_took_one_pod_of_a_job_is_given_the_time_anew() -> None:
    """Children of an array one after the other: with a host port, say, it never takes a second."""
    those = first_node()
    those.attempts["first"] = waits("first", node_name="a", bound_at=at(100))
    those.attempts["first"] = replace(those.attempts["first"], phase=Phase.RUNNING)
    those.see(101)
    those.see(162)
    assert those.desired == 1

    those.says(2)
    those.see(222)

    assert those.desired == 2


def test_who_is_bound_after_all_is_forgotten() -> None:
    those = first_node()
    those.see(162)
    those.attempts["pod"] = replace(
        those.attempts["pod"], phase=Phase.RUNNING, node_name="a", bound_at=at(170)
    )
    those.see(171)

    assert those.memo.nodes.capacities["elastic"].misfits == {}
