"""`ApiClient` over HTTP: one aiohttp session, JSON in and raw bytes out.

HTTP/1.1 with a bounded number of connections: their bound is also what limits how much is asked of
the API server at a time.
"""

from __future__ import annotations

import asyncio
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol, Self

import aiohttp
import msgspec

from batch_operator.cluster.backoff import Backoff, between
from batch_operator.cluster.client import ApiError, ListPage, Resource, WatchEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from batch_operator.cluster.clock import Clock
    from batch_operator.cluster.credentials import Credentials

REQUEST_TIMEOUT_S = 30.0
"""Below the API server's own 60 s, so that a dead etcd is noticed here first."""
TRIES = 4
"""Of one call, before its caller is told; the caller has a longer patience of its own."""
CONNECTIONS = 64
WATCH_SILENCE_MAX_S = 100.0
"""Bookmarks come every minute: a watch that is silent for longer is dead."""
LINE_LENGTH_MAX = 16 * 2**20
USER_AGENT = f"batch-operator/{metadata.version('batch-operator')}"
"""How audit logs and API priority rules tell us from others."""


class RequestObserver(Protocol):
    """Told of every finished request; status 0 means that no reply came."""

    def request_done(self, verb: str, resource: str, status: int, seconds: float) -> None: ...


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _StatusDetails(msgspec.Struct, rename="camel"):
    retry_after_seconds: float = 0


class _Status(msgspec.Struct, rename="camel"):
    reason: str = ""
    message: str = ""
    code: int = 0
    details: _StatusDetails | None = None


RETRY_AFTER_MAX_S = 60.0
"""Whoever asks to be left alone for longer may not know what waits for an answer: a page for times
of maintenance in front of the API server says an hour, and is gone after a minute."""
_LIST = msgspec.json.Decoder(_List)
_EVENT = msgspec.json.Decoder(_Event)
_STATUS = msgspec.json.Decoder(_Status)
_ENCODER = msgspec.json.Encoder()


def status_error(raw: bytes | msgspec.Raw, http_status: int = 0) -> ApiError:
    """A `Status` object, or whatever came in its place, as an error."""
    try:
        status = _STATUS.decode(raw)
    except msgspec.MsgspecError:
        text = bytes(raw)[:200].decode(errors="replace")
        return ApiError(http_status, "Unreadable", f"no Kubernetes reply: {text!r}")
    details = status.details
    retry_after_s = min(details.retry_after_seconds, RETRY_AFTER_MAX_S) if details else 0
    return ApiError(
        status.code or http_status, status.reason, status.message, retry_after_s or None
    )


