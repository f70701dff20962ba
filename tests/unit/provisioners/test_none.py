"""What cluster-autoscaler is asked for, and what is made of its answers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from batch_operator.api.compute_environment import CapacityType
from batch_operator.cluster import decoding
from batch_operator.cluster.client import ApiError
from batch_operator.lifecycle.gang import gangs_of
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.manifests.gangs import gang_job
from batch_operator.provisioners.none.provisioner import RequestingProvisioner
from batch_operator.provisioning.plan import CapacityPlan
from batch_operator.provisioning.pools import PoolKey
from batch_operator.scheduling.mutations import StartAttempt
from support.builders import START, definition, environment, job, multi_node_spec
from support.karpenter import page
from support.scripted_api import Request, ScriptedApi
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


def gang() -> list[dict[str, Any]]:
    """The Jobs of four nodes: the main node, and three in another group."""
    one = job("train")
    plan = make_plan(one, definition(spec=multi_node_spec(numNodes=4, mainNode=0)), None)
    assert isinstance(plan, Plan)
    start = StartAttempt(one, plan, 0, 1, None, "ca", {}, provisioning_class=ATOMIC)
    jobs = [gang_job(start, group) for group in range(len(plan.groups))]
    for number, body in enumerate(jobs):
        body["metadata"] |= {
            "uid": f"uid-{number}",
            "resourceVersion": "5",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
    return jobs


def plan_for(*gangs: list[dict[str, Any]]) -> CapacityPlan:
    found = (gangs_of(decoding.group(msgspec.json.encode(one)) for one in jobs) for jobs in gangs)
    return CapacityPlan({}, gangs=tuple(one for those in found for one in those))


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
    by_name = {one["metadata"]["name"]: msgspec.json.encode(one) for one in jobs}
    api.always["list"] = page(*requests)
    api.always.setdefault("get", lambda asked: by_name[asked.name])

    class Later(VirtualClock):
        def now(self) -> Any:
            return START + later

    return await RequestingProvisioner(api, Later()).provide(asking(**none), plan_for(jobs), ())


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


async def test_pods_that_do_not_use_the_request_get_none() -> None:
    """They began before the environment named a class."""
    api, jobs = ScriptedApi(), gang()
    jobs[0]["spec"]["template"]["metadata"]["annotations"] = {}
    await provided(api, jobs)

    assert api.asked("create") == []


async def test_a_job_that_was_made_anew_under_its_name_gets_none() -> None:
    api, jobs = ScriptedApi(), gang()
    api.always["get"] = msgspec.json.encode({"metadata": {"uid": "uid-another"}})
    await provided(api, jobs)

    assert api.asked("create") == []


async def test_a_gang_that_has_ended_meanwhile_is_no_problem() -> None:
    api = ScriptedApi()
    api.always["get"] = ApiError(404, "NotFound", "gone")
    result = await provided(api, gang())

    assert result.problem is None


async def test_what_stands_in_the_way_of_one_gang_is_told_and_the_others_are_seen_to() -> None:
    """As with a quota of one tenant's namespace."""
    api, ours, theirs = ScriptedApi(), gang(), gang()
    for one in theirs:
        one["metadata"]["namespace"] = "team-a"
    jobs = {one["metadata"]["name"]: msgspec.json.encode(one) for one in ours}

    def create(asked: Request) -> bytes:
        if asked.namespace == "team-a":
            raise ApiError(403, "Forbidden", "exceeded quota")
        return b"{}"

    api.always |= {"list": page(), "get": lambda asked: jobs[asked.name], "create": create}
    result = await RequestingProvisioner(api, VirtualClock()).provide(
        asking(), plan_for(theirs, ours), ()
    )

    made = [one.name for one in api.asked("create") if one.resource == "provisioningrequests"]
    assert made == [REQUEST]
    assert (result.problem, result.is_invalid) == (
        f"no ProvisioningRequest can be kept for team-a/{REQUEST}, so its Pods may get nodes one "
        f"by one: exceeded quota",
        False,
    )


async def test_without_gangs_nothing_is_asked() -> None:
    api = ScriptedApi()
    await RequestingProvisioner(api, VirtualClock()).provide(asking(), CapacityPlan({}), ())

    assert api.requests == []


async def test_a_request_that_stands_is_waited_for() -> None:
    api = ScriptedApi()
    result = await provided(api, gang(), request(("Accepted", ""), ("Provisioned", "")))

    assert {one.verb for one in api.requests} == {"list"}
    assert result.told == {}


@pytest.mark.parametrize("condition", ["Failed", "CapacityRevoked"])
async def test_what_the_autoscaler_could_not_get_or_keep_is_refused_to_that_gang_alone(
    condition: str,
) -> None:
    result = await provided(ScriptedApi(), gang(), request((condition, "no such capacity")))

    assert result.refused_gangs == {"uid-train/1": f"{condition}: no such capacity"}
    assert result.told == {}


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
        asking(), plan_for(gang()), ()
    )

    assert result.problem is None
    assert len(api.requests) == 1


async def test_an_environment_that_names_no_class_is_left_to_its_autoscaler() -> None:
    api = ScriptedApi()
    plain = environment("ca", type="MANAGED", provisioner={"type": "none"})
    await RequestingProvisioner(api, VirtualClock()).provide(plain, plan_for(gang()), ())

    assert api.requests == []
