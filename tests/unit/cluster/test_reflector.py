"""A kind's mirror, against an API server that does everything that API servers do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from batch_operator.cluster import reflector as reflecting
from batch_operator.cluster.backoff import Backoff
from batch_operator.cluster.cache import Table
from batch_operator.cluster.client import PODS, ApiError, ListPage, WatchEvent
from batch_operator.cluster.reflector import Reflector
from support.scripted_api import Late, ScriptedApi, Watch
from support.virtual_time import VirtualClock, settled
from support.wire import raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GONE = ApiError(410, "Expired", "too old resource version")
BROKEN = ApiError(500, "InternalError", "etcdserver: leader changed")
NO_REPLY = ApiError(0, "NoReply", "connection refused")


class Thing(msgspec.Struct, frozen=True):
    """The least that can be mirrored. What has no uid cannot be read."""

    uid: str
    resource_version: int
    color: str = ""


def thing(uid: str, version: int, color: str = "") -> Thing:
    return Thing(uid, version, color)


def page(*things: Any, version: int, more: str = "") -> ListPage:
    return ListPage([raw(one) for one in things], str(version), more)


def event(kind: str, value: Any) -> WatchEvent:
    return WatchEvent(kind, raw(value))


def bookmark(version: int) -> WatchEvent:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def error_event(code: int) -> WatchEvent:
    return event("ERROR", {"kind": "Status", "code": code, "reason": "R", "message": "m"})


class Mirror:
    """A reflector at work, its store, and the times at which it woke the cycle."""

    def __init__(self, api: ScriptedApi) -> None:
        self.api = api
        self.woken = 0
        self.table: Table[Thing] = Table(lambda _before, _after: None)
        decoder = msgspec.json.Decoder(Thing)
        self.reflector = Reflector(
            api,
            VirtualClock(),
            PODS,
            decode=decoder.decode,
            store=self.table,
            wake=self._wake,
            label_selector="ours",
        )
        self.task: asyncio.Task[None] | None = None

    def _wake(self) -> None:
        self.woken += 1

    @property
    def colors(self) -> dict[str, str]:
        return {uid: one.color for uid, one in self.table.items.items()}

    async def watched_from(self, seconds: float = 0) -> list[str]:
        """Let it run so many seconds (more): the versions from which watches were begun."""
        self.task = self.task or asyncio.create_task(self.reflector.run())
        await asyncio.sleep(seconds)
        await settled()
        assert not self.task.done(), "the mirror ended by itself"
        return [one.resource_version for one in self.api.asked("watch")]

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
        self.task = None


@pytest.fixture
async def mirror() -> AsyncIterator[Mirror]:
    mirror = Mirror(ScriptedApi())
    yield mirror
    await mirror.stop()


async def test_lists_page_by_page_and_watches_from_where_the_list_was_taken(
    mirror: Mirror,
) -> None:
    mirror.api.will(
        "list",
        page(thing("a", 1), version=7, more="more"),
        page(thing("b", 2), version=7, more="still more"),
        page(thing("c", 3), version=7),
    )
    watched_from = await mirror.watched_from()

    assert [one.continue_token for one in mirror.api.asked("list")] == ["", "more", "still more"]
    assert {one.limit for one in mirror.api.asked("list")} == {500}
    assert {one.label_selector for one in mirror.api.requests} == {"ours"}
    assert sorted(mirror.colors) == ["a", "b", "c"]
    assert watched_from == ["7"]


async def test_is_synced_only_when_the_last_page_has_come(mirror: Mirror) -> None:
    mirror.api.will(
        "list",
        page(thing("a", 1), version=7, more="more"),
        Late(5, page(thing("b", 2), version=7)),
    )
    await mirror.watched_from(4)

    assert not mirror.reflector.synced.is_set()
    assert not mirror.colors
    await mirror.watched_from(2)

    assert mirror.reflector.synced.is_set()
    assert sorted(mirror.colors) == ["a", "b"]


async def test_follows_additions_changes_and_deletions(mirror: Mirror) -> None:
    mirror.api.will("list", page(thing("a", 1, "red"), thing("b", 2, "red"), version=7))
    mirror.api.will(
        "watch",
        Watch(
            event("ADDED", thing("c", 8, "red")),
            event("MODIFIED", thing("a", 9, "blue")),
            event("DELETED", thing("b", 10)),
            stays_open=True,
        ),
    )
    await mirror.watched_from()

    assert mirror.colors == {"a": "blue", "c": "red"}
    assert mirror.woken == 1 + 3


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(Watch(3), id="the server closes it, as it does every few minutes"),
        pytest.param(Watch(3, NO_REPLY), id="the connection breaks"),
        pytest.param(Watch(3, error_event(500)), id="ERROR event 500"),
        pytest.param(Watch(3, BROKEN), id="HTTP 500"),
        pytest.param(Watch(3, ApiError(429, "TooManyRequests", "later")), id="HTTP 429"),
        pytest.param(Watch(3, error_event(429)), id="ERROR event 429"),
    ],
)
async def test_a_watch_that_ends_is_resumed_after_its_last_event(
    mirror: Mirror, end: Watch
) -> None:
    """Nothing is listed anew: a large list is the last thing that a troubled API server needs."""
    mirror.api.will("list", page(thing("a", 1), version=7))
    mirror.api.will("watch", Watch(event("MODIFIED", thing("a", 8)), *end.steps))
    watched_from = await mirror.watched_from(5)

    assert watched_from == ["7", "8"]
    assert len(mirror.api.asked("list")) == 1


async def test_a_bookmark_moves_the_point_from_which_a_watch_is_resumed(mirror: Mirror) -> None:
    mirror.api.will("list", page(version=7))
    mirror.api.will("watch", Watch(event("ADDED", thing("a", 8)), bookmark(50), 60))
    watched_from = await mirror.watched_from(65)

    assert watched_from == ["7", "50"]
    assert mirror.woken == 2, "a bookmark is no change"


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(Watch(3, GONE), id="HTTP 410"),
        pytest.param(Watch(3, error_event(410)), id="ERROR event 410"),
        pytest.param(Watch(3, ApiError(403, "Forbidden", "no")), id="HTTP 403"),
        pytest.param(Watch(3, ApiError(404, "NotFound", "no CRD")), id="HTTP 404"),
    ],
)
async def test_a_version_that_is_of_no_use_any_more_means_a_fresh_list(
    mirror: Mirror, end: Watch
) -> None:
    """What vanished while nobody looked is removed: no DELETED event ever tells of it."""
    mirror.api.will(
        "list",
        page(thing("a", 1, "red"), thing("b", 2, "red"), version=7),
        page(thing("b", 9, "blue"), thing("c", 9, "blue"), version=12),
    )
    mirror.api.will("watch", end)
    watched_from = await mirror.watched_from(5)

    assert mirror.colors == {"b": "blue", "c": "blue"}
    assert watched_from == ["7", "12"]
    assert mirror.reflector.relists == 2


async def test_the_first_expiry_is_answered_at_once(mirror: Mirror) -> None:
    mirror.api.will("list", page(version=7), page(version=8))
    mirror.api.will("watch", Watch(3, GONE))
    await mirror.watched_from(5)

    assert mirror.api.times("list") == [0, 3]


async def test_after_a_long_outage_the_expiry_is_answered_at_once_too(mirror: Mirror) -> None:
    """The server is back, and what is known is as old as its outage was long."""
    mirror.api.will("list", page(version=7), page(version=8))
    mirror.api.will("watch", *[Watch(NO_REPLY)] * 100, Watch(GONE))
    await mirror.watched_from(600)
    _, listed_again = mirror.api.times("list")

    assert listed_again == mirror.api.times("watch")[100]


async def test_versions_that_expire_again_and_again_do_not_become_a_busy_loop(
    mirror: Mirror,
) -> None:
    mirror.api.always["list"] = page(version=7)
    mirror.api.always["watch"] = Watch(GONE)
    await mirror.watched_from(60)

    assert 3 <= len(mirror.api.asked("list")) <= 12


async def test_a_list_that_is_always_expired_does_not_become_a_busy_loop(mirror: Mirror) -> None:
    mirror.api.always["list"] = GONE
    await mirror.watched_from(60)

    assert 3 <= len(mirror.api.asked("list")) <= 12


async def test_a_continue_token_that_expired_starts_the_list_over(mirror: Mirror) -> None:
    mirror.api.will(
        "list",
        page(thing("vanished", 1), version=7, more="more"),
        GONE,
        page(thing("a", 8), version=9, more="more"),
        page(thing("b", 8), version=9),
    )
    watched_from = await mirror.watched_from()

    assert [one.continue_token for one in mirror.api.asked("list")] == ["", "more", "", "more"]
    assert sorted(mirror.colors) == ["a", "b"]
    assert watched_from == ["9"]


async def test_a_list_longer_than_etcds_memory_is_asked_for_in_one_piece(mirror: Mirror) -> None:
    first_page = page(thing("a", 1), version=7, more="more")
    mirror.api.will("list", *[first_page, GONE] * 3, page(thing("a", 1), version=9))
    await mirror.watched_from()

    assert [one.limit for one in mirror.api.asked("list")] == [500] * 6 + [0]
    assert sorted(mirror.colors) == ["a"]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(BROKEN, id="500"),
        pytest.param(NO_REPLY, id="no reply"),
        pytest.param(ApiError(401, "Unauthorized", "token expired"), id="401"),
        pytest.param(ApiError(403, "Forbidden", "no RBAC"), id="403"),
        pytest.param(ApiError(404, "NotFound", "no CRD"), id="404"),
    ],
)
async def test_a_list_that_fails_is_tried_for_ever_and_less_and_less_often(
    mirror: Mirror, error: ApiError
) -> None:
    mirror.api.always["list"] = error
    await mirror.watched_from(3600)
    gaps = [
        after - before
        for before, after in zip(
            mirror.api.times("list"), mirror.api.times("list")[1:], strict=False
        )
    ]

    assert 0.2 <= gaps[0] <= 0.5
    assert all(15 <= gap <= 30.01 for gap in gaps[10:])
    assert not mirror.reflector.synced.is_set()
    mirror.api.always["list"] = page(thing("a", 1), version=7)
    await mirror.watched_from(31)

    assert sorted(mirror.colors) == ["a"]


async def test_a_missing_definition_is_reported_with_what_to_do(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.api.will("list", ApiError(404, "NotFound", "the server could not find it"))
    mirror.api.always["list"] = page(version=7)
    await mirror.watched_from(1)

    assert "kubectl apply -f crds/" in caplog.text


async def test_watches_that_end_at_once_do_not_become_a_busy_loop(mirror: Mirror) -> None:
    mirror.api.will("list", page(version=7))
    mirror.api.always["watch"] = Watch()
    watched_from = await mirror.watched_from(60)

    assert 3 <= len(watched_from) <= 12
    assert set(watched_from) == {"7"}


@pytest.mark.parametrize(("failure", "longest_s"), [(NO_REPLY, 5), (BROKEN, 30)])
async def test_a_server_that_is_out_of_reach_is_found_sooner_than_one_in_trouble(
    mirror: Mirror, failure: ApiError, longest_s: float
) -> None:
    mirror.api.will("list", page(version=7))
    mirror.api.will("watch", *[failure] * 30)
    await mirror.watched_from(300)
    times = mirror.api.times("watch")[8:]  # by then patience has grown to its end

    assert all(longest_s / 2 <= later - sooner <= longest_s for sooner, later in pairwise(times))


async def test_a_retry_after_is_waited_for(mirror: Mirror) -> None:
    mirror.api.will("list", page(version=7))
    mirror.api.will("watch", Watch(3, ApiError(429, "TooManyRequests", "later", 20)))
    await mirror.watched_from(30)

    assert mirror.api.times("watch") == [0, 23]


@pytest.mark.parametrize(
    "sign_of_life",
    [
        pytest.param(event("ADDED", thing("a", 8)), id="an event"),
        pytest.param(bookmark(8), id="a bookmark, where nothing ever changes"),
    ],
)
async def test_patience_is_fresh_after_a_sign_of_life(
    mirror: Mirror, sign_of_life: WatchEvent
) -> None:
    """Ten failures long ago do not make the next reconnection slow."""
    mirror.api.will("list", *[BROKEN] * 10, page(version=7))
    await mirror.watched_from(600)
    await mirror.stop()
    mirror.api.will("watch", Watch(sign_of_life, 3, NO_REPLY))
    await mirror.watched_from(3.6)

    assert len(mirror.api.asked("watch")) == 3


@pytest.mark.parametrize("number", range(2))
async def test_what_cannot_be_read_is_reported_and_skipped(
    mirror: Mirror, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """In a list and in a watch: one broken object hides no other."""
    broken = {"color": "without a uid"}
    if number == 0:
        mirror.api.will("list", page(broken, thing("a", 1), version=7))
    else:
        mirror.api.will("list", page(version=7))
        mirror.api.will(
            "watch", Watch(event("ADDED", broken), event("ADDED", thing("a", 8)), stays_open=True)
        )
    await mirror.watched_from()

    assert sorted(mirror.colors) == ["a"]
    [told] = caplog.records
    assert told.getMessage().startswith("a Pod cannot be read and is ignored: ValidationError(")
    assert told.exc_info is None


async def test_the_deletion_of_what_cannot_be_read_leaves_no_ghost(mirror: Mirror) -> None:
    """It was readable once, so it is known; which one it was, only a fresh list can tell."""
    mirror.api.will("list", page(thing("a", 1), thing("b", 2), version=7))
    mirror.api.will("list", page(thing("b", 2), version=9))
    mirror.api.will("watch", Watch(event("DELETED", {"color": "without a uid"})))
    watched_from = await mirror.watched_from(1)

    assert sorted(mirror.colors) == ["b"]
    assert watched_from == ["7", "9"]


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(event("ERROR", "no status at all"), id="an ERROR that is no Status"),
        pytest.param(event("BOOKMARK", {}), id="a bookmark without a version"),
    ],
)
async def test_nonsense_from_the_server_does_not_end_the_mirror(
    mirror: Mirror, nonsense: WatchEvent
) -> None:
    mirror.api.will("list", page(version=7))
    mirror.api.will("watch", Watch(3, nonsense))
    mirror.api.always["list"] = page(version=8)
    watched_from = await mirror.watched_from(5)

    assert len(watched_from) == 2


async def test_silence_is_measured_from_the_last_sign_of_life(mirror: Mirror) -> None:
    mirror.api.will("list", Late(10, page(version=7)))
    mirror.api.will("watch", Watch(20, bookmark(8), stays_open=True))
    silences = []
    for _ in range(4):
        await mirror.watched_from(9)
        silences.append(round(mirror.reflector.silence_s))

    assert silences == [9, 8, 17, 6]


async def test_survives_a_long_mixture_of_everything(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    """And at the end it still mirrors."""
    caplog.set_level(logging.CRITICAL, reflecting.__name__)
    version = 7
    for failure in [GONE, BROKEN, NO_REPLY, error_event(410), error_event(500)] * 20:
        version += 1
        mirror.api.will("watch", Watch(event("MODIFIED", thing("a", version)), failure))
    mirror.api.will("list", BROKEN, page(thing("a", 7), version=7))
    mirror.api.always["list"] = page(thing("a", 200), version=200)
    mirror.api.will("watch", Watch(event("ADDED", thing("last", 300)), stays_open=True))
    await mirror.watched_from(600)

    assert sorted(mirror.colors) == ["a", "last"]


def test_delays_grow_to_their_bound_and_are_never_in_step() -> None:
    backoff = Backoff(first_s=1, max_s=10)
    delays = [backoff.next_delay_s() for _ in range(100)]

    assert all(
        ceiling / 2 <= delay <= ceiling
        for delay, ceiling in zip(delays, [1, 2, 4, 8] + [10] * 96, strict=True)
    )
    assert len(set(delays)) == 100
    backoff.reset()

    assert backoff.next_delay_s() <= 1
