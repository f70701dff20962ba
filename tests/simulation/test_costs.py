"""Costs in whole simulations: they add up, and budgets hold jobs until their windows end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from batch_operator.api.cost import micros
from batch_operator.provisioning.prices import cost_of
from batch_operator.scheduling import costs
from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import read_scenario
from support.simulated import WORKLOADS, undisturbed

if TYPE_CHECKING:
    from pathlib import Path

    from batch_operator.simulator.report import Outcome

COSTS = WORKLOADS / "costs.yaml"
DAY_S = 24 * 3600.0
GROUP = "batch-operator.io/v1alpha1"


def outcome(
    path: Path, environment: dict[str, Any], *more: dict[str, Any], **queue: Any
) -> Outcome:
    """Jobs that ask for one vCPU, in one environment, of which `more` are the other documents."""
    order = [{"order": 1, "computeEnvironment": "local"}]
    container = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "1"}}}
    documents: list[dict[str, Any]] = [
        {"kind": "ComputeEnvironment", "metadata": {"name": "local"}, "spec": environment},
        {
            "kind": "JobQueue",
            "metadata": {"name": "q"},
            "spec": {"priority": 1, "computeEnvironmentOrder": order, **queue},
        },
        {
            "kind": "JobDefinition",
            "metadata": {"name": "work"},
            "spec": {"podTemplate": {"spec": {"containers": [container]}}},
        },
        *more,
    ]
    texts = [yaml.safe_dump({"apiVersion": GROUP, **one}) for one in documents]
    file = path / "scenario.yaml"
    file.write_text("---\n".join(texts))
    found = simulate(read_scenario([file]))

    assert found.violations == ()
    return found


def job(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"jobQueue": "q", "jobDefinition": "work", **spec}
    return {"kind": "BatchJob", "metadata": {"name": name}, "spec": spec}


def scenario(runtime: str, *events: Any, **spec: Any) -> dict[str, Any]:
    behaviors = [{"job": "*", "runtime": runtime}]
    return {
        "kind": "Scenario",
        "metadata": {"name": "s"},
        "spec": {"behaviors": behaviors, "events": list(events), **spec},
    }


def test_the_bill_is_what_the_statuses_say() -> None:
    """The workload of the crash sweep, which is worth nothing if nothing costs anything."""
    found = undisturbed(COSTS)
    queues, environments = (found.summary["bill"][name] for name in ("queues", "environments"))
    said = micros(found.statuses["JobQueue", "", "main"]["cost"]["total"])
    used = {
        name: micros(found.statuses["ComputeEnvironment", "", name]["cost"]["used"])
        for name in environments
    }

    assert said == pytest.approx(queues["main"]["used"] * 1e6)
    assert said == pytest.approx(sum(one["cost"] for one in found.finals) * 1e6)
    assert {name: one["used"] * 1e6 for name, one in environments.items()} == pytest.approx(used)
    assert queues["main"]["wasted"] > 0
    assert queues["main"]["spotSavings"] > 0


def test_an_attempt_that_is_counted_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "cost_of", lambda rate, seconds: cost_of(rate, seconds) + 1)
    found = simulate(read_scenario([COSTS]))

    assert {one.invariant for one in found.violations} == {"costs_add_up"}


OWNED = {
    "type": "UNMANAGED",
    "maxvCpus": 4,
    "instanceTypes": [{"name": "small", "vcpus": 4, "memory": "16Gi", "pricePerHour": 36}],
}
NODE = {"computeEnvironment": "local", "instanceType": "small", "vcpus": 4, "memory": "16Gi"}


def test_nodes_that_never_started_are_not_held_against_their_job(tmp_path: Path) -> None:
    """The main node ends while the other pulls its image, which never says when it was stopped."""
    container = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "1"}}}
    pod = {"targetNodes": "0:", "podTemplate": {"spec": {"containers": [container]}}}
    gang = {"type": "multinode", "nodeProperties": {"numNodes": 2, "nodeRangeProperties": [pod]}}
    behaviors = [{"job": "a", "node": 1, "pullTime": "1m"}, {"job": "a", "runtime": "20s"}]
    found = outcome(
        tmp_path,
        OWNED,
        {"kind": "JobDefinition", "metadata": {"name": "gang"}, "spec": gang},
        job("a", jobDefinition="gang"),
        {
            "kind": "Scenario",
            "metadata": {"name": "s"},
            "spec": {"behaviors": behaviors, "nodes": [{**NODE, "count": 1}]},
        },
    )

    assert found.states() == {"default/a": ("SUCCEEDED", 1)}


def test_an_attempt_that_is_given_up_costs_what_it_held_until_then(tmp_path: Path) -> None:
    """A minute at a quarter of a node. Its Pod goes when the operator that gave it up is back."""

    def given_up(*events: Any) -> Outcome:
        world = scenario("1s", *events, nodes=[{**NODE, "count": 1}])
        world["spec"]["behaviors"] = [{"reason": "ErrImagePull"}]
        return outcome(tmp_path, OWNED, job("a"), world)

    counted_s = given_up().transitions[-1].at_s
    died = {"at": f"{counted_s + 0.001:.3f}s", "restartOperator": {"downFor": "1m"}}
    found = given_up(died)

    assert found.states() == {"default/a": ("FAILED", 1)}
    assert found.statuses["BatchJob", "default", "a"]["cost"]["total"] == "0.15"


def test_a_price_that_went_before_the_operator_started_again_is_not_asked_for(
    tmp_path: Path,
) -> None:
    others = [{"name": "large", "vcpus": 8, "memory": "16Gi", "pricePerHour": 72}]
    patch = {"kind": "ComputeEnvironment", "name": "local", "spec": {"instanceTypes": others}}
    events = [{"at": "5s", "patch": patch}, {"at": "10s", "restartOperator": {"downFor": "1s"}}]
    found = outcome(
        tmp_path, OWNED, job("a"), scenario("20s", *events, nodes=[{**NODE, "count": 1}])
    )

    assert "cost" not in found.statuses["BatchJob", "default", "a"]


def test_nodes_that_come_and_go_are_paid_from_creation_to_removal(tmp_path: Path) -> None:
    """One node for two jobs of 60 s; it takes 30 s to come and is idle for 60 s before it goes."""
    found = outcome(
        tmp_path,
        {
            "type": "MANAGED",
            "maxvCpus": 4,
            "instanceTypes": [{"name": "t", "vcpus": 2, "memory": "4Gi", "pricePerHour": 3.6}],
            "provisioner": {"type": "kwok", "kwok": {"startUpSeconds": 30}},
        },
        job("one"),
        job("two"),
        scenario("60s"),
    )
    cost = found.statuses["ComputeEnvironment", "", "local"]["cost"]
    nodes, used = micros(cost["nodes"]), micros(cost["used"])

    assert used == pytest.approx(2 * 60 * 500, abs=2 * 3 * 500)
    assert nodes == pytest.approx(160_000, abs=12_000)
    assert micros(cost["idle"]) == nodes - used


def test_a_budget_that_is_spent_holds_jobs_until_midnight(tmp_path: Path) -> None:
    """A quarter of a node for 400 s costs 0.1."""
    later = {"at": "600s", "apply": {"apiVersion": GROUP, **job("later")}}
    types = [{"name": "node", "vcpus": 4, "memory": "16Gi", "pricePerHour": 3.6}]
    found = outcome(
        tmp_path,
        {"type": "UNMANAGED", "maxvCpus": 4, "instanceTypes": types},
        job("first"),
        scenario("400s", later, until="48h"),
        budgets=[{"name": "b", "amount": 0.1, "window": "DAY", "action": "HOLD"}],
    )
    started = {one["final"]: one["startedAt"] for one in found.finals}

    assert started["default/first"] < 10
    assert DAY_S <= started["default/later"] < DAY_S + 10


def test_what_may_have_spot_only_falls_through_to_the_next_environment_with_spot(
    tmp_path: Path,
) -> None:
    def elastic(name: str, *capacity_types: str, **kwok: Any) -> dict[str, Any]:
        types = [{"name": "t", "vcpus": 2, "memory": "4Gi", "pricePerHour": 3.6}]
        return {
            "kind": "ComputeEnvironment",
            "metadata": {"name": name},
            "spec": {
                "type": "MANAGED",
                "maxvCpus": 4,
                "instanceTypes": types,
                "capacityTypes": list(capacity_types),
                "provisioner": {"type": "kwok", "kwok": kwok},
            },
        }

    none = [{"instanceType": "t", "capacityType": "spot", "nodes": 0}]
    order = ("empty", "dear", "local")
    found = outcome(
        tmp_path,
        elastic("local", "spot")["spec"],
        elastic("empty", "spot", capacity=none),
        elastic("dear", "on-demand"),
        job("one"),
        scenario("60s", until="1h"),
        budgets=[{"name": "b", "amount": 0, "window": "MONTH", "action": "SPOT_ONLY"}],
        computeEnvironmentOrder=[
            {"order": number, "computeEnvironment": name} for number, name in enumerate(order)
        ],
    )
    status = found.statuses["BatchJob", "default", "one"]

    assert (status["state"], status["computeEnvironment"]) == ("SUCCEEDED", "local")
    assert status["attempts"][-1]["capacityType"] == "spot"


def test_serverless_capacity_costs_what_attempts_use_and_nothing_is_idle(tmp_path: Path) -> None:
    """1 vCPU is rounded up to 1 with 2 GiB: a thousandth for a second."""
    section = {"pricePerVcpuHour": 3.2, "pricePerGibHour": 0.2}
    found = outcome(
        tmp_path,
        {
            "type": "MANAGED",
            "maxvCpus": 4,
            "provisioner": {"type": "serverless", "serverless": section},
        },
        job("one"),
        scenario("60s"),
    )
    cost = found.statuses["ComputeEnvironment", "", "local"]["cost"]

    assert micros(cost["used"]) == pytest.approx(60_000, abs=3000)
    assert "nodes" not in cost
    assert "idle" not in cost
