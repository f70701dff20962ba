"""The cycle's look at the nodes of MANAGED environments: what is asked, planned, kept and told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import (
    LABEL_INSTANCE_TYPE,
    ComputeEnvironmentStatus,
    PoolStatus,
)
from batch_operator.api.objects import Toleration
from batch_operator.cluster import decoding
from batch_operator.lifecycle.attempt import Phase
from batch_operator.manifests.pods import pod
from batch_operator.provisioning.daemons import DaemonSet
from batch_operator.provisioning.history import History
from batch_operator.provisioning.packing import Demand, demand_of
from batch_operator.provisioning.pools import Space
from batch_operator.scheduling.capacity import provide
from batch_operator.scheduling.environment_status import environment_status
from batch_operator.scheduling.faults import Fault
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import CordonNode, Provide
from batch_operator.scheduling.rooms import recall_rooms
from batch_operator.scheduling.snapshot import Changes, PoolRefusal, Snapshot
from support.builders import (
    attempt,
    definition,
    definition_spec,
    environment,
    job,
    pod_template,
    queue,
)
from support.environments import (
    GIB,
    NOON,
    ON_DEMAND,
    at,
    instance_type,
    managed,
    node,
    pool,
    space,
)
from support.wire import stored
from support.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.provisioning.nodes import Node
    from batch_operator.scheduling.snapshot import Environment

SMALL = instance_type("small", 4)


def elastic(status: ComputeEnvironmentStatus | None = None, **fields: Any) -> Environment:
    made = environment("elastic")
    return replace(made, spec=managed(SMALL, **fields), status=status or ComputeEnvironmentStatus())


def waiting(number: int, phase: Phase = Phase.UNBOUND, **fields: Any) -> PodAttempt:
    """The Pod of a job of its own that asks for 1 vCPU and has no node."""
    return attempt(
        phase,
        **{
            "job_uid": f"uid-{number}",
            "pod_name": f"pod-{number}",
            "environment": "elastic",
            "node_name": None,
            "memory": GIB,
            **fields,
        },
    )


def look(
    memo: Memo,
    *attempts: PodAttempt,
    of: Environment | None = None,
    nodes: Iterable[Node] = (),
    now: datetime = NOON,
    **world: Any,
) -> list[CordonNode | Provide]:
    """One cycle's mutations; something about the nodes is said to have changed."""
    faults: list[Fault] = []
    world_then = world_of(*attempts, of=of, nodes=nodes, now=now, **world)
    mutations, _, _ = provide(world_then, memo, faults)

    assert faults == []
    return [one for one in mutations if isinstance(one, CordonNode | Provide)]


def world_of(
    *attempts: PodAttempt,
    of: Environment | None = None,
    nodes: Iterable[Node] = (),
    now: datetime = NOON,
    **world: Any,
) -> Snapshot:
    by_job: dict[str, dict[str, PodAttempt]] = {}
    for one in attempts:
        by_job.setdefault(one.job_uid, {})[one.pod_name] = one
    return Snapshot(
        now=now,
        jobs={},
        job_uids={},
        attempts=by_job,
        definitions={},
        queues={},
        environments={"elastic": of or elastic()},
        refusals={},
        nodes={"elastic": {one.name: one for one in nodes}},
        changes=Changes(nodes={"elastic"}),
        **world,
    )


def status_of(memo: Memo, now: datetime = NOON) -> ComputeEnvironmentStatus:
    status = environment_status(elastic(), world_of(now=now), memo).status
    assert isinstance(status, ComputeEnvironmentStatus)
    return status


def desired(memo: Memo) -> int:
    plan = memo.nodes.capacities["elastic"].plan
    assert plan is not None
    return plan.desired.get(pool(), 0)


def test_what_was_placed_and_has_no_node_is_demand() -> None:
    memo = Memo()
    running = waiting(9, node_name="n1", phase=Phase.RUNNING)
    ended = waiting(8, phase=Phase.SUCCEEDED)
    elsewhere = waiting(7, environment="other")
    look(memo, *map(waiting, range(4)), running, ended, elsewhere, nodes=[node("n1")])

    assert desired(memo) == 2  # three beside the one that runs, and one more


