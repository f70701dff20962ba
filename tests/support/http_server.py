"""A real HTTP server on loopback that answers what a test lines up."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web
from aiohttp.test_utils import RawTestServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came in; times are the loop's."""

    at_s: float
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(slots=True)
class HttpServer:
    """Use as an asynchronous context manager. `always` answers when nothing is lined up."""

    calls: list[Call] = field(default_factory=list)
    always: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None
    ssl_context: ssl.SSLContext | None = None
    _answers: deque[Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = field(
        default_factory=deque
    )
    _server: RawTestServer = field(init=False)

    async def __aenter__(self) -> Self:
        self._server = RawTestServer(self._answer)
        await self._server.start_server(ssl=self.ssl_context)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("")).rstrip("/")

    def will(self, *answers: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        """Line up answers to the next requests."""
        self._answers += answers

    @property
    def times(self) -> list[float]:
        return [one.at_s for one in self.calls]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        text = await request.text()
        call = Call(
            at_s=asyncio.get_running_loop().time(),
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers=dict(request.headers),
            body=json.loads(text) if text else None,
        )
        self.calls.append(call)
        answer = self._answers.popleft() if self._answers else self.always
        assert answer is not None, f"nobody said what to answer: {call}"
        return await answer(request)


def says(
    status: int, body: Any, **headers: str
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An answer at once: text as it is, anything else as JSON. `Retry_After` is `Retry-After`."""
    text = body if isinstance(body, str) else json.dumps(body)

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    return answer


def streams(
    *parts: bytes | float, cut: bool = False
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An answer piece by piece; a number is that many seconds of silence."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            if isinstance(part, bytes):
                await response.write(part)
            else:
                await asyncio.sleep(part)
        if cut:
            await cuts(request)
        return response

    return answer


async def cuts(request: web.BaseRequest) -> web.StreamResponse:
    """Break the connection off."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def is_silent(_: web.BaseRequest) -> web.StreamResponse:
    """Take the request and never answer."""
    await asyncio.sleep(1e6)
    return web.Response()
