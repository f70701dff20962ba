"""Replicas that follow a plan, and never cost a busy node its machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from batch_operator.api import meta
from batch_operator.api.compute_environment import CapacityType
from batch_operator.cluster.client import ApiError
from batch_operator.cluster.provisioner import UnableError
from batch_operator.provisioners.scale.provisioner import ScaleProvisioner
from batch_operator.provisioning.plan import CapacityPlan
from batch_operator.provisioning.pools import PoolKey
from support.scaled import Fleet, scale_environment, scaled_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_operator.cluster.provisioner import Provided
    from batch_operator.provisioning.nodes import Node
    from batch_operator.scheduling.snapshot import Environment

SMALL = PoolKey("small", CapacityType.ON_DEMAND)
LARGE = PoolKey("large", CapacityType.ON_DEMAND)
FORBIDDEN = ApiError(403, "Forbidden", "no")
NOT_FOUND = ApiError(404, "NotFound", "there is none")
RELEASED = {meta.ANNOTATION_RELEASED: "true"}
REPLICAS = "machinedeployments/scale"


def marked(replicas: int) -> dict[str, str]:
    """The mark of a Machine for which replicas is lowered to so many."""
    return {"cluster.x-k8s.io/delete-machine": str(replicas)}


async def provide(
    fleet: Fleet,
    plan: CapacityPlan,
    nodes: Sequence[Node] = (),
    environment: Environment | None = None,
) -> Provided:
    return await ScaleProvisioner(fleet.api, fleet.seen.append).provide(
        environment or scale_environment(), plan, nodes
    )


async def test_replicas_are_raised_to_what_is_planned() -> None:
    fleet = Fleet(small=0)

    await provide(fleet, CapacityPlan({SMALL: 3}))

    assert fleet.written == [(REPLICAS, "small", 3)]


async def test_nothing_is_written_where_nothing_differs() -> None:
    fleet = Fleet(small=1)

    await provide(fleet, CapacityPlan({SMALL: 1}), [scaled_node("n-1")])

    assert fleet.written == []


async def test_a_machine_is_marked_before_replicas_is_lowered() -> None:
    fleet, idle = Fleet(small=3), scaled_node("n-2", draining=True)
    nodes = [scaled_node("n-1"), idle, scaled_node("n-3")]

    await provide(fleet, CapacityPlan({SMALL: 2}, remove=(idle,)), nodes)

    assert len(fleet.seen) == 1
    assert fleet.written == [
        ("nodes", "n-2", RELEASED),
        ("machines", "m-n-2", marked(2)),
        (REPLICAS, "small", 2),
    ]


async def test_a_restart_after_the_release_marks_and_lowers() -> None:
    fleet = Fleet(small=2)
    nodes = [scaled_node("n-1"), scaled_node("n-2", draining=True, released=True)]

    await provide(fleet, CapacityPlan({SMALL: 1}), nodes)

    assert fleet.written == [("machines", "m-n-2", marked(1)), (REPLICAS, "small", 1)]


async def test_a_node_that_is_only_cordoned_keeps_its_machine() -> None:
    fleet = Fleet(small=2)
    nodes = [scaled_node("n-1"), scaled_node("n-2", draining=True)]

    await provide(fleet, CapacityPlan({SMALL: 1}), nodes)

    assert fleet.written == []


async def test_a_node_that_has_changed_since_the_plan_keeps_its_machine() -> None:
    fleet, idle = Fleet(small=2), scaled_node("n-2", draining=True)
    fleet.refused["patch", "nodes", "n-2"] = ApiError(409, "Conflict", "changed")

    await provide(fleet, CapacityPlan({SMALL: 1}, remove=(idle,)), [scaled_node("n-1"), idle])

    assert fleet.written == []


async def test_orders_that_never_came_are_not_given_up_while_the_pool_has_nodes() -> None:
    """Nobody could say which machine would go: the one that is late may have come meanwhile."""
    fleet = Fleet(small=5)

    provided = await provide(fleet, CapacityPlan({SMALL: 1}), [scaled_node("n-1")])

    assert fleet.written == []
    assert provided.problem == (
        "machinedeployments fleet/small has 5 replicas in place of 1: machines that never "
        "became nodes, which stay as long as others could be hit, or something else scales it, "
        "such as a HorizontalPodAutoscaler or cluster-autoscaler: take that off"
    )


@pytest.mark.parametrize("status", [{"readyReplicas": 0}, {"replicas": 5}])
async def test_orders_that_never_came_are_given_up_where_no_node_can_be_hit(
    status: dict[str, int],
) -> None:
    """Most kinds leave out a count of 0."""
    fleet = Fleet(small=5)
    fleet.status = status

    await provide(fleet, CapacityPlan({}))

    assert fleet.written == [(REPLICAS, "small", 0)]


async def test_no_more_machines_go_than_are_marked() -> None:
    fleet, idle = Fleet(small=7), scaled_node("n-2", draining=True)

    await provide(fleet, CapacityPlan({SMALL: 1}, remove=(idle,)), [scaled_node("n-1"), idle])

    assert fleet.written[-1] == (REPLICAS, "small", 6)


async def test_a_machine_that_takes_its_time_to_go_is_counted_once() -> None:
    """Six replicas: four nodes, and two machines whose nodes are late and were given up."""
    fleet, two, three = Fleet(small=6), scaled_node("n-2", draining=True), scaled_node("n-3")
    live = [scaled_node("n-1"), scaled_node("n-4")]
    await provide(fleet, CapacityPlan({SMALL: 3}, remove=(two,)), [*live, two, three])
    two = scaled_node("n-2", draining=True, released=True)
    three = scaled_node("n-3", draining=True)

    await provide(fleet, CapacityPlan({SMALL: 2}, remove=(three,)), [*live, two, three])
    three = scaled_node("n-3", draining=True, released=True)
    await provide(fleet, CapacityPlan({SMALL: 2}), [*live, two, three])

    assert [one for one in fleet.written if one[0] != "nodes"] == [
        ("machines", "m-n-2", marked(5)),
        (REPLICAS, "small", 5),
        ("machines", "m-n-3", marked(4)),
        (REPLICAS, "small", 4),
    ]


async def test_a_mark_whose_replicas_were_not_written_counts_after_a_restart() -> None:
    fleet, idle = Fleet(small=3), scaled_node("n-2", draining=True, released=True)
    fleet.marks["m-n-2"] = marked(2)

    await provide(fleet, CapacityPlan({SMALL: 1}), [scaled_node("n-1"), idle])

    assert fleet.replicas == {"small": 2}


async def test_replicas_that_somebody_else_has_changed_meanwhile_are_not_lowered() -> None:
    fleet, idle = Fleet(small=2), scaled_node("n-2", draining=True)
    conflict = ApiError(409, "Conflict", "the object has been modified")
    fleet.refused["patch", REPLICAS, "small"] = conflict
    nodes = [scaled_node("n-1"), idle]
    with pytest.raises(ApiError, match="modified"):
        await provide(fleet, CapacityPlan({SMALL: 1}, remove=(idle,)), nodes)
    *_, asked = fleet.api.asked("patch")

    assert asked.body == {"metadata": {"resourceVersion": "5"}, "spec": {"replicas": 1}}


@pytest.mark.parametrize(
    ("scale_in", "what_goes"), [("MarkMachines", "only marked ones go"), ("WhenPoolIsIdle", "none")]
)
async def test_machines_that_are_nodes_without_our_labels_are_not_taken(
    scale_in: str, what_goes: str
) -> None:
    """Of a target that existed before, or of another environment; or their labels were lost."""
    fleet = Fleet(small=5)
    fleet.status = {"readyReplicas": 5}

    provided = await provide(fleet, CapacityPlan({}), environment=scale_environment(scale_in))

    assert fleet.written == []
    assert (provided.problem or "").startswith("5 machines of machinedeployments fleet/small may")
    assert f"until then {what_goes}" in (provided.problem or "")


async def test_the_last_node_with_labels_does_not_take_machines_without_them_along() -> None:
    marking, whole = Fleet(small=3), Fleet(small=3)
    marking.status = whole.status = {"readyReplicas": 3}
    idle = scaled_node("n-2", draining=True)
    plan = CapacityPlan({}, remove=(idle,))

    await provide(marking, plan, [idle])
    await provide(whole, plan, [idle], scale_environment("WhenPoolIsIdle"))

    assert marking.replicas == {"small": 2}
    assert whole.written == []


async def test_what_does_not_tell_how_many_are_ready_may_have_all_in_use() -> None:
    silent, forbidden = Fleet(small=5), Fleet(small=5)
    forbidden.refused["get", "machinedeployments", "small"] = FORBIDDEN

    lowered = await provide(silent, CapacityPlan({}))
    raised = await provide(silent, CapacityPlan({SMALL: 5}))
    await provide(forbidden, CapacityPlan({}))

    assert silent.written == forbidden.written == []
    assert (lowered.problem or "").startswith("5 machines of ")
    assert raised.problem is None


async def test_a_pool_whose_machines_cannot_be_marked_goes_as_a_whole_or_not_at_all() -> None:
    environment = scale_environment("WhenPoolIsIdle")
    busy, idle = scaled_node("n-1"), scaled_node("n-2", draining=True)
    one_busy, all_idle = Fleet(small=2), Fleet(small=2)

    await provide(one_busy, CapacityPlan({SMALL: 1}, remove=(idle,)), [busy, idle], environment)
    await provide(all_idle, CapacityPlan({}, remove=(busy, idle)), [busy, idle], environment)

    assert one_busy.written == []
    assert all_idle.written == [
        ("nodes", "n-1", RELEASED),
        ("nodes", "n-2", RELEASED),
        (REPLICAS, "small", 0),
    ]


async def test_a_machine_of_another_deployment_is_left_alone() -> None:
    """Marking it would have this deployment take any other of its machines."""
    fleet, idle = Fleet(small=2), scaled_node("n-2", draining=True)
    fleet.owners["n-2"] = "other"

    provided = await provide(
        fleet, CapacityPlan({SMALL: 1}, remove=(idle,)), [scaled_node("n-1"), idle]
    )

    assert fleet.written == []
    assert provided.problem == (
        "Machine m-n-2 of node n-2 is not one of machinedeployments fleet/small: give the labels "
        "of a pool to the machines of its own target alone"
    )


async def test_a_machine_that_was_announced_to_go_is_replaced_by_who_made_it() -> None:
    fleet = Fleet(small=2)
    lost = replace(scaled_node("n-2"), notice="aws-node-termination-handler/spot-itn")

    await provide(fleet, CapacityPlan({SMALL: 2}), [scaled_node("n-1"), lost])

    assert fleet.written == []


async def test_a_target_that_may_not_be_scaled_names_the_missing_rule() -> None:
    fleet = Fleet(small=0, large=0)
    fleet.refused["patch", REPLICAS, "small"] = FORBIDDEN

    provided = await provide(
        fleet,
        CapacityPlan({SMALL: 1, LARGE: 1}),
        environment=scale_environment("MarkMachines", "small", "large"),
    )

    assert provided.problem == (
        "the operator may not use machinedeployments/scale.cluster.x-k8s.io: add it to the "
        "chart's value provisioners.scale, or to the operator's ClusterRole the rule {apiGroups: "
        '["cluster.x-k8s.io"], resources: ["machinedeployments/scale"], verbs: [get, patch]}'
    )
    assert provided.refused == {SMALL: provided.problem}
    assert fleet.replicas == {"small": 0, "large": 1}


async def test_machines_that_may_not_be_marked_are_not_taken_away() -> None:
    fleet, idle = Fleet(small=2), scaled_node("n-2", draining=True)
    fleet.refused["get", "machines", "m-n-2"] = FORBIDDEN

    provided = await provide(
        fleet, CapacityPlan({SMALL: 1}, remove=(idle,)), [scaled_node("n-1"), idle]
    )

    assert fleet.written == []
    assert 'resources: ["machines"], verbs: [get, patch]' in (provided.problem or "")


async def test_a_target_that_does_not_exist_is_named() -> None:
    fleet = Fleet()
    fleet.refused["get", REPLICAS, "small"] = NOT_FOUND

    with pytest.raises(UnableError) as raised:
        await provide(fleet, CapacityPlan({SMALL: 1}))

    assert str(raised.value) == (
        "there is no machinedeployments fleet/small: make it, or name another in "
        "spec.provisioner.scale.targets"
    )


async def test_a_refused_number_of_replicas_is_a_refusal_of_the_pool() -> None:
    fleet = Fleet(small=0)
    fleet.refused["patch", REPLICAS, "small"] = ApiError(422, "Invalid", "no more than 0")

    provided = await provide(fleet, CapacityPlan({SMALL: 1}))

    assert provided.refused == {SMALL: "no more than 0"}


async def test_a_server_in_trouble_is_asked_again_later() -> None:
    fleet = Fleet(small=0)
    fleet.refused["get", REPLICAS, "small"] = ApiError(500, "InternalError", "etcd")

    with pytest.raises(ApiError, match="etcd"):
        await provide(fleet, CapacityPlan({SMALL: 1}))


async def test_while_nodes_are_missing_the_object_says_why() -> None:
    fleet = Fleet(small=2)
    fleet.status = {
        "conditions": [
            {"type": "MachinesReady", "status": "False", "message": "* m-1:\n  * out of quota"},
            {"type": "Paused", "status": "False", "message": ""},
            {"type": "RollingOut", "status": "True", "message": "rolling out"},
        ]
    }

    provided = await provide(fleet, CapacityPlan({SMALL: 2}), [scaled_node("n-1")])

    assert provided.waits == {SMALL: "MachinesReady: * m-1: * out of quota"}


async def test_machines_whose_nodes_have_no_labels_are_reported() -> None:
    fleet = Fleet(small=2)
    fleet.status = {"readyReplicas": 2}

    provided = await provide(fleet, CapacityPlan({SMALL: 2}), [scaled_node("n-1")])

    assert provided.problem == (
        "2 machines of machinedeployments fleet/small may be in use, but 1 nodes have the labels "
        "batch-operator.io/compute-environment=burst, node.kubernetes.io/instance-type=small, "
        "batch-operator.io/capacity-type=on-demand: add these to its template "
        "(docs/compute-environments.md has one), or take away what is not this environment's; "
        "until then only marked ones go"
    )


async def test_a_node_without_the_taint_is_reported() -> None:
    fleet = Fleet(small=1)

    provided = await provide(fleet, CapacityPlan({SMALL: 1}), [scaled_node("n-1", taints=())])

    assert provided.problem == (
        "node n-1 has no taint batch-operator.io/compute-environment=burst:NoSchedule, so Pods of "
        "others may be there: add it to the template of machinedeployments fleet/small "
        "(docs/compute-environments.md has one)"
    )


async def test_an_environment_that_is_deleted_waits_for_its_last_machine() -> None:
    fleet = Fleet(small=1)
    fleet.status = {"readyReplicas": 0}

    first = await provide(fleet, CapacityPlan({}))
    then = await provide(fleet, CapacityPlan({}))

    assert fleet.replicas == {"small": 0}
    assert (first.is_pending, then.is_pending) == (True, False)


async def test_an_environment_may_go_after_what_made_its_machines_has_gone() -> None:
    fleet = Fleet()
    fleet.refused["get", REPLICAS, "small"] = NOT_FOUND
    ending = replace(scale_environment(), deleting=True)

    provided = await provide(fleet, CapacityPlan({}), environment=ending)

    assert not provided.is_pending
    with pytest.raises(UnableError, match="there is no machinedeployments fleet/small"):
        await provide(fleet, CapacityPlan({}), [scaled_node("left-over")], environment=ending)


async def test_an_environment_that_is_deleted_waits_for_no_machine_of_others() -> None:
    fleet = Fleet(small=5)
    fleet.status = {"readyReplicas": 5}

    provided = await provide(fleet, CapacityPlan({}))

    assert fleet.written == []
    assert not provided.is_pending


async def test_a_target_that_may_not_be_read_may_have_machines() -> None:
    """A second one has none: so much is known."""
    fleet, environment = (
        Fleet(small=0, large=0),
        scale_environment("MarkMachines", "small", "large"),
    )
    fleet.refused["get", REPLICAS, "small"] = FORBIDDEN

    provided = await provide(fleet, CapacityPlan({}), environment=environment)

    assert provided.is_pending


async def test_an_operator_that_may_not_read_the_object_only_explains_less() -> None:
    fleet = Fleet(small=0)
    fleet.refused["get", "machinedeployments", "small"] = FORBIDDEN

    provided = await provide(fleet, CapacityPlan({SMALL: 1}))

    assert fleet.replicas == {"small": 1}
    assert provided.problem is None