def test_pods_of_a_gang_that_are_still_to_be_made_are_demand_too() -> None:
    """Its Job stands in for the third Pod; there are nodes for all of them or for none."""
    group = {"job_uid": "uid-gang", "node_group": 1, "milli_cpu": 3000}
    made = [waiting(number, **group) for number in range(2)]
    stand_in = waiting(2, **{**group, "milli_cpu": 9000, "members": 3, "phase": Phase.ASSUMED})
    roomy, narrow = Memo(), Memo()
    look(roomy, *made, stand_in)
    look(narrow, *made, stand_in, of=elastic(maxvCpus=8, allocationStrategy="BEST_FIT"))

    assert (desired(roomy), desired(narrow)) == (3, 0)


def test_pods_of_a_gang_that_have_ended_were_made_and_are_no_demand() -> None:
    """Workers that end before the main node let their nodes go."""
    group = {"job_uid": "uid-gang", "node_group": 1, "milli_cpu": 3000}
    runs = waiting(0, Phase.RUNNING, node_name="n1", **group)
    ended = [waiting(number, Phase.SUCCEEDED, node_name="n2", **group) for number in (1, 2)]
    stand_in = waiting(3, Phase.ASSUMED, **{**group, "milli_cpu": 9000, "members": 3})
    memo = Memo()
    for seconds in (0, 60):
        look(memo, runs, *ended, stand_in, nodes=[node("n1"), node("n2")], now=at(seconds))

    assert desired(memo) == 1


def test_a_gang_that_is_only_asked_for_orders_nothing_yet() -> None:
    """What each of its Pods asks for is known once its Jobs stand, a moment later."""
    memo = Memo()
    group = {"job_uid": "uid-gang", "node_group": 1, "milli_cpu": 9000, "memory": 0}
    look(memo, waiting(1, Phase.ASSUMED, members=3, pod_uid="", **group))

    assert desired(memo) == 0


def test_a_provisioner_is_asked_when_something_differs_and_now_and_then() -> None:
    memo = Memo()
    [first] = look(memo, waiting(1))
    assert isinstance(first, Provide)
    bare = replace(node("bare"), pool=None)
    there = [node("n1"), bare]

    assert len(look(memo, waiting(1), now=at(2))) == 1
    assert look(memo, waiting(1), nodes=there, now=at(4)) == []
    assert look(memo, waiting(1), nodes=there, now=at(31)) == []
    assert len(look(memo, waiting(1), nodes=there, now=at(34))) == 1


def test_an_environment_is_planned_once_a_second_at_most() -> None:
    memo = Memo()
    look(memo)

    assert look(memo, waiting(1), now=at(0.5)) == []
    assert len(look(memo, waiting(1), now=at(1))) == 1


def test_a_restart_forgets_no_order() -> None:
    """The status has that three are desired; one is there: two are on their way."""
    row = PoolStatus(instance_type="small", capacity_type=ON_DEMAND, desired=3, ready=1)
    memo = Memo()
    look(memo, of=elastic(ComputeEnvironmentStatus(pools=[row])), nodes=[node("n1")])

    assert desired(memo) == 3
    assert memo.nodes.capacities["elastic"].to_come == {pool(): 2}


def test_a_restart_decides_as_if_there_had_been_none() -> None:
    """All that the histories hold is in the status: refusals, their clock, sizes, waiting."""
    memo = Memo()
    refused = {"elastic": {pool(): PoolRefusal(at(0.25), "none left")}}
    look(memo, waiting(1), nodes=[node("n1", offers=space(3.9, 60))], refused_pools=refused)
    written = status_of(memo, at(1))
    again = Memo()
    look(again, waiting(1), of=elastic(written), now=at(2))
    before, after = (one.nodes.capacities["elastic"].histories for one in (memo, again))

    assert after == before
    assert before[pool()] != History()


