"""When Events of compute environments are written, and what becomes of those that cannot be."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from batch_operator.api.compute_environment import ComputeEnvironmentStatus
from batch_operator.cluster.client import ApiError
from batch_operator.cluster.events import EventWriter
from support.builders import environment
from support.scripted_api import ScriptedApi
from support.virtual_time import VirtualClock, settled

if TYPE_CHECKING:
    from batch_operator.scheduling.snapshot import Environment

FORBIDDEN = ApiError(403, "Forbidden", "events is forbidden")


@dataclass(slots=True)
class Desk:
    """An Event writer before an API server, and one environment, `local`, with a pool `small`."""

    api: ScriptedApi = field(default_factory=ScriptedApi)
    writer: EventWriter = field(init=False)
    known: Environment = field(default_factory=environment)

    def __post_init__(self) -> None:
        self.api.always |= {"create": b"{}", "patch": b"{}"}
        self.writer = EventWriter(self.api, VirtualClock())

    async def written(self, desired: int, status: str = "VALID") -> None:
        """A status that says how many nodes there should be is written."""
        pools = [{"instanceType": "small", "capacityType": "spot", "desired": desired}]
        before = self.known
        self.known = replace(
            before,
            resource_version=before.resource_version + 1,
            status=ComputeEnvironmentStatus.model_validate({"status": status, "pools": pools}),
        )
        self.writer.tell(before, self.known)
        await settled()

    def created(self) -> list[tuple[float, str]]:
        bodies = [(one.at_s, one.body or {}) for one in self.api.asked("create")]
        return [(round(at_s, 3), body["note"].split(" of ")[0]) for at_s, body in bodies]

    def series(self) -> list[tuple[float, str, Any]]:
        asked = self.api.asked("patch")
        return [
            (round(one.at_s, 3), one.name, (one.body or {})["series"]["count"]) for one in asked
        ]


async def test_an_event_says_what_happened_to_which_environment() -> None:
    desk = Desk()
    await desk.written(desired=20)
    [request] = desk.api.requests

    assert (request.verb, request.resource, request.namespace) == ("create", "events", "default")
    assert request.body == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "local.2.scaledup", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "type": "Normal",
        "reason": "ScaledUp",
        "note": "20 more nodes of small (spot), 20 in all",
        "action": "Provision",
        "regarding": {
            "apiVersion": "batch-operator.io/v1alpha1",
            "kind": "ComputeEnvironment",
            "name": "local",
            "uid": "uid-local",
            "resourceVersion": "2",
        },
        "reportingController": "batch-operator",
        "reportingInstance": "batch-operator",
    }


async def test_many_changes_become_one_event_in_half_a_minute() -> None:
    desk = Desk()
    for desired in range(1, 101):
        await desk.written(desired)
        await asyncio.sleep(1)
    await asyncio.sleep(300)

    told = desk.created()

    assert [at_s for at_s, _ in told] == [0, 30, 60, 90, 120]
    assert sum(int(note.split()[0]) for _, note in told) == 100


async def test_what_came_and_went_within_half_a_minute_is_not_told() -> None:
    desk = Desk()
    await desk.written(desired=1)
    await desk.written(desired=9, status="INVALID")
    await asyncio.sleep(10)
    await desk.written(desired=1)
    await asyncio.sleep(100)

    assert desk.created() == [(0, "1 more node")]


async def test_a_change_after_a_quiet_while_is_told_at_once() -> None:
    desk = Desk()
    await desk.written(desired=1)
    await asyncio.sleep(40)
    await desk.written(desired=3)

    assert desk.created() == [(0, "1 more node"), (40, "2 more nodes")]


async def test_without_a_change_nothing_is_written() -> None:
    desk = Desk()
    for _ in range(10):
        await desk.written(desired=0)
        await asyncio.sleep(60)

    assert desk.api.requests == []


async def test_the_same_again_is_counted_in_the_event_of_before() -> None:
    desk = Desk()
    for _ in range(3):
        await desk.written(desired=2)
        await asyncio.sleep(300)
        await desk.written(desired=0)
        await asyncio.sleep(300)

    assert desk.created() == [(0, "2 more nodes"), (300, "2 fewer nodes")]
    assert desk.series() == [
        (600, "local.2.scaledup", 2),
        (900, "local.3.scaleddown", 2),
        (1200, "local.2.scaledup", 3),
        (1500, "local.3.scaleddown", 3),
    ]


async def test_the_same_after_a_long_while_is_another_event() -> None:
    """The API server may have forgotten the first."""
    desk = Desk()
    await desk.written(desired=2)
    await asyncio.sleep(60)
    await desk.written(desired=0)
    await asyncio.sleep(1800)
    await desk.written(desired=2)

    assert desk.series() == []
    assert len(desk.created()) == 3


async def test_an_event_that_is_refused_is_lost_and_the_next_is_tried() -> None:
    desk = Desk()
    desk.api.will("create", FORBIDDEN)
    await desk.written(desired=2)
    await asyncio.sleep(60)
    await desk.written(desired=4)

    assert [at_s for at_s, _ in desk.created()] == [0, 60]
    assert desk.series() == []


async def test_a_series_whose_event_is_gone_begins_anew() -> None:
    desk = Desk()
    desk.api.will("patch", ApiError(404, "NotFound", "events not found"))
    for desired in (2, 0, 2, 0, 2):
        await desk.written(desired)
        await asyncio.sleep(60)

    assert [name for _, name, _ in desk.series()] == ["local.2.scaledup", "local.3.scaleddown"]
    assert [at_s for at_s, _ in desk.created()] == [0, 60, 240]
