"""What the Karpenter provisioner writes, and what it makes of what Karpenter writes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.compute_environment import CapacityType
from batch_operator.cluster.client import MERGE_PATCH, ApiError
from batch_operator.cluster.provisioner import UnableError
from batch_operator.provisioners.karpenter.node_pools import (
    groups_of,
    node_pools,
    without_absent,
)
from batch_operator.provisioners.karpenter.provisioner import KarpenterProvisioner
from batch_operator.provisioning.plan import CapacityPlan
from batch_operator.provisioning.pools import PoolKey
from batch_operator.scheduling.snapshot import PoolRefusal
from support.karpenter import karpenter_environment, no_capacity, node_claim, page
from support.scripted_api import ScriptedApi

if TYPE_CHECKING:
    from batch_operator.cluster.provisioner import Provided
    from batch_operator.scheduling.snapshot import Environment

ENVIRONMENT = karpenter_environment(capacityTypes=["spot"])
SMALL, LARGE = (PoolKey(name, CapacityType.SPOT) for name in ("small", "large"))
[GROUP] = groups_of(ENVIRONMENT)
NOON, LATER = "2026-01-01T12:00:00Z", "2026-01-01T12:05:00Z"
AT_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def stored(environment: Environment = ENVIRONMENT, **changes: Any) -> dict[str, Any]:
    """The environment's NodePool as the API server holds it: with an uid, and defaults."""
    body: dict[str, Any] = without_absent(node_pools(environment, (SMALL, LARGE))[0])
    body["metadata"] |= {"uid": "uid-pool", "resourceVersion": "7"}
    body["spec"] |= changes
    body["spec"]["template"]["spec"]["startupTaints"] = []
    return body


async def provided(
    api: ScriptedApi,
    pools: tuple[dict[str, Any], ...] = (),
    claims: tuple[dict[str, Any], ...] = (),
    events: tuple[dict[str, Any], ...] = (),
    environment: Environment = ENVIRONMENT,
) -> Provided:
    """Ask once, with these objects in the cluster."""
    answers = {"nodepools": page(*pools), "nodeclaims": page(*claims), "events": page(*events)}
    api.always["list"] = lambda request: answers[request.resource]
    plan = CapacityPlan(desired={}, preference=(SMALL, LARGE))
    return await KarpenterProvisioner(api).provide(environment, plan, ())


async def test_a_missing_node_pool_is_created_as_the_environments_own() -> None:
    api = ScriptedApi()
    api.will("create", b"{}")
    await provided(api)

    [created] = api.asked("create")
    assert created.body is not None
    assert created.name == GROUP.name
    assert created.body["metadata"]["ownerReferences"][0]["uid"] == ENVIRONMENT.uid
    assert "terminationGracePeriod" not in created.body["spec"]["template"]["spec"]


async def test_a_node_pool_that_is_as_it_should_be_is_left_alone() -> None:
    api = ScriptedApi()
    result = await provided(api, pools=(stored(),))

    assert {one.verb for one in api.requests} == {"list"}
    assert result.problem is None


async def test_what_differs_is_put_right_and_what_must_not_be_there_is_taken_out() -> None:
    api = ScriptedApi()
    api.will("patch", b"{}")
    changed = stored(limits={"cpu": "1000"})
    changed["spec"]["template"]["spec"]["terminationGracePeriod"] = "1m"
    await provided(api, pools=(changed,))

    [patch] = api.asked("patch")
    assert patch.body is not None
    assert (patch.name, patch.content_type) == (GROUP.name, MERGE_PATCH)
    assert patch.body["metadata"]["uid"] == "uid-pool"
    assert patch.body["spec"]["limits"] == {"cpu": "64"}
    assert patch.body["spec"]["template"]["spec"]["terminationGracePeriod"] is None


def unwanted(limit: str) -> dict[str, Any]:
    old = stored(limits={"cpu": limit})
    old["metadata"] |= {"name": "karp-on-demand-000000", "uid": "uid-old"}
    return old


@pytest.mark.parametrize("has_nodes", [True, False])
async def test_a_node_pool_that_is_not_wanted_any_more_gets_no_more_nodes(
    *, has_nodes: bool
) -> None:
    api = ScriptedApi()
    api.will("patch", b"{}")
    claims = (node_claim("karp-on-demand-000000"),) if has_nodes else ()
    await provided(api, pools=(stored(), unwanted("64")), claims=claims)

    [closed] = api.asked("patch")
    assert closed.name == "karp-on-demand-000000"
    assert closed.body == {
        "metadata": {"uid": "uid-old"},
        "spec": {"limits": {"cpu": "0"}},
    }
    assert not api.asked("delete")