def test_what_is_lost_is_not_ordered_again_for_nobody() -> None:
    memo = Memo()
    busy = waiting(1, node_name="n1", phase=Phase.RUNNING)
    look(memo, busy, nodes=[node("n1"), node("n2")])
    look(memo, busy, nodes=[node("n1")], now=at(2))

    assert desired(memo) == 1


def test_an_environment_whose_pools_all_refuse_holds_what_its_nodes_do() -> None:
    memo = Memo()
    refused = {"elastic": {pool(): PoolRefusal(NOON, "none left")}}
    look(memo, nodes=[node("n1")], refused_pools=refused)
    assert memo.nodes.ceilings == {"elastic": 4000}
    look(memo, nodes=[node("n1")], refused_pools=refused, now=at(30))

    assert memo.nodes.ceilings == {}


AGENT = DaemonSet(
    uid="agent",
    resource_version=1,
    space=Space(Amounts(100, GIB), 1),
    node_selector={},
    terms=(),
    tolerations=(Toleration(operator="Exists"),),
)
WHOLE = (Demand(Amounts(4000, GIB), 1),)
"""A Pod that takes all of a node's CPU."""


def test_daemon_sets_make_nodes_smaller_from_when_they_are_there() -> None:
    memo = Memo()
    look(memo, *map(waiting, range(4)))
    assert desired(memo) == 1
    look(memo, *map(waiting, range(4)), daemon_sets=(AGENT,), now=at(2))

    assert desired(memo) == 2


def test_who_waits_is_looked_at_again_when_a_daemon_set_takes_their_room_or_gives_it_back() -> None:
    memo, of = Memo(), elastic()
    memo.by_queue["main"].add("uid-job")
    queues = {"main": queue(computeEnvironmentOrder=[{"order": 1, "computeEnvironment": of.name}])}
    told: list[tuple[bool, bool]] = []
    for number, agents in enumerate([(), (AGENT,), (AGENT,), ()]):
        memo.to_look.clear()
        world = world_of(now=at(2 * number), daemon_sets=agents)
        provide(replace(world, queues=queues), memo, [])
        told.append((memo.nodes.suits(of, WHOLE), "uid-job" in memo.to_look))

    assert told == [(True, False), (False, True), (False, False), (True, True)]


def test_a_node_that_is_there_has_room_for_what_new_ones_are_not_expected_to_have() -> None:
    """The least that was learned is what is ordered by; this one has more."""
    memo, small = Memo(), node("n1", offers=space(3.9))
    look(memo, nodes=[small, node("n2")])
    assert memo.nodes.suits(elastic(), WHOLE)
    look(memo, nodes=[small], now=at(2))

    assert not memo.nodes.suits(elastic(), WHOLE)


def test_a_new_operator_knows_how_large_nodes_are_before_it_plans() -> None:
    before, memo = Memo(), Memo()
    look(before, nodes=[node("n1", offers=space(3.9))])
    recall_rooms(world_of(of=elastic(status_of(before))), memo)

    assert not memo.nodes.suits(elastic(), WHOLE)


def test_a_daemon_set_that_fits_by_what_is_declared_alone_takes_nothing() -> None:
    """It runs on no node, for these give less than their type declares."""
    memo = Memo()
    look(memo, nodes=[node("n1", offers=space(3.92))])
    tolerations = (Toleration(operator="Exists"),)
    large = DaemonSet("d", 1, Space(Amounts(3950), 1), {}, (), tolerations)
    look(memo, waiting(1), now=at(10), daemon_sets=(large,))

    assert desired(memo) == 1


def test_a_node_that_is_idle_is_cordoned_and_one_that_is_needed_again_is_not() -> None:
    memo, there = Memo(), node("n1")
    look(memo, nodes=[there])
    cordoned = look(memo, nodes=[there], now=at(60))
    draining = replace(there, cordoned=True, draining_since=at(60))
    called = look(memo, waiting(1), nodes=[draining], now=at(62))

    assert CordonNode(there, at(60)) in cordoned
    assert CordonNode(draining, None) in called
    assert desired(memo) == 1