class HttpApiClient:
    """See `client.ApiClient`. Use as an asynchronous context manager."""

    def __init__(
        self, credentials: Credentials, clock: Clock, observer: RequestObserver | None = None
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._observer = observer
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = self._credentials.ssl_context() if self._is_tls else None
        connector = aiohttp.TCPConnector(limit=0, ssl=context or False)
        self._http = aiohttp.ClientSession(
            # With the slash, and paths without one, a server behind a path (Rancher) is reached.
            self._credentials.server.rstrip("/") + "/",
            connector=connector,
            headers={"User-Agent": USER_AGENT},
            read_bufsize=2**20,
        )
        self._slots = asyncio.Semaphore(CONNECTIONS)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    @property
    def _is_tls(self) -> bool:
        return self._credentials.server.startswith("https")

    async def get(self, resource: Resource, namespace: str | None, name: str) -> bytes:
        return await self._call("GET", resource, resource.path(namespace, name))

    async def list_page(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = 500,
        continue_token: str = "",
    ) -> ListPage:
        query = {"limit": str(limit)} if limit else {}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        if continue_token:
            query["continue"] = continue_token
        reply = await self._call("GET", resource, resource.path(namespace), query=query)
        try:
            page = _LIST.decode(reply)
        except msgspec.MsgspecError as error:
            raise ApiError(0, "Unreadable", f"the list of {resource.plural}: {error}") from error
        return ListPage(page.items, page.metadata.resource_version, page.metadata.continue_)

    async def create(
        self, resource: Resource, namespace: str | None, body: Mapping[str, Any]
    ) -> bytes:
        return await self._call("POST", resource, resource.path(namespace), body=body)

    async def replace_status(
        self, resource: Resource, namespace: str | None, name: str, body: Mapping[str, Any]
    ) -> bytes:
        path = f"{resource.path(namespace, name)}/status"
        return await self._call("PUT", resource, path, body=body)

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        *,
        content_type: str,
    ) -> bytes:
        path = resource.path(namespace, name)
        return await self._call("PATCH", resource, path, body=body, content_type=content_type)

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str,
        resource_version: int | None = None,
    ) -> bytes:
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = str(resource_version)
        body = {"preconditions": preconditions, "propagationPolicy": "Background"}
        return await self._call("DELETE", resource, resource.path(namespace, name), body=body)

    async def watch(
        self, resource: Resource, *, label_selector: str | None, resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        """Events from `resource_version` on, until the server or the silence ends the stream.

        Raises:
            ApiError: the server refused, or the connection broke.
        """
        assert self._http is not None  # used as a context manager
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            # Not the same for all, or every watch of a large installation reconnects at once.
            "timeoutSeconds": str(int(between(240, 480))),
        }
        if label_selector:
            query["labelSelector"] = label_selector
        timeout = aiohttp.ClientTimeout(sock_connect=10, sock_read=WATCH_SILENCE_MAX_S)
        headers = await self._headers()
        try:
            async with self._http.get(
                resource.path().lstrip("/"), params=query, headers=headers, timeout=timeout
            ) as reply:
                if reply.status != 200:
                    raise _refusal(reply, await reply.read())
                async for line in _lines(reply.content):
                    event = _EVENT.decode(line)
                    yield WatchEvent(event.type, event.object)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise ApiError(0, "ConnectionLost", f"watch of {resource.plural}: {error}") from error

    async def _call(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """One call, tried again while the failure may pass. See `ApiClient` on lost replies."""
        data = None if body is None else _ENCODER.encode(body)
        backoff = Backoff(first_s=0.2, max_s=5.0)
        renew = False
        for attempt in range(1, TRIES + 1):
            begun = self._clock.monotonic()
            headers = {"Content-Type": content_type, **await self._headers(renew=renew)}
            try:
                async with self._slots:
                    status, reply, error = await self._send(verb, path, query, data, headers)
            except (aiohttp.ClientError, TimeoutError) as problem:
                status, reply = 0, b""
                error = ApiError(0, "NoReply", f"{type(problem).__name__}: {problem}")
            if self._observer:
                seconds = self._clock.monotonic() - begun
                self._observer.request_done(verb, resource.plural, status, seconds)
            if error is None:
                return reply
            has_renewed, renew = renew, status == 401
            if attempt == TRIES or not (error.is_retryable or (renew and not has_renewed)):
                raise error
            await asyncio.sleep(error.retry_after_s or backoff.next_delay_s())
        raise AssertionError("unreachable: the last try returns or raises")

    async def _send(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None,
        data: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[int, bytes, ApiError | None]:
        assert self._http is not None  # used as a context manager
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        async with self._http.request(
            verb, path.lstrip("/"), params=query, data=data, headers=headers, timeout=timeout
        ) as reply:
            body = await reply.read()
            return reply.status, body, _refusal(reply, body) if reply.status >= 400 else None

    async def _headers(self, *, renew: bool = False) -> dict[str, str]:
        try:
            value = await self._credentials.authorization(self._clock.monotonic(), renew=renew)
        except Exception as error:
            # A file that is being replaced, an exec plugin without a network: it may pass.
            raise ApiError(0, "NoCredentials", f"the token cannot be read: {error}") from error
        return {"Authorization": value} if value else {}


def _refusal(reply: aiohttp.ClientResponse, body: bytes) -> ApiError:
    """The error that a reply is. Priority and fairness says when to come back in a header alone."""
    error = status_error(body, reply.status)
    header = reply.headers.get("Retry-After", "")
    if error.retry_after_s is None and header.isdecimal():
        error.retry_after_s = min(float(header), RETRY_AFTER_MAX_S)
    return error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The stream's lines, of any length up to a bound that no object in etcd reaches."""
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        if b"\n" in chunk:
            *whole, tail = rest.split(b"\n")
            rest = tail
            for line in whole:
                if line:
                    yield bytes(line)
        if len(rest) > LINE_LENGTH_MAX:
            raise ApiError(0, "LineTooLong", f"an event of more than {LINE_LENGTH_MAX} bytes")
