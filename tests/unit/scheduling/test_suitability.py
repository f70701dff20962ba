"""Which environments could ever have a node for a Pod, and what is said where none could."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.amounts import Amounts
from batch_operator.api.compute_environment import CapacityType
from batch_operator.api.job import BatchJobStatus
from batch_operator.lifecycle.dependencies import Gate
from batch_operator.lifecycle.evaluate import evaluate
from batch_operator.lifecycle.members import members_of
from batch_operator.lifecycle.stops import Policy
from batch_operator.provisioning.catalogue import Listed
from batch_operator.provisioning.packing import Demand
from batch_operator.provisioning.pools import PoolKey
from batch_operator.provisioning.prices import priced
from batch_operator.scheduling.obstacles import never_fits_hold
from batch_operator.scheduling.starts import lots_of
from batch_operator.scheduling.suitability import ANSWERS_MAX, Suitability, needs_of, why_unsuited
from support.builders import START, environment, job, plan, pod_template, queue

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Environment
    from batch_operator.scheduling.suitability import Needs

GIB = 2**30


def managed(name: str = "cloud", *types: dict[str, Any], **fields: Any) -> Environment:
    """An environment whose largest type has 16 vCPUs and 64 GiB."""
    small = {"name": "small", "vcpus": 4, "memory": "16Gi"}
    large = {"name": "large", "vcpus": 16, "memory": "64Gi"}
    spec = {
        "type": "MANAGED",
        "maxvCpus": 1000,
        "instanceTypes": list(types) or [small, large],
        "provisioner": {"type": "kwok"},
    }
    return environment(name, **{**spec, **fields})


GPU = {"name": "gpu", "vcpus": 8, "memory": "32Gi", "gpus": 2}
SPOT = {"capacityTypes": ["spot"]}


def pods(cpu: int = 1, gib: int = 1, gpus: int = 0, **where: Any) -> Needs:
    return (Demand(Amounts(cpu * 1000, gib * GIB, gpus), 1, **where),)


@pytest.mark.parametrize(
    ("where", "needs", "suits"),
    [
        (managed(), pods(16, 64), True),
        (managed(), pods(17), False),
        (managed(), pods(1, 65), False),
        (managed(nodeOverhead={"cpu": "500m"}), pods(16), False),
        (managed(), pods(gpus=1), False),
        (managed("cloud", GPU), pods(gpus=2), True),
        (managed(**SPOT), pods(), True),
        (managed(**SPOT), pods(on_demand=True), False),
        (managed(**SPOT), pods(spot=True), True),
        (managed(), pods(spot=True), False),
        (managed(capacityTypes=["spot", "on-demand"]), pods(on_demand=True), True),
        (managed(), pods(instance_type="small"), True),
        (managed(), pods(5, instance_type="small"), False),
        (managed(), pods(instance_type="m5.large"), False),
        (managed(), pods(1) + pods(16), True),
        (managed(), pods(1) + pods(17), False),
        (environment(), pods(900, on_demand=True), True),  # UNMANAGED: nobody knows its nodes
        (managed(instanceTypes=[], provisioner={"type": "none"}), pods(900), True),
        (managed(instanceTypes=[], **SPOT), pods(on_demand=True), False),
        (managed(instanceTypes=[], **SPOT), pods(spot=True), True),
        (managed(instanceTypes=[], provisioner={"type": "none"}), pods(spot=True), False),
    ],
)
def test_an_environment_suits_what_its_instance_types_have_room_for(
    where: Environment, needs: Needs, *, suits: bool
) -> None:
    assert Suitability()(where, needs) == suits


def test_a_change_of_the_environment_is_a_new_question() -> None:
    ask = Suitability()
    before = managed()

    assert not ask(before, pods(32))
    grown = managed("cloud", {"name": "huge", "vcpus": 32, "memory": "9Gi"})
    assert ask(replace(grown, generation=grown.generation + 1), pods(32))


@pytest.mark.parametrize(
    ("where", "needs", "sentence"),
    [
        (
            managed(),
            pods(96, 700),
            "a Pod of it asks for 96 vCPUs, 700Gi of memory, and the largest instance type, large "
            "of ComputeEnvironment cloud, has 16 vCPUs, 64Gi of memory for jobs: request less, or "
            "add a larger one to its spec.instanceTypes",
        ),
        (
            managed("cloud", GPU, {"name": "large", "vcpus": 16, "memory": "64Gi"}),
            pods(2, gpus=4),
            "a Pod of it asks for 2 vCPUs, 1Gi of memory, 4 GPUs, and the largest instance type, "
            "gpu of ComputeEnvironment cloud, has 8 vCPUs, 32Gi of memory, 2 GPUs for jobs: "
            "request less, or add a larger one to its spec.instanceTypes",
        ),
        (
            managed(**SPOT),
            pods(on_demand=True),
            "it goes to on-demand nodes only, and its compute environments (cloud) have none that "
            "are large enough: add on-demand to spec.capacityTypes of one, or another environment "
            "to the queue",
        ),
        (
            managed(),
            pods(spot=True),
            "it goes to spot nodes only, and its compute environments (cloud) have none that are "
            "large enough: add spot to spec.capacityTypes of one, or another environment to the "
            "queue",
        ),
        (
            managed(),
            pods(instance_type="m5.large"),
            "it selects nodes of instance type m5.large, and none of its compute environments "
            "(cloud) has that: add it to spec.instanceTypes of one, or take it out of the Pod's "
            "nodeSelector",
        ),
    ],
)
def test_what_to_write_instead(where: Environment, needs: Needs, sentence: str) -> None:
    assert why_unsuited([where], needs, Suitability()) == sentence


def rooms(*vcpus: float, name: str = "small") -> dict[PoolKey, set[Amounts]]:
    """What nodes of a type give to jobs, with 16 GiB each."""
    return {
        PoolKey(name, CapacityType.ON_DEMAND): {
            Amounts(round(one * 1000), 16 * GIB) for one in vcpus
        }
    }


SMALL = {"name": "small", "vcpus": 4, "memory": "16Gi"}


def test_what_is_known_of_nodes_counts_where_it_is_less_than_was_declared() -> None:
    ask, where = Suitability(), managed("cloud", SMALL)
    before = ask(where, pods(4))
    changed = ask.learn(where, rooms(3.9))

    assert (before, changed) == (True, True)
    assert not ask(where, pods(4))
    assert ask(where, pods(3))
    assert not ask.learn(where, rooms(3.8))  # nobody has asked for what would be another answer
    assert ask.learn(where, rooms(4))
    assert ask(where, pods(4))


def test_one_node_that_gives_more_is_enough() -> None:
    """Nodes of a pool may differ: what runs on some is not called too large."""
    ask, where = Suitability(), managed("cloud", SMALL)
    ask.learn(where, rooms(3.9, 4))

    assert ask(where, pods(4))


def test_what_is_known_outlives_an_edit_but_not_the_environment() -> None:
    ask, where = Suitability(), managed("cloud", SMALL)
    ask.learn(where, rooms(3.9))

    assert not ask(replace(where, generation=where.generation + 1), pods(4))
    assert ask(replace(where, uid="another"), pods(4))


def test_as_many_kinds_of_pods_as_tenants_may_write_fill_no_memory() -> None:
    suits, where = Suitability(), managed()
    for number in range(ANSWERS_MAX + 10):
        assert suits(where, (Demand(Amounts(16_000, number), 1),))

    assert not suits(where, pods(17))
    assert len(suits._state(where).answers) == 11


def test_new_prices_of_a_catalogue_are_a_new_question() -> None:
    """AWS: what costs more than the bid is no pool; the spec is the same but for that."""
    suits = Suitability()
    catalogue = {"namespace": "batch", "name": "prices", "key": "table"}
    where = managed(capacityTypes=["spot"], bidPercentage=50, priceCatalogue=catalogue)
    prices = {"small": Listed(1.0, 0.9), "large": Listed(1.0, 0.4)}
    dear = replace(where, spec=priced(where.spec, prices))
    small = pods(instance_type="small")

    assert suits(where, small)
    assert not suits(dear, small)
    assert [one.key.instance_type for one in suits.pools(dear)] == ["large"]


def test_a_sentence_about_what_is_known_does_not_speak_of_what_was_declared() -> None:
    ask, where = Suitability(), managed("cloud", SMALL)
    ask.learn(where, rooms(3.9))

    assert why_unsuited([where], pods(4), ask) == (
        "a Pod of it asks for 4 vCPUs, 1Gi of memory, and the largest instance type, small of "
        "ComputeEnvironment cloud, leaves 3.9 vCPUs, 16Gi of memory for jobs beside DaemonSets and "
        "what its nodes keep: request less, or add a larger one to its spec.instanceTypes"
    )


def test_parts_of_a_gang_that_suit_different_environments_suit_none() -> None:
    both = [managed("gpus", GPU), managed("cpus")]
    needs = pods(gpus=1) + pods(16)

    assert not any(Suitability()(one, needs) for one in both)
    assert why_unsuited(both, needs, Suitability()) == (
        "no single one of the compute environments (gpus, cpus) has nodes for all of its Pods: "
        "give one of them the instance types for that"
    )


def test_too_large_for_every_type_is_aws_s_misconfiguration() -> None:
    """AWS Batch, blocked queues: the statusReason of a job that is larger than any instance."""
    where = managed(maxvCpus=96)
    of = queue(computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "cloud"}])
    hold = never_fits_hold(of, [where], 32_000, pods(32), Suitability())
    above = never_fits_hold(of, [where], 97_000, pods(97), Suitability())

    assert hold is not None
    assert hold.stalled
    assert hold.reason == "JobResourceRequirement"
    assert (hold.status_reason or "").startswith("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - ")
    assert above is not None
    assert above.reason == "ComputeEnvironmentMaxResource"


@pytest.mark.parametrize(
    ("capacity_type", "lost_too_often", "expected"),
    [
        ("on-demand", False, {"on_demand": True}),
        ("spot", False, {"spot": True}),
        ("spot", True, {"on_demand": True}),  # onHostLost has the last word, as on the Pod
    ],
)
def test_a_pod_that_selects_nodes_needs_such(
    capacity_type: str, expected: dict[str, bool], *, lost_too_often: bool
) -> None:
    selector = {
        "node.kubernetes.io/instance-type": "large",
        "batch-operator.io/capacity-type": capacity_type,
    }
    template = pod_template()
    template["spec"]["nodeSelector"] = selector

    assert needs_of(plan(template), on_demand=lost_too_often) == (
        Demand(Amounts(1000), 1, instance_type="large", **expected),
    )


def test_memory_that_grows_is_needed_up_to_its_cap() -> None:
    template = pod_template(resources={"requests": {"cpu": "1", "memory": "4Gi"}})
    grows = plan(template, onOutOfMemory={"factor": 3, "maxMemory": "10Gi"})

    assert needs_of(grows, memory_factor=9)[0].amounts == Amounts(1000, 10 * GIB)


def test_children_share_a_place_if_the_same_has_happened_to_them() -> None:
    """Moved once, lost its host twice, ran out of memory; nothing but a failure; not tried yet."""
    status = {
        "state": "PENDING",
        "array": {
            "size": 6,
            "indexes": {"runnable": "0-5"},
            "attempts": [{"attempts": 1, "indexes": "0-4"}],
            "moved": [{"times": 1, "indexes": "0"}],
            "hostsLost": [{"times": 1, "indexes": "1"}, {"times": 2, "indexes": "2"}],
            "outOfMemory": [{"times": 1, "indexes": "3"}],
        },
    }
    stored = job(arrayProperties={"size": 6}, status=BatchJobStatus.model_validate(status))
    own = plan(
        pod_template(resources={"requests": {"cpu": "1", "memory": "4Gi"}}),
        attempts=9,
        onHostLost={"moveToOnDemandAfter": 2},
        onOutOfMemory={"factor": 2, "maxMemory": "64Gi"},
    )
    look = evaluate(stored, [], own, Gate(members_of(stored)), policy=Policy(), now=START)
    found = [
        (str(one.indexes), one.moves, one.ask.needs[0].on_demand, one.ask.needs[0].amounts.memory)
        for one in sorted(lots_of(look, is_fair=False), key=lambda one: one.place)
    ]

    assert found == [
        ("1,4", 0, False, 0),
        ("3", 0, False, 8 * GIB),
        ("2", 0, True, 0),
        ("0", 1, False, 0),
        ("5", 0, False, 0),
    ]
