"""Reading what Events say of Pods that do not start."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from batch_operator.cluster.cache import Cache
from batch_operator.cluster.client import ApiError, ListPage
from batch_operator.cluster.pod_events import PAGES_MAX, PodEvents
from batch_operator.lifecycle.attempt import Phase
from support.builders import attempt
from support.scripted_api import ScriptedApi
from support.virtual_time import START, VirtualClock
from support.wire import raw


def event(uid: str = "pod", reason: str = "FailedMount", **fields: Any) -> dict[str, Any]:
    return {
        "involvedObject": {"kind": "Pod", "uid": uid},
        "reason": reason,
        "message": "no such volume",
        "lastTimestamp": START.isoformat(),
        **fields,
    }


def minutes_ago(count: float) -> str:
    return (START - timedelta(minutes=count)).isoformat()


class Reader:
    def __init__(self, *answers: Any) -> None:
        self.api = ScriptedApi()
        self.api.will("list", *answers)
        self.cache = Cache()
        self.cache.pods.upsert(attempt(Phase.STARTING, pod_uid="pod"))
        self.cache._changed_jobs.clear()

    async def read(self) -> dict[str, str]:
        await PodEvents(self.api, VirtualClock(), self.cache).read("default")
        return dict(self.cache.troubles["default"].by_pod)


def page(*events: Any, more: str = "") -> ListPage:
    return ListPage([raw(one) for one in events], "7", more)


async def test_one_list_of_the_namespace_tells_and_the_job_is_looked_at_again() -> None:
    reader = Reader(page(event()))

    assert await reader.read() == {"pod": "FailedMount: no such volume"}
    assert reader.cache._changed_jobs == {"uid-job"}
    [asked] = reader.api.requests
    assert (asked.resource, asked.namespace) == ("events", "default")
    assert "type=Warning" in (asked.field_selector or "")


TOLD: dict[str, tuple[list[dict[str, Any]], dict[str, str]]] = {
    "the latest counts": (
        [
            event(message="second", lastTimestamp=minutes_ago(1)),
            event(message="third"),
            event(message="first", lastTimestamp=minutes_ago(2)),
        ],
        {"pod": "FailedMount: third"},
    ),
    "what is long past does not": ([event(lastTimestamp=minutes_ago(10))], {}),
    "a series is as recent as its last": (
        [
            event(
                lastTimestamp=None,
                eventTime=minutes_ago(30),
                series={"count": 9, "lastObservedTime": minutes_ago(1)},
            )
        ],
        {"pod": "FailedMount: no such volume"},
    ),
    **{
        f"kubelet and the controllers say {reason}": (
            [event(reason=reason)],
            {"pod": f"{reason}: no such volume"},
        )
        for reason in ("FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume")
    },
    "of other reasons nothing is made": ([event(reason="FailedPostStartHook")], {}),
    "a Pod that is not there is no matter": ([event("gone")], {}),
    "lines become one, and not too long": (
        [event(message="a\n\tb " + "c" * 900)],
        {"pod": ("FailedMount: a b " + "c" * 900)[:500]},
    ),
}


@pytest.mark.parametrize("name", TOLD)
async def test_of_what_is_listed(name: str) -> None:
    events, expected = TOLD[name]

    assert await Reader(page(*events)).read() == expected


async def test_a_pod_elsewhere_is_not_spoken_of() -> None:
    reader = Reader(page(event()))
    elsewhere = attempt(Phase.STARTING, pod_uid="pod", namespace="other", resource_version=9)
    reader.cache.pods.upsert(elsewhere)

    assert await reader.read() == {}


async def test_what_cannot_be_read_is_skipped() -> None:
    assert await Reader(page({"reason": 7}, event())).read() == {
        "pod": "FailedMount: no such volume"
    }


async def test_pages_are_followed_up_to_a_bound() -> None:
    reader = Reader(*[page(event(f"p{number}"), more="next") for number in range(PAGES_MAX + 5)])
    await reader.read()

    assert len(reader.api.requests) == PAGES_MAX


async def test_a_list_that_fails_is_left_for_a_while() -> None:
    reader = Reader(ApiError(403, "Forbidden", "events is forbidden"))
    with pytest.raises(ApiError):
        await reader.read()

    assert reader.cache.troubles["default"].by_pod == {}
    assert reader.cache.troubles["default"].read_at == START


async def test_a_job_is_looked_at_again_when_nothing_is_said_any_more() -> None:
    reader = Reader(page(event()), page())
    await reader.read()
    reader.cache._changed_jobs.clear()

    assert await reader.read() == {}
    assert reader.cache._changed_jobs == {"uid-job"}
