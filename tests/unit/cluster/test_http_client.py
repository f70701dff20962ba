"""What is sent to an API server, and what is made of its answers: over real sockets."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from batch_operator.cluster import http_client
from batch_operator.cluster.client import (
    BATCH_JOBS,
    JOB_QUEUES,
    MERGE_PATCH,
    PODS,
    ApiClient,
    ApiError,
)
from batch_operator.cluster.credentials import Credentials
from batch_operator.cluster.http_client import (
    CONNECTIONS,
    TRIES,
    WATCH_SILENCE_MAX_S,
    HttpApiClient,
)
from support.http_server import Call, HttpServer, cuts, is_silent, says, streams
from support.virtual_time import VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

BROKEN = "cannot be read"
OK = says(200, {"kind": "Pod"})


def status(code: int, reason: str = "R", message: str = "m", **details: Any) -> dict[str, Any]:
    """A Kubernetes Status object."""
    body = {"kind": "Status", "status": "Failure", "code": code}
    return {**body, "reason": reason, "message": message, "details": details}


def fails(code: int, reason: str = "R", message: str = "m", **details: Any) -> Any:
    return says(code, status(code, reason, message, **details))


@dataclass(slots=True)
class Seen:
    """What a request observer was told."""

    requests: list[tuple[str, str, int, float]] = field(default_factory=list)

    def request_done(self, verb: str, resource: str, status: int, seconds: float) -> None:
        self.requests.append((verb, resource, status, round(seconds, 3)))


@dataclass(slots=True)
class Keyring:
    """Tokens that are handed out one after the other; the last for ever."""

    tokens: list[str]
    reads: int = 0

    def read(self) -> str:
        self.reads += 1
        current = self.tokens[min(self.reads, len(self.tokens)) - 1]
        if current == BROKEN:
            raise OSError("exec plugin failed")
        return f"Bearer {current}"


@dataclass(slots=True)
class Line:
    """A client and the server that it talks to."""

    server: HttpServer
    client: HttpApiClient
    seen: Seen
    keyring: Keyring

    async def get(self) -> bytes:
        return await self.client.get(PODS, "default", "p")

    async def create(self) -> bytes:
        """A call that aiohttp does not by itself repeat when its connection breaks."""
        return await self.client.create(PODS, "default", {"kind": "Pod"})

    async def events(self, version: str = "7") -> list[tuple[str, Any]]:
        """Every event of one watch until it ends."""
        stream = self.client.watch(PODS, label_selector="ours", resource_version=version)
        return [(one.type, json.loads(bytes(one.object))) async for one in stream]


@asynccontextmanager
async def line(*tokens: str, path: str = "") -> AsyncIterator[Line]:
    keyring, seen = Keyring(list(tokens) or ["token"]), Seen()
    async with HttpServer() as server:
        credentials = Credentials(
            server=server.url + path,
            ca_file=None,
            certificate=None,
            insecure=False,
            _read_token=keyring.read,
        )
        async with HttpApiClient(credentials, VirtualClock(), seen) as client:
            yield Line(server, client, seen, keyring)


@pytest.fixture
async def wire() -> AsyncIterator[Line]:
    async with line() as one:
        yield one


# What is sent


@pytest.mark.parametrize(
    ("ask", "method", "path", "body"),
    [
        pytest.param(
            lambda client: client.get(PODS, "ns", "p"),
            "GET", "/api/v1/namespaces/ns/pods/p", None, id="get",
        ),
        pytest.param(
            lambda client: client.get(JOB_QUEUES, None, "q"),
            "GET", "/apis/batch-operator.io/v1alpha1/jobqueues/q", None, id="get, no namespace",
        ),
        pytest.param(
            lambda client: client.create(PODS, "ns", {"kind": "Pod"}),
            "POST", "/api/v1/namespaces/ns/pods", {"kind": "Pod"}, id="create",
        ),
        pytest.param(
            lambda client: client.replace_status(BATCH_JOBS, "ns", "j", {"status": {}}),
            "PUT", "/apis/batch-operator.io/v1alpha1/namespaces/ns/batchjobs/j/status",
            {"status": {}}, id="status",
        ),
        pytest.param(
            lambda client: client.patch(PODS, "ns", "p", {"a": None}, content_type=MERGE_PATCH),
            "PATCH", "/api/v1/namespaces/ns/pods/p", {"a": None}, id="patch",
        ),
        pytest.param(
            lambda client: client.delete(PODS, "ns", "p", uid="u"),
            "DELETE", "/api/v1/namespaces/ns/pods/p",
            {"preconditions": {"uid": "u"}, "propagationPolicy": "Background"}, id="delete",
        ),
        pytest.param(
            lambda client: client.delete(PODS, "ns", "p", uid="u", resource_version=7),
            "DELETE", "/api/v1/namespaces/ns/pods/p",
            {
                "preconditions": {"uid": "u", "resourceVersion": "7"},
                "propagationPolicy": "Background",
            },
            id="delete as it was seen",
        ),
    ],
)  # fmt: skip
async def test_every_call_says_what_it_means_and_gives_the_raw_reply(
    wire: Line,
    ask: Callable[[ApiClient], Awaitable[bytes]],
    method: str,
    path: str,
    body: Any,
) -> None:
    wire.server.will(OK)
    reply = await ask(wire.client)
    [call] = wire.server.calls

    assert reply == b'{"kind": "Pod"}'
    assert (call.method, call.path, call.body) == (method, path, body)
    assert call.headers["Authorization"] == "Bearer token"
    assert call.headers["Content-Type"] == (
        MERGE_PATCH if method == "PATCH" else "application/json"
    )


@pytest.mark.parametrize("path", ["/k8s/clusters/c-1", "/k8s/clusters/c-1/"])
async def test_a_server_behind_a_path_is_reached_there(path: str) -> None:
    """So do Rancher and other proxies serve several clusters."""
    async with line(path=path) as wire:
        wire.server.will(OK, streams())
        await wire.get()
        await wire.events()

    assert [one.path for one in wire.server.calls] == [
        "/k8s/clusters/c-1/api/v1/namespaces/default/pods/p",
        "/k8s/clusters/c-1/api/v1/pods",
    ]


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        pytest.param({}, {"limit": "500"}, id="first page"),
        pytest.param(
            {"label_selector": "a=b", "continue_token": "t/=", "limit": 10},
            {"labelSelector": "a=b", "continue": "t/=", "limit": "10"},
            id="a later page",
        ),
        pytest.param({"limit": 0}, {}, id="all in one"),
    ],
)
async def test_a_list_is_asked_for_by_page(
    wire: Line, asked: dict[str, Any], query: dict[str, str]
) -> None:
    items = [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]
    wire.server.will(
        says(200, {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": items})
    )
    page = await wire.client.list_page(PODS, **asked)
    [call] = wire.server.calls

    assert (call.path, call.query) == ("/api/v1/pods", query)
    assert [json.loads(bytes(one)) for one in page.items] == items
    assert (page.resource_version, page.continue_token) == ("7", "more")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("<html>please log in</html>", id="a proxy's page"),
        pytest.param({"kind": "PodList"}, id="no list"),
        pytest.param({"metadata": {}, "items": []}, id="a list without a version"),
    ],
)
async def test_a_list_that_is_none_is_an_error_of_the_api(wire: Line, body: Any) -> None:
    """And not an error of this program, which would end the mirror that asked."""
    wire.server.will(says(200, body))

    with pytest.raises(ApiError, match="0 Unreadable: the list of pods"):
        await wire.client.list_page(PODS)


# Failures


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(fails(500, message="etcdserver: leader changed"), id="500"),
        pytest.param(says(502, "<html>Bad Gateway</html>"), id="502 of a proxy"),
        pytest.param(fails(503), id="503"),
        pytest.param(fails(504, "Timeout"), id="504"),
        pytest.param(fails(429), id="429"),
        pytest.param(fails(408), id="408"),
        pytest.param(cuts, id="the connection breaks"),
        pytest.param(streams(b"{", cut=True), id="the connection breaks within the reply"),
    ],
)
async def test_what_may_pass_is_tried_again(wire: Line, failure: Any) -> None:
    wire.server.will(failure, failure, OK)
    reply = await wire.create()
    first, second, third = wire.server.times

    assert reply == b'{"kind": "Pod"}'
    assert 0.1 <= second - first <= 0.2
    assert 0.2 <= third - second <= 0.4


async def test_a_body_is_sent_again_with_every_try(wire: Line) -> None:
    wire.server.will(fails(500), OK)
    await wire.create()

    assert [one.body for one in wire.server.calls] == [{"kind": "Pod"}] * 2


@pytest.mark.parametrize(
    ("failure", "waited_s"),
    [
        pytest.param(
            says(429, "Too many requests, please try again later.\n", Retry_After="7"), 7,
            id="the header, as priority and fairness sends it",
        ),
        pytest.param(fails(429, retryAfterSeconds=3), 3, id="the Status"),
        pytest.param(fails(503, retryAfterSeconds=2), 2, id="the Status of another failure"),
        pytest.param(
            says(503, "maintenance", Retry_After="3600"), 60, id="a page for times of maintenance",
        ),
        pytest.param(
            says(429, status(429, retryAfterSeconds=86400)), 60, id="a whole day",
        ),
        pytest.param(
            says(429, status(429, retryAfterSeconds=3), Retry_After="1"), 3, id="both",
        ),
    ],
)  # fmt: skip
async def test_a_server_that_says_when_to_come_back_is_believed(
    wire: Line, failure: Any, waited_s: float
) -> None:
    wire.server.will(failure, OK)
    await wire.get()
    first, second = wire.server.times

    assert second - first == pytest.approx(waited_s, abs=0.01)


async def test_a_retry_after_that_is_no_number_is_ignored(wire: Line) -> None:
    """HTTP allows a date; the API server never sends one."""
    wire.server.will(says(503, "", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), OK)
    await wire.get()
    first, second = wire.server.times

    assert second - first <= 0.2


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        pytest.param(fails(400, "BadRequest"), 400, id="400"),
        pytest.param(fails(403, "Forbidden"), 403, id="403"),
        pytest.param(fails(404, "NotFound"), 404, id="404"),
        pytest.param(fails(409, "AlreadyExists"), 409, id="409 AlreadyExists"),
        pytest.param(fails(409, "Conflict"), 409, id="409 Conflict"),
        pytest.param(fails(410, "Expired"), 410, id="410"),
        pytest.param(fails(422, "Invalid"), 422, id="422"),
        pytest.param(
            fails(500, message="etcdserver: request is too large"), 500, id="500 too large"
        ),
    ],
)
async def test_what_does_not_pass_is_told_at_once(wire: Line, failure: Any, code: int) -> None:
    wire.server.will(failure)

    with pytest.raises(ApiError) as raised:
        await wire.get()

    assert raised.value.status == code
    assert len(wire.server.calls) == 1


async def test_an_error_carries_the_servers_own_words(wire: Line) -> None:
    message = 'pods "p" is forbidden: exceeded quota: compute'
    wire.server.will(fails(403, "Forbidden", message))

    with pytest.raises(ApiError) as raised:
        await wire.get()

    assert raised.value.reason == "Forbidden"
    assert raised.value.message == message
    assert str(raised.value) == f"403 Forbidden: {message}"


async def test_an_error_of_something_else_shows_what_came(wire: Line) -> None:
    wire.server.will(says(403, "<html>corporate proxy</html>"))

    with pytest.raises(ApiError, match="corporate proxy") as raised:
        await wire.get()

    assert raised.value.status == 403


@pytest.mark.parametrize(
    ("failure", "code", "took_s"),
    [
        pytest.param(fails(503), 503, 1.4, id="503"),
        pytest.param(cuts, 0, 1.4, id="the connection breaks"),
        pytest.param(is_silent, 0, 30 * TRIES + 1.4, id="no reply at all"),
    ],
)
async def test_patience_ends_and_the_caller_is_told(
    wire: Line, failure: Any, code: int, took_s: float
) -> None:
    wire.server.always = failure

    with pytest.raises(ApiError) as raised:
        await wire.create()

    assert raised.value.status == code
    assert raised.value.is_retryable
    assert len(wire.server.calls) == TRIES
    assert took_s / 2 <= asyncio.get_running_loop().time() <= took_s + 3


async def test_a_server_that_is_not_there_is_no_reply(wire: Line) -> None:
    await wire.server._server.close()

    with pytest.raises(ApiError) as raised:
        await wire.create()

    assert (raised.value.status, raised.value.reason) == (0, "NoReply")


async def test_every_try_is_observed(wire: Line) -> None:
    wire.server.will(fails(500), cuts, OK)
    await wire.create()

    assert [one[:3] for one in wire.seen.requests] == [
        ("POST", "pods", 500),
        ("POST", "pods", 0),
        ("POST", "pods", 200),
    ]


async def test_no_more_requests_are_under_way_than_the_bound(wire: Line) -> None:
    now = most = 0

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(1)
        now -= 1
        return web.Response(text="{}")

    wire.server.always = answer
    await asyncio.gather(*(wire.get() for _ in range(CONNECTIONS + 10)))

    assert most == CONNECTIONS


# Tokens


async def test_a_refused_token_is_renewed_once_and_the_call_repeated() -> None:
    async with line("old", "new") as wire:
        wire.server.will(fails(401, "Unauthorized"), OK, OK)
        await wire.get()
        await wire.get()

    assert authorizations(wire.server.calls) == ["old", "new", "new"]
    assert wire.keyring.reads == 2


async def test_a_fresh_token_that_is_refused_too_is_told() -> None:
    async with line("old", "new") as wire:
        wire.server.always = fails(401, "Unauthorized")
        with pytest.raises(ApiError, match="401 Unauthorized"):
            await wire.get()

    assert authorizations(wire.server.calls) == ["old", "new"]


async def test_a_token_is_read_again_every_minute() -> None:
    """The kubelet rotates it; nobody should have to be refused first."""
    async with line("old", "new") as wire:
        wire.server.always = OK
        await wire.get()
        await asyncio.sleep(59)
        await wire.get()
        await asyncio.sleep(2)
        await wire.get()

    assert authorizations(wire.server.calls) == ["old", "old", "new"]


@pytest.mark.parametrize("ask", [Line.get, Line.events], ids=["a call", "a watch"])
async def test_a_token_that_cannot_be_read_is_an_error_of_the_api(
    ask: Callable[[Line], Awaitable[Any]],
) -> None:
    """An exec plugin that fails once must not end the mirror that asked."""
    async with line(BROKEN) as wire:
        with pytest.raises(ApiError, match="exec plugin failed") as raised:
            await ask(wire)

    assert raised.value.is_retryable
    assert wire.server.calls == []


async def test_without_a_token_no_authorization_is_sent(wire: Line) -> None:
    """A client certificate speaks for itself."""
    wire.client._credentials._read_token = lambda: None
    wire.server.will(OK)
    await wire.get()

    assert "Authorization" not in wire.server.calls[0].headers


def authorizations(calls: Iterable[Call]) -> list[str]:
    return [one.headers["Authorization"].removeprefix("Bearer ") for one in calls]


# Watches


def lines_of(*events: tuple[str, Any]) -> bytes:
    return b"".join(
        json.dumps({"type": kind, "object": value}).encode() + b"\n" for kind, value in events
    )


def pieces(whole: bytes, size: int) -> list[bytes | float]:
    """The bytes in pieces of `size`, with a pause after each."""
    found: list[bytes | float] = []
    for begin in range(0, len(whole), size):
        found += [whole[begin : begin + size], 1.0]
    return found


ADDED = ("ADDED", {"metadata": {"name": "a"}})
BOOKMARK = ("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
LONG = ("MODIFIED", {"spec": "x" * 200_000})
VERY_LONG = ("MODIFIED", {"spec": "ü" * 2_000_000})


async def test_a_watch_asks_for_bookmarks_from_a_version_on(wire: Line) -> None:
    wire.server.will(streams(), streams())
    await wire.events("42")
    await wire.events("43")
    first, second = (dict(one.query) for one in wire.server.calls)
    lives = {int(first.pop("timeoutSeconds")), int(second.pop("timeoutSeconds"))}

    assert first == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "42",
        "labelSelector": "ours",
    }
    assert all(240 <= one <= 480 for one in lives)
    assert authorizations(wire.server.calls) == ["token"] * 2


async def test_watches_do_not_all_reconnect_together(wire: Line) -> None:
    wire.server.always = streams()
    for _ in range(10):
        await wire.events()

    assert len({one.query["timeoutSeconds"] for one in wire.server.calls}) > 1


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([], [], id="nothing at all"),
        pytest.param([lines_of(ADDED, BOOKMARK)], [ADDED, BOOKMARK], id="two in one piece"),
        pytest.param(
            [lines_of(ADDED), 60.0, lines_of(BOOKMARK)], [ADDED, BOOKMARK], id="two with a pause"
        ),
        pytest.param([lines_of(LONG, ADDED)], [LONG, ADDED], id="longer than 128 KB"),
        pytest.param([lines_of(VERY_LONG)], [VERY_LONG], id="longer than the read buffer"),
        pytest.param(pieces(lines_of(ADDED, BOOKMARK), 31), [ADDED, BOOKMARK], id="cut anywhere"),
        pytest.param([lines_of(ADDED)[:-1], 1.0, b"\n"], [ADDED], id="cut before the newline"),
        pytest.param([b"\n\n" + lines_of(ADDED) + b"\n"], [ADDED], id="empty lines"),
        pytest.param(
            [lines_of(ADDED) + lines_of(BOOKMARK)[:-5]], [ADDED], id="a last line that is not whole"
        ),
    ],
)
async def test_events_are_lines_however_they_arrive(
    wire: Line, parts: list[bytes | float], expected: list[tuple[str, Any]]
) -> None:
    wire.server.will(streams(*parts))

    assert await wire.events() == expected


async def test_an_event_is_given_when_it_comes_not_when_the_next_does(wire: Line) -> None:
    wire.server.will(streams(lines_of(ADDED), 60.0, lines_of(BOOKMARK)))
    stream = wire.client.watch(PODS, label_selector=None, resource_version="7")
    event = await anext(stream)

    assert event.type == "ADDED"
    assert asyncio.get_running_loop().time() < 1
    assert "labelSelector" not in wire.server.calls[0].query


async def test_a_line_without_an_end_is_given_up(
    wire: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "LINE_LENGTH_MAX", 1000)
    wire.server.will(streams(lines_of(ADDED), b"x" * 1001, 60.0))

    with pytest.raises(ApiError, match="LineTooLong"):
        await wire.events()


async def test_a_watch_that_is_refused_says_why(wire: Line) -> None:
    wire.server.will(fails(410, "Expired", "too old resource version: 1 (2)"))

    with pytest.raises(ApiError, match="too old resource version") as raised:
        await wire.events()

    assert raised.value.is_gone


async def test_a_watch_that_is_refused_for_now_says_for_how_long(wire: Line) -> None:
    wire.server.will(says(429, "Too many requests", Retry_After="7"))

    with pytest.raises(ApiError) as raised:
        await wire.events()

    assert (raised.value.status, raised.value.retry_after_s) == (429, 7)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(streams(lines_of(ADDED), cut=True), id="broken off"),
        pytest.param(streams(lines_of(ADDED), WATCH_SILENCE_MAX_S + 10), id="silent for too long"),
        pytest.param(streams(b"<html>\n"), id="no event"),
        pytest.param(streams(b'{"type": "ADDED"}\n'), id="an event without an object"),
        pytest.param(cuts, id="broken off before it began"),
        pytest.param(is_silent, id="never answered"),
    ],
)
async def test_a_watch_that_breaks_is_an_error_that_may_pass(wire: Line, answer: Any) -> None:
    wire.server.always = answer

    with pytest.raises(ApiError, match="ConnectionLost: watch of pods") as raised:
        await wire.events()

    assert raised.value.is_retryable
    assert asyncio.get_running_loop().time() <= WATCH_SILENCE_MAX_S + 1


async def test_silence_up_to_the_next_bookmark_is_borne(wire: Line) -> None:
    wire.server.will(streams(70.0, lines_of(BOOKMARK), 70.0, lines_of(BOOKMARK)))

    assert await wire.events() == [BOOKMARK, BOOKMARK]
