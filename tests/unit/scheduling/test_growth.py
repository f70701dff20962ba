"""How far memory grows: to what the nodes of a queue give, and no further."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.api.amounts import Amounts
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.scheduling.growth import within_nodes
from batch_operator.scheduling.suitability import Suitability, needs_of
from support.builders import definition, definition_spec, environment, job, multi_node_spec, queue
from support.world import World

GIB = 2**30
RULE = {"attempts": 4, "onOutOfMemory": {"factor": 2, "maxMemory": "64Gi"}}
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"


def nodes(*gib: int, **fields: Any) -> Any:
    """An environment that can have nodes of these sizes, of 4 vCPUs each."""
    types = [{"name": f"m{one}", "vcpus": 4, "memory": f"{one}Gi"} for one in gib]
    spec = {"type": "MANAGED", "maxvCpus": 64, "instanceTypes": types}
    spec["provisioner"] = {"type": "kwok"}
    return environment(f"nodes-{'-'.join(map(str, gib))}", **{**spec, **fields})


def container(name: str, memory: str, cpu: str = "1", **more: Any) -> dict[str, Any]:
    requests = {"cpu": cpu, "memory": memory}
    return {"name": name, "image": "i", "resources": {"requests": requests}, **more}


def planned(*containers: dict[str, Any], init: Any = (), rule: Any = None) -> Plan:
    template = {"spec": {"containers": list(containers), "initContainers": list(init)}}
    spec = definition_spec(podTemplate=template, retryStrategy=rule or RULE)
    found = make_plan(job(), definition("work", spec), None)
    assert isinstance(found, Plan)
    return found


SIX = container("main", "6Gi")
SIDECAR = container("side", "1Gi", restartPolicy="Always")
BOUNDS: dict[str, tuple[Plan, list[Any], str | None]] = {
    "the largest node": (planned(SIX), [nodes(8, 16)], "16384Mi"),
    "the largest of all environments": (planned(SIX), [nodes(16), nodes(32)], "32768Mi"),
    "the rule, where nodes are larger": (planned(SIX), [nodes(128)], None),
    "none, where nodes are not declared": (planned(SIX), [nodes(16), environment()], None),
    "none, where there are no environments": (planned(SIX), [], None),
    "what others beside it ask for": (planned(SIX, container("b", "1Gi")), [nodes(16)], "8192Mi"),
    "one that asks for more than its part": (
        planned(container("a", "12Gi"), container("b", "1Gi")),
        [nodes(16)],
        "4096Mi",
    ),
    "a sidecar": (planned(SIX, init=[SIDECAR]), [nodes(16)], "8192Mi"),
    "what has a place on its own": (
        planned(container("a", "6Gi", cpu="4")),
        [nodes(16)],
        "16384Mi",
    ),
    "what fits on no node": (planned(container("a", "6Gi", cpu="5")), [nodes(16)], "6144Mi"),
    "the largest size there is": (
        planned(SIX, rule={**RULE, "onOutOfMemory": {"factor": 2, "maxMemory": "1Ti"}}),
        [
            nodes(
                instanceTypes=[],
                provisioner={"type": "serverless", "serverless": {"memoryOverhead": "256Mi"}},
            )
        ],
        "249600Mi",
    ),
}


@pytest.mark.parametrize("what", BOUNDS)
def test_memory_grows_to(what: str) -> None:
    plan, environments, bound = BOUNDS[what]

    assert within_nodes(plan, environments, Suitability()).memory_bound == bound


def test_a_bound_goes_with_the_nodes_that_it_came_from() -> None:
    suits, small, large = Suitability(), nodes(16), nodes(128)
    bounded = within_nodes(planned(SIX), [small], suits)

    assert within_nodes(bounded, [small], suits) is bounded
    assert within_nodes(bounded, [large], suits).memory_bound is None


def test_a_job_without_the_rule_is_left_alone() -> None:
    plan = planned(SIX, rule={"attempts": 3})

    assert within_nodes(plan, [nodes(16)], Suitability()) is plan


def test_the_nodes_of_a_gang_are_bounded_each() -> None:
    spec = multi_node_spec(retryStrategy=RULE)
    for one in spec.node_properties.node_range_properties if spec.node_properties else ():
        one.pod_template["spec"]["containers"][0]["resources"]["requests"]["memory"] = "6Gi"
    plan = make_plan(job(), definition("work", spec), None)
    assert isinstance(plan, Plan)
    bounded = within_nodes(plan, [nodes(16)], Suitability())

    assert bounded.memory_bound == "16384Mi"
    assert {one.amounts for one in needs_of(bounded, memory_factor=8)} == {Amounts(1000, 16 * GIB)}


def test_an_array_whose_child_never_has_enough_memory_fails_when_its_tries_run_out() -> None:
    world = World()
    spec = definition_spec(podTemplate={"spec": {"containers": [SIX]}}, retryStrategy=RULE)
    world.definitions = [definition("work", spec)]
    world.environments = [nodes(16)]
    order = [{"order": 1, "computeEnvironment": world.environments[0].name}]
    world.queues = [queue(computeEnvironmentOrder=order)]
    world.restart()
    world.submit(job("a", arrayProperties={"size": 2}))
    world.submit(job("after", at_s=1, dependsOn=[{"job": "a"}]))
    asked = []
    for _ in range(4):
        world.settle()
        asked += [one.asks.amounts.memory // GIB for one in world.started[len(asked) :] if one.asks]
        for pod in world.live():
            bad = pod.index == 0
            why = {"exit_code": 137, "reason": OUT_OF_MEMORY} if bad else {}
            world.move(pod, Phase.FAILED if bad else Phase.SUCCEEDED, node_name="n", **why)
    world.settle()

    assert asked == [6, 6, 12, 16, 16]
    assert (world.state("a"), world.state("after")) == ("FAILED", "FAILED")


def test_the_rule_of_a_plan_is_the_definitions_own_where_nothing_bounds_it() -> None:
    plan = planned(SIX)

    assert plan.growth is plan.retry.on_out_of_memory
