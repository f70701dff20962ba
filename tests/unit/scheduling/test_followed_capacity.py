"""Environments whose autoscaler follows waiting Pods, in the cycle: known, and left alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType, ProvisionerType
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.holds import Reason
from batch_operator.provisioning.nodes import Node
from batch_operator.provisioning.pools import PoolKey, Space
from batch_operator.scheduling.awaited import gets_nodes, node_hold
from batch_operator.scheduling.capacity import provide
from batch_operator.scheduling.environment_status import environment_status
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import CordonNode, Mutation, Provide
from batch_operator.scheduling.snapshot import (
    Changes,
    PoolRefusal,
    ProvisionerReport,
    Snapshot,
)
from support.builders import START, attempt
from support.karpenter import karpenter_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.compute_environment import ComputeEnvironmentStatus
    from batch_operator.scheduling.faults import Fault

SMALL = PoolKey("small", CapacityType.ON_DEMAND)
NODE = Node(
    name="n1",
    uid="uid-n1",
    resource_version=1,
    environment="karp",
    claimed_by="karp",
    pool=SMALL,
    offers=Space(Amounts(4000, 16 << 30), 110),
    ready=True,
    created_at=START,
    ready_at=START,
)


@dataclass(slots=True)
class Cycles:
    """One environment of Karpenter's, looked at again and again."""

    memo: Memo = field(default_factory=Memo)
    seen: list[Snapshot] = field(default_factory=list)

    def at(
        self,
        seconds: int,
        *attempts: PodAttempt,
        nodes: tuple[Node, ...] = (),
        refused: Mapping[PoolKey, PoolRefusal] | None = None,
        report: ProvisionerReport | None = None,
    ) -> list[Mutation]:
        """What follows, so many seconds after the start."""
        snapshot = Snapshot(
            now=START + timedelta(seconds=seconds),
            jobs={},
            job_uids={},
            attempts={"uid-job": {one.pod_name: one for one in attempts}},
            definitions={},
            queues={},
            environments={"karp": karpenter_environment()},
            refusals={},
            nodes={"karp": {one.name: one for one in nodes}},
            refused_pools={"karp": refused or {}},
            reports={"karp": report} if report else {},
            followers={ProvisionerType.KARPENTER},
            changes=Changes(nodes={"karp"}),
        )
        self.seen.append(snapshot)
        faults: list[Fault] = []
        mutations, _, _ = provide(snapshot, self.memo, faults)

        assert faults == []
        return mutations

    def status(self) -> ComputeEnvironmentStatus:
        return environment_status(karpenter_environment(), self.seen[-1], self.memo).status


def waiting() -> PodAttempt:
    return attempt(Phase.UNBOUND, environment="karp", node_name=None)


def running() -> PodAttempt:
    return attempt(Phase.RUNNING, environment="karp", node_name="n1")


def test_nothing_is_cordoned_or_removed_however_long_it_is_idle() -> None:
    cycles = Cycles()
    found = [one for at in (0, 600, 6000) for one in cycles.at(at, nodes=(NODE,))]

    assert {type(one) for one in found} == {Provide}
    assert all(not one.plan.remove for one in found if isinstance(one, Provide))


def test_a_node_of_older_settings_takes_no_more_pods_and_its_jobs_have_their_time() -> None:
    cycles = Cycles()
    old = replace(NODE, settings="of-before")
    begun = cycles.at(0, running(), nodes=(old,))
    cordoned = replace(old, cordoned=True, draining_since=START)
    later = [one for at in (1, 1799) for one in cycles.at(at, running(), nodes=(cordoned,))]
    ended = cycles.at(1800, running(), nodes=(cordoned,))

    assert [one.given_up for one in begun if isinstance(one, CordonNode)] == [False]
    assert not [one for one in later if isinstance(one, CordonNode)]
    assert [one.given_up for one in ended if isinstance(one, CordonNode)] == [True]


