"""What cluster-autoscaler is asked for, and what is made of its answers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api import meta
from batch_operator.api.compute_environment import CapacityType
from batch_operator.cluster.client import ApiError
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.manifests.gangs import gang_job
from batch_operator.provisioners.none.provisioner import RequestingProvisioner
from batch_operator.provisioning.plan import CapacityPlan
from batch_operator.provisioning.pools import PoolKey
from batch_operator.scheduling.mutations import StartAttempt
from batch_operator.scheduling.snapshot import PoolRefusal
from support.builders import START, definition, environment, job, multi_node_spec
from support.karpenter import page
from support.scripted_api import ScriptedApi
from support.virtual_time import VirtualClock

if TYPE_CHECKING:
    from batch_operator.cluster.provisioner import Provided

ATOMIC = "best-effort-atomic-scale-up.autoscaling.x-k8s.io"
REQUEST = "train-uid-trai-1-0"
SMALL = PoolKey("small", CapacityType.ON_DEMAND)


def asking(**none: Any) -> Any:
    provisioner = {"type": "none", "none": {"provisioningClassName": ATOMIC, **none}}
    types = [{"name": "small", "vcpus": 4, "memory": "16Gi"}]
    return environment("ca", type="MANAGED", instanceTypes=types, provisioner=provisioner)


def gang(**status: int) -> list[dict[str, Any]]:
    """Four nodes: the main node, and three in another group."""
    one = job("train")
    plan = make_plan(one, definition(spec=multi_node_spec(numNodes=4, mainNode=0)), None)
    assert isinstance(plan, Plan)
    start = StartAttempt(one, plan, 0, 1, None, "ca", {}, provisioning_class=ATOMIC)
    jobs = [gang_job(start, group) for group in range(len(plan.groups))]
    for number, body in enumerate(jobs):
        body["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": "7"}
        body["status"] = status
    return jobs


def request(*conditions: tuple[str, str]) -> dict[str, Any]:
    """The request for the gang, with conditions that are True since the start."""
    return {
        "metadata": {"name": REQUEST, "namespace": "default", "uid": "uid-request"},
        "status": {
            "conditions": [
                {
                    "type": kind,
                    "status": "True",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                    "message": message,
                }
                for kind, message in conditions
            ]
        },
    }


async def provided(
    api: ScriptedApi,
    jobs: list[dict[str, Any]],
    *requests: dict[str, Any],
    later: timedelta = timedelta(0),
    **none: Any,
) -> Provided:
    answers = {"provisioningrequests": page(*requests), "jobs": page(*jobs)}
    api.always["list"] = lambda asked: answers[asked.resource]

    class Later(VirtualClock):
        def now(self) -> Any:
            return START + later

    return await RequestingProvisioner(api, Later()).provide(
        asking(**none), CapacityPlan(desired={}), ()
    )


async def test_a_gang_that_waits_gets_one_request_for_all_of_its_nodes() -> None:
    api = ScriptedApi()
    api.will("create", b"{}", b"{}", b"{}")
    await provided(api, gang(), validUntilSeconds=600)
    *templates, asked = api.asked("create")

    assert [one.resource for one in templates] == ["podtemplates", "podtemplates"]
    assert asked.body is not None
    assert (asked.resource, asked.namespace, asked.name) == (
        "provisioningrequests",
        "default",
        REQUEST,
    )
    assert asked.body["spec"] == {
        "provisioningClassName": ATOMIC,
        "podSets": [
            {"podTemplateRef": {"name": templates[0].name}, "count": 1},
            {"podTemplateRef": {"name": templates[1].name}, "count": 3},
        ],
        "parameters": {"ValidUntilSeconds": "600"},
    }
    assert asked.body["metadata"]["ownerReferences"][0]["uid"] == "uid-0"


async def test_the_autoscaler_sees_pods_as_they_are_without_the_gate_and_with_the_request() -> None:
    api = ScriptedApi()
    api.will("create", b"{}", b"{}", b"{}")
    jobs = gang()
    await provided(api, jobs)
    body = api.asked("create")[0].body
    assert body is not None
    template = body["template"]

    assert "schedulingGates" not in template["spec"]
    assert template["spec"]["containers"] == jobs[0]["spec"]["template"]["spec"]["containers"]
    assert template["metadata"]["annotations"]["autoscaling.x-k8s.io/provisioning-class-name"] == (
        ATOMIC
    )
    pods = [one["spec"]["template"]["metadata"]["annotations"] for one in jobs]
    assert {one["autoscaling.x-k8s.io/consume-provisioning-request"] for one in pods} == {REQUEST}


@pytest.mark.parametrize("status", [{"ready": 1}, {"succeeded": 1}, {"failed": 1}])
async def test_a_gang_that_has_begun_needs_no_request(status: dict[str, int]) -> None:
    api = ScriptedApi()
    await provided(api, gang(**status))

    assert {one.verb for one in api.requests} == {"list"}


async def test_a_gang_of_which_a_part_is_still_to_be_made_waits_for_the_rest() -> None:
    api = ScriptedApi()
    await provided(api, gang()[:1])

    assert {one.verb for one in api.requests} == {"list"}


async def test_a_request_that_stands_is_waited_for() -> None:
    api = ScriptedApi()
    result = await provided(api, gang(), request(("Accepted", ""), ("Provisioned", "")))

    assert {one.verb for one in api.requests} == {"list"}
    assert result.told == {}


@pytest.mark.parametrize("condition", ["Failed", "CapacityRevoked"])
async def test_what_the_autoscaler_could_not_get_or_keep_is_refused(condition: str) -> None:
    result = await provided(ScriptedApi(), gang(), request((condition, "no such capacity")))

    assert result.told == {SMALL: PoolRefusal(START, f"{condition}: no such capacity")}


async def test_a_gang_that_still_waits_is_asked_for_again_after_a_while() -> None:
    early, late = ScriptedApi(), ScriptedApi()
    late.will("delete", ApiError(404, "NotFound", "gone already"))
    over = request(("Provisioned", ""), ("BookingExpired", "after 10 minutes"))
    await provided(early, gang(), over, later=timedelta(minutes=4))
    result = await provided(late, gang(), over, later=timedelta(minutes=5))

    assert {one.verb for one in early.requests} == {"list"}
    assert [(one.name, one.uid) for one in late.asked("delete")] == [(REQUEST, "uid-request")]
    assert result.told == {}


async def test_a_request_whose_reply_was_lost_is_not_made_twice() -> None:
    api = ScriptedApi()
    api.always["create"] = ApiError(409, "AlreadyExists", "exists")
    result = await provided(api, gang())

    assert result.problem is None


async def test_a_cluster_without_the_kind_gets_no_requests_and_no_error() -> None:
    api = ScriptedApi()
    api.will("list", ApiError(404, "NotFound", "the server could not find the resource"))
    result = await RequestingProvisioner(api, VirtualClock()).provide(
        asking(), CapacityPlan(desired={}), ()
    )

    assert result.problem is None
    assert len(api.requests) == 1


async def test_an_environment_that_names_no_class_is_left_to_its_autoscaler() -> None:
    api = ScriptedApi()
    plain = environment("ca", type="MANAGED", provisioner={"type": "none"})
    await RequestingProvisioner(api, VirtualClock()).provide(plain, CapacityPlan(desired={}), ())

    assert api.requests == []


async def test_what_tenants_write_on_jobs_gets_them_no_nodes_and_stops_nobody() -> None:
    """Their labels are ours, their owner is not; or the annotations of ours are changed."""
    api = ScriptedApi()
    api.will("create", b"{}", b"{}", b"{}")
    forged, changed, dear = gang()[:1], gang(), gang()
    forged[0]["metadata"] |= {"name": "mine", "ownerReferences": []}
    forged[0]["metadata"]["annotations"][meta.ANNOTATION_GROUPS] = "1"
    for one in changed:
        one["metadata"] |= {"namespace": "changed", "annotations": {}}
    for one in dear:
        asks = one["spec"]["template"]["metadata"]["annotations"]
        asks["autoscaling.x-k8s.io/provisioning-class-name"] = "dear"
    await provided(api, [*forged, *changed, *dear])
    created = api.asked("create")

    assert {one.namespace for one in created} == {"default"}
    assert created[-1].body is not None
    assert created[-1].body["spec"]["provisioningClassName"] == ATOMIC


async def test_a_quota_in_one_namespace_keeps_no_other_from_asking() -> None:
    api, elsewhere = ScriptedApi(), gang()
    for one in elsewhere:
        one["metadata"]["namespace"] = "a-full-one"
    api.will("create", ApiError(403, "Forbidden", "exceeded quota: few"), b"{}", b"{}", b"{}")
    result = await provided(api, [*elsewhere, *gang()])

    assert [one.namespace for one in api.asked("create")] == ["a-full-one"] + ["default"] * 3
    assert result.problem == f"no ProvisioningRequest a-full-one/{REQUEST}: exceeded quota: few"
    assert not result.is_invalid