async def test_it_stays_for_the_nodes_that_it_has_and_is_deleted_after_the_last() -> None:
    used, empty = ScriptedApi(), ScriptedApi()
    empty.will("delete", ApiError(404, "NotFound", "gone already"))
    pools = (stored(), unwanted("0"))
    await provided(used, pools=pools, claims=(node_claim("karp-on-demand-000000"),))
    await provided(empty, pools=pools)

    assert {one.verb for one in used.requests} == {"list"}
    [deleted] = empty.asked("delete")
    assert (deleted.name, deleted.uid) == ("karp-on-demand-000000", "uid-old")


async def test_an_environment_that_is_deleted_waits_for_its_nodes_and_takes_the_rest() -> None:
    ending = replace(ENVIRONMENT, deleting=True)
    used, empty = ScriptedApi(), ScriptedApi()
    used.will("patch", b"{}")
    empty.will("delete", b"{}")
    waits = await provided(
        used, pools=(stored(),), claims=(node_claim(GROUP.name),), environment=ending
    )
    goes = await provided(empty, pools=(stored(),), environment=ending)

    assert [one.verb for one in used.requests if one.verb != "list"] == ["patch"]
    assert [one.verb for one in empty.requests if one.verb != "list"] == ["delete"]
    assert (waits.is_pending, goes.is_pending) == (True, False)


async def test_a_foreign_node_pool_under_the_name_is_reported_and_not_touched() -> None:
    api = ScriptedApi()
    foreign = stored()
    foreign["metadata"]["ownerReferences"][0]["uid"] = "uid-another"
    api.will("create", ApiError(409, "AlreadyExists", "exists"))
    api.will("get", json.dumps(foreign).encode())
    result = await provided(api, pools=(foreign,))

    assert not api.asked("patch") + api.asked("delete")
    assert result.problem == (
        f"NodePool {GROUP.name}: it exists and is not of compute environment karp: delete it"
    )


async def test_a_node_pool_that_lost_its_labels_is_found_by_its_name() -> None:
    api = ScriptedApi()
    bare = stored()
    del bare["metadata"]["labels"]
    api.will("create", ApiError(409, "AlreadyExists", "exists"))
    api.will("get", json.dumps(bare).encode())
    api.will("patch", b"{}")
    result = await provided(api)

    [patch] = api.asked("patch")
    assert patch.body is not None
    assert "batch-operator.io/compute-environment" in patch.body["metadata"]["labels"]
    assert result.problem is None


async def test_a_part_of_the_node_pools_is_enough_to_work() -> None:
    both = karpenter_environment(capacityTypes=["spot", "on-demand"])
    api = ScriptedApi()
    api.will("create", ApiError(422, "Invalid", "no"), b"{}")
    plan = CapacityPlan(
        desired={}, preference=tuple(key for one in groups_of(both) for key in one.pools)
    )
    api.always["list"] = page()
    result = await KarpenterProvisioner(api).provide(both, plan, ())

    assert len(api.asked("create")) == 2
    assert (result.problem is None, result.is_invalid) == (False, False)


async def test_a_node_pool_that_the_api_refuses_is_a_problem_that_names_it() -> None:
    api = ScriptedApi()
    api.will("create", ApiError(422, "Invalid", "nodeClassRef.kind is immutable"))
    result = await provided(api)

    assert result.problem == f"NodePool {GROUP.name}: nodeClassRef.kind is immutable"


async def test_a_cluster_without_karpenter_is_told_apart_from_objects_that_are_gone() -> None:
    """A NodePool that somebody deleted just now is made anew the next time."""
    without, with_karpenter = ScriptedApi(), ScriptedApi()
    without.will("list", ApiError(404, "NotFound", "the server could not find"))
    with_karpenter.will("patch", ApiError(404, "NotFound", f"{GROUP.name} not found"))
    with pytest.raises(UnableError, match="install Karpenter"):
        await KarpenterProvisioner(without).provide(ENVIRONMENT, CapacityPlan(desired={}), ())
    with pytest.raises(ApiError, match=f"{GROUP.name} not found"):
        await provided(with_karpenter, pools=(stored(limits={"cpu": "1000"}),))