def test_a_node_whose_cordon_took_a_while_to_write_is_removed_five_seconds_after_it_is_there() -> (
    None
):
    memo = Memo()
    idle = node("n1")
    look(memo, nodes=[idle])
    [decided, _] = look(memo, nodes=[idle], now=at(60))
    assert isinstance(decided, CordonNode)
    cordoned = replace(idle, cordoned=True, draining_since=decided.since)
    removed = {}
    for seconds in (70, 74, 75):
        provided = look(memo, nodes=[cordoned], now=at(seconds))
        removed[seconds] = [len(one.plan.remove) for one in provided if isinstance(one, Provide)]

    assert removed == {70: [], 74: [], 75: [1]}


def test_the_status_tells_how_many_vcpus_and_nodes_are_desired() -> None:
    memo = Memo()
    look(memo, *map(waiting, range(6)), nodes=[node("n1")])
    status = status_of(memo)
    assert status.vcpus is not None
    assert status.nodes is not None

    assert status.vcpus.desired == 8
    assert (status.nodes.desired, status.nodes.ready) == (2, 1)
    [row] = status.pools
    assert (row.desired, row.ready, row.waiting_since) == (2, 1, NOON)
    assert row.allocatable is not None
    assert row.allocatable.milli_cpu == 4000


def test_pods_count_against_what_a_node_takes() -> None:
    memo = Memo()
    busy = [waiting(n, node_name="n1", phase=Phase.RUNNING, milli_cpu=100) for n in range(3)]
    full = node("n1", offers=Space(space(4).amounts, pods=3))
    look(memo, *busy, waiting(9, milli_cpu=100), nodes=[full])

    assert desired(memo) == 2


def test_an_environment_that_is_made_anew_under_its_name_begins_anew() -> None:
    memo = Memo()
    refusal = PoolRefusal(NOON, "out of nodes")
    look(memo, waiting(1), refused_pools={"elastic": {pool("small"): refusal}})
    look(memo, waiting(1), of=replace(elastic(), uid="another"), now=at(2))

    assert memo.nodes.capacities["elastic"].histories[pool()].refused_at is None
    assert desired(memo) == 1


def test_a_clock_that_is_set_back_keeps_nobody_waiting() -> None:
    memo = Memo()
    look(memo, now=at(3600))
    mutations = look(memo, waiting(1), now=NOON)

    assert [type(one) for one in mutations] == [Provide]
    assert desired(memo) == 1
    assert look(memo, waiting(1), waiting(2, milli_cpu=4000), now=at(0.5)) == []


def test_an_environment_that_cannot_be_planned_stops_no_other_and_keeps_its_last_plan() -> None:
    """A time in which no calendar can count stands for an error in this program."""
    memo, faults = Memo(), list[Fault]()
    look(memo, waiting(1))
    odd = node(ready=False, unready_since=datetime.max.replace(tzinfo=UTC))
    world = world_of(waiting(1), waiting(2, environment="other"), nodes=[odd], now=at(10))
    both = {"elastic": elastic(), "other": replace(elastic(), name="other", uid="uid-other")}
    world = replace(world, environments=both)
    mutations, due_at, seen_to_at = provide(world, memo, faults)

    assert [fault.name for fault in faults] == ["the nodes of environment elastic"]
    assert [one.environment.name for one in mutations if isinstance(one, Provide)] == ["other"]
    assert desired(memo) == 1
    assert memo.nodes.capacities["elastic"].made_at == NOON  # nobody moves on by it again
    assert (due_at, seen_to_at) == (None, at(40))


def test_a_start_says_what_its_pod_will_ask_of_a_node() -> None:
    """So nodes are planned for it before its Pod has been seen."""
    template = pod_template("2")
    template["spec"]["nodeSelector"] = {LABEL_INSTANCE_TYPE: "large"}
    world = World()
    world.definitions = [definition(spec=definition_spec(podTemplate=template))]
    world.restart()
    world.submit(job("a"))
    world.settle()
    [start] = world.started
    made = decoding.attempt(stored(pod(start), uid="pod", version=1))

    assert start.asks == demand_of(made)
    assert start.asks.instance_type == "large"
