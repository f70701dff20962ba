"""Which changes of a spec replace nodes, and how."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.compute_environment import ComputeEnvironmentSpec, EnvironmentUpdate
from batch_operator.provisioning.settings import settings_of
from batch_operator.provisioning.turnover import dissolved, updated
from support.builders import START
from support.managed import LARGE, SMALL, a_node, elastic
from support.scaled import scale_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.provisioning.nodes import Node

BASE = {"instanceTypes": [SMALL, LARGE], "capacityTypes": ["spot", "on-demand"]}
KEEPS_NODES: tuple[dict[str, Any], ...] = (
    {"minvCpus": 4},
    {"maxvCpus": 6},
    {"state": "DISABLED"},
    {"scalingPolicy": {"minScaleDownDelayMinutes": 60}},
    {"updatePolicy": {"terminateJobsOnUpdate": True}},
    {"nodeOverhead": {"cpu": "100m"}},
    {"provisioner": {"type": "kwok", "kwok": {"startUpSeconds": 5}}},
    {"instanceTypes": [LARGE, SMALL]},
    {"instanceTypes": [{**SMALL, "pricePerHour": 9, "spotPricePerHour": 1}, LARGE]},
    {"instanceTypes": [{**SMALL, "memory": "16384Mi"}, LARGE]},
    {"capacityTypes": ["on-demand", "spot"]},
    {"allocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED"},  # it is the default
)
REPLACES_NODES: tuple[dict[str, Any], ...] = (
    {"instanceTypes": [SMALL]},
    {"instanceTypes": [SMALL, {**LARGE, "vcpus": 16}]},
    {"instanceTypes": [SMALL, {**LARGE, "memory": "33Gi"}]},
    {"instanceTypes": [SMALL, {**LARGE, "gpus": 1}]},
    {"instanceTypes": [SMALL, {**LARGE, "name": "larger"}]},
    {"capacityTypes": ["on-demand"]},
    {"allocationStrategy": "SPOT_CAPACITY_OPTIMIZED"},
    {"bidPercentage": 40},
    {"provisioner": {"type": "karpenter"}},
)


def spec(**fields: Any) -> ComputeEnvironmentSpec:
    return ComputeEnvironmentSpec.model_validate(elastic(**{**BASE, **fields})["spec"])


@pytest.mark.parametrize("change", KEEPS_NODES, ids=str)
def test_a_scaling_update_leaves_the_settings_of_nodes_alone(change: dict[str, Any]) -> None:
    assert settings_of(spec(**change)) == settings_of(spec())


def test_how_long_a_machine_is_waited_for_is_none_of_its_settings() -> None:
    longer = scale_environment(timeout_minutes=60)

    assert settings_of(longer.spec) == settings_of(scale_environment().spec)


@pytest.mark.parametrize("change", REPLACES_NODES, ids=str)
def test_an_infrastructure_update_gives_nodes_other_settings(change: dict[str, Any]) -> None:
    assert settings_of(spec(**change)) != settings_of(spec())


def test_the_settings_are_the_same_in_every_version_of_the_operator() -> None:
    """If this fails, an upgrade of the operator replaces everybody's nodes."""
    assert settings_of(spec()) == "f22b2b57f0b34171"


def nodes(*found: Node) -> Mapping[str, Node]:
    return {one.name: one for one in found}


OLD, FRESH, BARE = (
    a_node("old", settings="of-before"),
    a_node("fresh", settings=settings_of(spec())),
    a_node("bare"),
)


def test_only_nodes_with_other_settings_go() -> None:
    found = updated(spec(), nodes(OLD, FRESH, BARE), {}, None, START)

    assert {name for name, one in found.nodes.items() if not one.stays} == {"old"}
    assert found.update == EnvironmentUpdate(settings=settings_of(spec()), started_at=START)


def test_there_is_no_update_when_all_nodes_are_as_the_spec_says() -> None:
    began = EnvironmentUpdate(settings=settings_of(spec()), started_at=START)

    assert updated(spec(), nodes(FRESH, BARE), {}, began, START).update is None


def test_jobs_are_waited_for_from_the_beginning_of_the_update() -> None:
    began = EnvironmentUpdate(settings=settings_of(spec()), started_at=START)
    due = START + timedelta(minutes=30)
    early = updated(spec(), nodes(OLD), {"old"}, began, due - timedelta(seconds=1))
    late = updated(spec(), nodes(OLD), {"old"}, began, due)
    idle = updated(spec(), nodes(OLD), {}, began, due)

    assert (early.given_up, early.look_again_at) == ((), due)
    assert ([one.name for one in late.given_up], late.look_again_at) == (["old"], None)
    assert (idle.given_up, idle.look_again_at) == ((), None)


def test_with_best_fit_nodes_are_not_replaced() -> None:
    """AWS: there are no infrastructure updates with this strategy."""
    found = updated(spec(allocationStrategy="BEST_FIT"), nodes(OLD), {"old"}, None, START)

    assert (found.nodes, found.update) == ({"old": OLD}, None)


def test_another_update_begins_the_time_anew() -> None:
    began = EnvironmentUpdate(settings="in-between", started_at=START - timedelta(hours=1))
    found = updated(spec(), nodes(OLD), {"old"}, began, START)

    assert found.given_up == ()
    assert found.update is not None
    assert found.update.started_at == START


def test_what_was_given_up_is_not_given_up_again() -> None:
    began = EnvironmentUpdate(settings=settings_of(spec()), started_at=START)
    gone = a_node("old", settings="of-before", notice="batch-operator.io/given-up-since")
    found = updated(spec(), nodes(gone), {"old"}, began, START + timedelta(hours=1))

    assert found.given_up == ()


def test_all_nodes_of_an_environment_that_is_deleted_go_and_jobs_are_waited_for() -> None:
    found = dissolved(nodes(OLD, FRESH, BARE))

    assert not any(one.stays for one in found.nodes.values())
    assert (found.given_up, found.update) == ((), None)