async def test_an_environment_may_go_after_karpenter_has_gone() -> None:
    api = ScriptedApi()
    api.will("list", ApiError(404, "NotFound", "the server could not find"))
    ending = replace(ENVIRONMENT, deleting=True)
    result = await KarpenterProvisioner(api).provide(ending, CapacityPlan(desired={}), ())

    assert not result.is_pending


async def test_an_api_server_in_trouble_is_asked_again() -> None:
    api = ScriptedApi()
    api.will("list", ApiError(503, "ServiceUnavailable", "later"))
    with pytest.raises(ApiError, match="later"):
        await KarpenterProvisioner(api).provide(ENVIRONMENT, CapacityPlan(desired={}), ())


async def test_nodes_that_are_launched_and_not_registered_are_on_their_way() -> None:
    launched = ("True", NOON, "Launched", "")
    claims = (
        node_claim(GROUP.name, instance_type="small", Launched=launched),
        node_claim(GROUP.name, instance_type="small", Launched=launched, Registered=launched),
        node_claim(GROUP.name, asked=("small", "large")),
        node_claim("another", instance_type="small", Launched=launched),
    )
    result = await provided(ScriptedApi(), pools=(stored(),), claims=claims)

    assert result.coming == {SMALL: 1}
    assert result.told == {}
    assert result.is_pending


async def test_a_launch_that_fails_is_refused_for_the_types_that_were_asked_for() -> None:
    failed = node_claim(
        GROUP.name,
        asked=("large", "huge"),
        Launched=("Unknown", NOON, "LaunchFailed", "creating instance, quota reached"),
    )
    result = await provided(ScriptedApi(), pools=(stored(),), claims=(failed,))

    message = "LaunchFailed: creating instance, quota reached"
    assert result.told == {LARGE: PoolRefusal(AT_NOON, message)}


async def test_a_launch_that_was_not_tried_yet_is_no_refusal() -> None:
    waiting = ("Unknown", NOON, "AwaitingReconciliation", "object is awaiting reconciliation")
    claim = node_claim(GROUP.name, asked=("large",), Launched=waiting)
    result = await provided(ScriptedApi(), pools=(stored(),), claims=(claim,))

    assert result.told == {}


async def test_a_lack_of_capacity_is_of_the_types_that_the_message_names_or_of_all() -> None:
    of_large = no_capacity(GROUP.name, "insufficient capacity, no large left", NOON)
    of_larger = no_capacity(GROUP.name, "insufficient capacity, no large.metal", NOON)
    foreign = no_capacity("another", "insufficient capacity, no small", NOON)
    named = await provided(ScriptedApi(), pools=(stored(),), events=(of_large, foreign))
    unnamed = await provided(ScriptedApi(), pools=(stored(),), events=(of_larger,))

    assert named.told == {LARGE: PoolRefusal(AT_NOON, "insufficient capacity, no large left")}
    assert set(unnamed.told) == {SMALL, LARGE}


async def test_of_several_refusals_the_latest_is_told() -> None:
    events = (
        no_capacity(GROUP.name, "large: again", LATER),
        no_capacity(GROUP.name, "large: first", NOON),
    )
    result = await provided(ScriptedApi(), pools=(stored(),), events=events)

    assert result.told[LARGE].message == "large: again"


async def test_events_are_asked_for_where_karpenter_writes_them_and_by_their_reason() -> None:
    api = ScriptedApi()
    await provided(api, pools=(stored(),))

    [asked] = [one for one in api.asked("list") if one.resource == "events"]
    assert asked.namespace == "default"
    assert asked.field_selector == (
        "reason=InsufficientCapacityError,involvedObject.kind=NodeClaim"
    )


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("NodeClassReady", "Karpenter does not use NodePool"),
        ("ValidationSucceeded", "Karpenter does not use NodePool"),
        ("NodeRegistrationHealthy", "do not come up"),
    ],
)
async def test_what_karpenter_says_against_a_node_pool_is_the_environments_problem(
    kind: str, sentence: str
) -> None:
    pool = stored()
    pool["status"] = {"conditions": [{"type": kind, "status": "False", "message": "no such class"}]}
    result = await provided(ScriptedApi(), pools=(pool,))

    assert result.problem is not None
    assert result.is_invalid
    assert sentence in result.problem
    assert result.problem.endswith("no such class")
