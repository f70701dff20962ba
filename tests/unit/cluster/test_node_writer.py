"""What is written for nodes: the finalizer before the first, and what a provisioner's no means."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from batch_operator.api import meta
from batch_operator.api.compute_environment import CapacityType, ProvisionerType
from batch_operator.cluster.cache import Cache
from batch_operator.cluster.client import ApiError, ListPage
from batch_operator.cluster.node_writer import TRIED_AGAIN_AFTER, NodeWriter
from batch_operator.cluster.provisioner import Provided
from batch_operator.provisioning.plan import CapacityPlan
from batch_operator.provisioning.pools import PoolKey
from batch_operator.scheduling.mutations import CordonNode, Provide
from support.builders import environment
from support.managed import a_node, elastic
from support.scaled import scale_environment
from support.scripted_api import ScriptedApi
from support.virtual_time import VirtualClock

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Environment

POOL = PoolKey("small", CapacityType.ON_DEMAND)
ONE, NONE = CapacityPlan({POOL: 1}), CapacityPlan({})
FORBIDDEN = ApiError(403, "Forbidden", "cannot create resource nodes")
NOTHING = ListPage([], "1", "")


class Provisioner:
    """Does as it is told, or fails as it is told."""

    follows_pods = False

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Provided | ApiError = Provided()

    async def provide(self, *_: Any) -> Provided:
        self.asked += 1
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer


class Desk:
    """A writer with everything around it."""

    def __init__(self, *finalizers: str, deleting: bool = False) -> None:
        self.environment: Environment = replace(
            environment("elastic", **elastic()["spec"]), finalizers=finalizers, deleting=deleting
        )
        self.api = ScriptedApi()
        self.api.always["get"] = self.stored()
        self.api.always["patch"] = self.stored()
        self.cache = Cache()
        self.cache.environments.upsert(self.environment)
        self.provisioner = Provisioner()
        self.clock = VirtualClock()
        known = {ProvisionerType.KWOK: self.provisioner}
        self.writer = NodeWriter(self.api, self.clock, self.cache, known)

    def stored(self, *finalizers: str, uid: str = "") -> bytes:
        metadata = {
            "name": "elastic",
            "uid": uid or self.environment.uid,
            "resourceVersion": "7",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": [*self.environment.finalizers, *finalizers],
        }
        if self.environment.deleting:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return msgspec.json.encode({"metadata": metadata, "spec": elastic()["spec"]})

    async def provide(self, plan: CapacityPlan = ONE, *, is_last: bool = False) -> None:
        await self.writer.provide(Provide(self.environment, plan, (), is_last))

    @property
    def finalizers(self) -> list[list[str]]:
        """Those that were written."""
        bodies = [one.body for one in self.api.asked("patch") if one.body is not None]
        return [one["metadata"]["finalizers"] for one in bodies]

    @property
    def problem(self) -> str | None:
        return self.cache.reports["elastic"].problem


async def test_an_environment_gets_the_finalizer_before_its_first_node() -> None:
    desk = Desk("example.com/theirs")
    desk.api.always["patch"] = ApiError(409, "Conflict", "changed meanwhile")
    with pytest.raises(ApiError):
        await desk.provide()

    assert desk.provisioner.asked == 0
    desk.api.always["patch"] = desk.stored()
    await desk.provide()

    assert desk.finalizers[-1] == ["example.com/theirs", meta.FINALIZER_NODES]
    assert desk.provisioner.asked == 1


async def test_the_finalizer_is_written_once_and_never_without_need() -> None:
    desk = Desk(meta.FINALIZER_NODES)
    await desk.provide()
    idle = Desk()
    await idle.provide(NONE)

    assert desk.api.requests == idle.api.requests == []


async def test_nothing_is_made_for_an_environment_that_is_being_deleted() -> None:
    desk = Desk(deleting=True)
    await desk.provide()

    assert desk.provisioner.asked == 0


async def test_an_environment_that_was_made_anew_under_its_name_is_another() -> None:
    desk = Desk()
    desk.api.always["get"] = desk.stored(uid="uid-another")
    with pytest.raises(ApiError, match="gone"):
        await desk.provide()

    assert desk.provisioner.asked == 0


async def test_the_finalizer_comes_off_when_the_api_server_has_no_node_either() -> None:
    desk = Desk("example.com/theirs", meta.FINALIZER_NODES, deleting=True)
    desk.api.will("list", ListPage([msgspec.Raw(b"{}")], "1", ""))
    await desk.provide(NONE, is_last=True)

    assert desk.finalizers == []
    desk.api.will("list", NOTHING)
    await desk.provide(NONE, is_last=True)

    assert desk.finalizers == [["example.com/theirs"]]


async def test_the_finalizer_stays_while_machines_are_on_their_way() -> None:
    desk = Desk(meta.FINALIZER_NODES, deleting=True)
    desk.provisioner.answer = Provided(is_pending=True)
    await desk.provide(NONE, is_last=True)

    assert desk.finalizers == []


async def test_what_a_provisioner_may_not_do_is_reported_with_what_to_do() -> None:
    desk = Desk(meta.FINALIZER_NODES)
    desk.provisioner.answer = FORBIDDEN
    await desk.provide()

    assert desk.problem == (
        f"the API server refuses what provisioner kwok does ({FORBIDDEN.message}): enable it where "
        f"the operator is installed, provisioners.kwok.enabled=true in its chart"
    )


@pytest.mark.parametrize(
    "error",
    [
        ApiError(503, "ServiceUnavailable", "later"),
        ApiError(404, "NotFound", "it got lost"),
    ],
)
async def test_trouble_that_passes_is_no_problem_of_the_environments(error: ApiError) -> None:
    desk = Desk(meta.FINALIZER_NODES)
    desk.provisioner.answer = error
    with pytest.raises(ApiError):
        await desk.provide()

    assert desk.cache.reports == {}


async def test_a_provisioner_that_nobody_has_is_reported() -> None:
    desk = Desk(meta.FINALIZER_NODES)
    desk.writer._provisioners = {}
    await desk.provide()

    assert desk.problem == "there is no provisioner kwok: take another"


def blue_and_green(**fields: Any) -> tuple[Desk, Environment]:
    """An environment that scales the same object as an older one, `blue`; the two of them."""
    desk = Desk(meta.FINALIZER_NODES, **fields)
    blue = replace(scale_environment(), name="blue", uid="uid-blue")
    made = blue.created_at + timedelta(hours=1)
    desk.environment = replace(desk.environment, spec=blue.spec, created_at=made)
    desk.cache.environments.upsert(desk.environment)
    desk.cache.environments.upsert(blue)
    desk.writer._provisioners = {ProvisionerType.SCALE: desk.provisioner}
    return desk, blue


async def test_of_two_environments_that_name_one_target_the_older_one_scales_it() -> None:
    desk, blue = blue_and_green()
    await desk.provide()

    assert desk.provisioner.asked == 0
    assert desk.cache.reports["elastic"].is_invalid
    assert desk.problem == (
        "machinedeployments fleet/small is scaled for compute environment blue: name another "
        "object in spec.provisioner.scale.targets"
    )
    await desk.writer.provide(Provide(blue, NONE, (), is_last=False))

    assert desk.provisioner.asked == 1


async def test_an_environment_whose_target_is_anothers_goes_without_touching_it() -> None:
    desk, _ = blue_and_green(deleting=True)
    desk.api.always["list"] = NOTHING
    await desk.provide(NONE, is_last=True)

    assert desk.provisioner.asked == 0
    assert desk.finalizers == [[]]


async def test_the_younger_one_scales_the_target_when_the_older_one_is_gone() -> None:
    desk, blue = blue_and_green()
    await desk.provide()
    desk.cache.environments.remove(blue)
    await desk.provide()

    assert desk.provisioner.asked == 1
    assert desk.problem is None


async def test_a_problem_is_over_when_what_failed_works() -> None:
    desk = Desk(meta.FINALIZER_NODES)
    desk.provisioner.answer = FORBIDDEN
    await desk.provide()
    desk.provisioner.answer = Provided()
    await desk.provide()

    assert desk.problem is None


async def test_that_nothing_had_to_be_done_does_not_show_that_it_works() -> None:
    """For a while: then jobs are let in again, and show it."""
    desk = Desk(meta.FINALIZER_NODES)
    desk.provisioner.answer = FORBIDDEN
    await desk.provide()
    desk.provisioner.answer = Provided()
    await desk.provide(NONE)
    before = desk.problem
    await asyncio.sleep(TRIED_AGAIN_AFTER.total_seconds())
    await desk.provide(NONE)

    assert before is not None
    assert desk.problem is None


async def test_a_node_that_is_given_up_says_so_in_the_same_write() -> None:
    desk = Desk()
    desk.api.always["patch"] = msgspec.json.encode(
        {
            "metadata": {
                "name": "n",
                "uid": "uid-n",
                "resourceVersion": "8",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            }
        }
    )
    now = desk.clock.now()
    await desk.writer.cordon(CordonNode(a_node("n"), now, given_up=True))
    [patch] = desk.api.asked("patch")

    assert patch.body == {
        "metadata": {
            "uid": "uid-n",
            "annotations": {
                meta.ANNOTATION_DRAINING: now.isoformat(),
                meta.ANNOTATION_GIVEN_UP: now.isoformat(),
            },
        },
        "spec": {"unschedulable": True},
    }