def test_the_provisioner_is_asked_more_often_while_pods_wait() -> None:
    quiet, waited_for = Cycles(), Cycles()
    asked = [at for at in range(31) if quiet.at(at)]
    asked_more = [at for at in range(31) if waited_for.at(at, waiting())]

    assert asked == [0, 30]
    assert asked_more == [0, 10, 20, 30]


def test_the_provisioner_is_told_at_once_when_another_pool_is_preferred() -> None:
    cycles = Cycles()
    cycles.at(0)
    refused = {SMALL: PoolRefusal(START + timedelta(seconds=5), "no capacity")}
    [told] = cycles.at(6, refused=refused)

    assert isinstance(told, Provide)
    assert [key.instance_type for key in told.plan.preference] == ["large", "small"]
    assert [at for at in range(7, 37) if cycles.at(at, refused=refused)] == [35]


def test_what_is_on_its_way_is_desired_and_a_problem_is_in_the_condition() -> None:
    cycles = Cycles()
    cycles.at(0, report=ProvisionerReport("NodePool x: mend it", coming={SMALL: 2}))
    status = cycles.status()

    assert status.nodes is not None
    assert (status.nodes.desired, status.nodes.ready) == (2, 0)
    assert [(one.type, one.status, one.reason, one.message) for one in status.conditions] == [
        ("Ready", "True", "Ready", "takes work"),
        ("Degraded", "True", "ProvisionerProblem", "NodePool x: mend it"),
    ]


def test_a_pool_is_left_alone_for_three_minutes_at_most() -> None:
    """One Pod that is bound to a zone may be all that its cloud has no capacity for."""
    cycles = Cycles()
    for seconds in range(0, 3600, 60):
        told = {SMALL: PoolRefusal(START + timedelta(seconds=seconds), "no capacity")}
        cycles.at(seconds, refused=told)
    [row] = cycles.status().pools

    assert row.refused_until == START + timedelta(seconds=3540, minutes=3)


def test_a_refusal_that_is_told_again_counts_once() -> None:
    cycles = Cycles()
    for seconds in (0, 10, 20):
        cycles.at(seconds, refused={SMALL: PoolRefusal(START, "no capacity")})
    [row] = cycles.status().pools

    assert (row.refusals, row.message) == (1.0, "no capacity")


def test_a_gang_that_gets_no_nodes_is_told_and_moves_on_and_closes_nothing_for_others() -> None:
    cycles = Cycles()
    gang = replace(waiting(), pod_name="main", node_group=0)
    report = ProvisionerReport(refused_gangs={"uid-job/1": "Failed: too many for the node group"})
    cycles.at(0, gang, waiting(), report=report)
    plan, seen, memo = cycles.memo.nodes.capacities["karp"].plan, cycles.seen[-1], cycles.memo
    assert plan is not None
    hold = node_hold(seen, memo, gang)

    assert [one.gang for one in plan.refused] == ["uid-job/1"]
    assert memo.nodes.ceilings == {}
    assert hold is not None
    assert (hold.reason, hold.message) == (
        Reason.INSUFFICIENT_CAPACITY,
        "ComputeEnvironment karp gets no nodes for all of its Pods now: Failed: too many for the "
        "node group",
    )
    assert node_hold(seen, memo, waiting()) is None
    assert not gets_nodes(seen, memo, "karp", [gang])
    assert gets_nodes(seen, memo, "karp", [waiting()])


def test_who_waits_is_looked_at_again_when_a_gang_gets_no_nodes() -> None:
    cycles = Cycles()
    cycles.at(0, waiting())
    cycles.memo.to_look.clear()
    cycles.at(10, waiting(), report=ProvisionerReport(refused_gangs={"uid-job/1": "Failed: no"}))

    assert list(cycles.memo.to_look) == ["uid-job"]


def test_an_idle_node_that_goes_was_not_interrupted_and_one_in_use_was() -> None:
    idle, used = Cycles(), Cycles()
    idle.at(0, nodes=(NODE,))
    idle.at(10)
    used.at(0, running(), nodes=(NODE,))
    used.at(10)

    assert [one.interruptions for one in idle.status().pools] == [0.0]
    assert [one.interruptions for one in used.status().pools] == [1.0]
