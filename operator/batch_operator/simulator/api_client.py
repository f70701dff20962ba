"""`ApiClient` over the simulated API server: what distance adds to it.

Requests and replies take time, lists come in pages, and watches follow the server's log at a lag,
with bookmarks, until the server closes them, as it does with every watch sooner or later.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from batch_operator.cluster.client import ApiError, ListPage, Resource, WatchEvent
from batch_operator.simulator.calls import CallAnswerer
from batch_operator.simulator.label_selector import selector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from batch_operator.simulator.api_server import ApiServer, Log, Write
    from batch_operator.simulator.calls import Call
    from batch_operator.simulator.line import Line

    Matches = Callable[[Mapping[str, str]], bool]

BOOKMARK_S = 60.0
WATCH_LIFE_S = 1800.0
"""kube-apiserver's --min-request-timeout: it closes a watch after that, or somewhat later."""
_CONTINUE = "."
_METHODS = {"status": "replace_status"}
"""Of the server, where they have another name than the verb."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far the client is from the server, in seconds."""

    request_s: float = 0.003
    reply_s: float = 0.003
    watch_lag_s: float = 0.01


class SimulatedApiClient(CallAnswerer):
    """See `cluster.client.ApiClient`. `actor` is whose writes these are, for the checkers."""

    def __init__(
        self, server: ApiServer, actor: str, line: Line, distance: Distance | None = None
    ) -> None:
        self._server = server
        self._actor = actor
        self._line = line
        self._distance = distance or Distance()
        self._lists: dict[str, list[Write]] = {}
        self._pages = 0

    async def answer(self, call: Call) -> Any:
        details: dict[str, Any] = {"actor": self._actor} if call.is_write else {}
        if "body" in call.arguments:
            details["body"] = _sent(call.arguments["body"])
        await asyncio.sleep(self._distance.request_s)
        self._line.check()
        if call.verb == "list":
            return await self._list(call.resource, **call.arguments)
        do = getattr(self._server, _METHODS.get(call.verb, call.verb))
        try:
            return do(call.resource, **{**call.arguments, **details}).raw
        finally:
            await asyncio.sleep(self._distance.reply_s)
            self._line.check()

    async def _list(
        self,
        resource: Resource,
        *,
        namespace: str | None,
        label_selector: str | None,
        field_selector: str | None,
        limit: int,
        continue_token: str,
        ago_s: float = 0.0,
    ) -> ListPage:
        """A page; the pages of one list show the same moment, whatever is written in between.

        `ago_s` asks for a list as it was so long ago; only `faults` does that.
        """
        if continue_token:
            version, _, token = continue_token.partition(_CONTINUE)
            if int(version) < self._server.log(resource).compacted_to or token not in self._lists:
                self._lists.pop(token, None)
                raise ApiError(410, "Expired", "The provided continue parameter is too old")
            left = self._lists.pop(token)
        else:
            number, entries = self._server.entries_as_of(resource, ago_s)
            version, matches = str(number), selector(label_selector or "")
            left = [
                one
                for one in entries
                if matches(_labels(one.object))
                and _has_fields(one.object, field_selector)
                and namespace in {None, one.object["metadata"].get("namespace")}
            ]
        await asyncio.sleep(self._distance.reply_s)
        self._line.check()
        return self._page(left, version, limit)

    def _page(self, left: list[Write], version: str, limit: int) -> ListPage:
        shown, rest = (left[:limit], left[limit:]) if limit else (left, [])
        token = ""
        if rest:
            self._pages += 1
            token = str(self._pages)
            self._lists[token] = rest
            token = f"{version}{_CONTINUE}{token}"
        return ListPage([msgspec.Raw(one.raw) for one in shown], version, token)

    async def watch(
        self, resource: Resource, *, label_selector: str | None, resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        await asyncio.sleep(self._distance.request_s + self._distance.reply_s)
        self._line.check()
        log, matches = self._server.log(resource), selector(label_selector or "")
        position = log.position_after(int(resource_version))
        now = asyncio.get_running_loop().time
        ends_at, bookmark_at = now() + WATCH_LIFE_S, now() + BOOKMARK_S
        while position is not None and now() < ends_at:
            if position >= log.end:
                await self._wait(log, min(ends_at, bookmark_at))
                self._line.check()
                if now() >= bookmark_at and position >= log.end:
                    bookmark_at = now() + BOOKMARK_S
                    yield _bookmark(resource, self._server.version)
                continue
            write = log.at(position)
            if write is None:
                break
            if (lag_s := write.at_s + self._distance.watch_lag_s - now()) > 0:
                await asyncio.sleep(lag_s)
            self._line.check()
            position += 1
            if event := _event(write, matches):
                yield event
        else:
            if position is not None:
                return  # closed by the server: nothing is wrong
        yield _gone(resource_version, log)

    async def _wait(self, log: Log, until_s: float) -> None:
        """Until something is written, or that time has come."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        log.waiters.append(waiter)
        timer = loop.call_at(until_s, _finish, waiter)
        try:
            await waiter
        finally:
            timer.cancel()


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _sent(body: Mapping[str, Any]) -> dict[str, Any]:
    """What arrives: a JSON value that shares nothing with the sender's memory."""
    arrived: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body))
    return arrived


def _has_fields(found: Mapping[str, Any], field_selector: str | None) -> bool:
    """Whether an object has the fields that a selector asks for: `a.b=value,c!=value`."""
    return all(
        (_field(found, path.removesuffix("!")) == value) != path.endswith("!")
        for one in (field_selector or "").split(",")
        if one
        for path, _, value in [one.partition("=")]
    )


def _field(found: Mapping[str, Any], path: str) -> Any:
    part: Any = found
    for name in path.split("."):
        part = part.get(name, {})
    return part


def _labels(value: Mapping[str, Any]) -> Mapping[str, str]:
    labels: Mapping[str, str] = value["metadata"].get("labels") or {}
    return labels


def _event(write: Write, matches: Matches) -> WatchEvent | None:
    """The event that a watch with this selection sees; an object that leaves it is DELETED."""
    was_in = write.before is not None and matches(_labels(write.before))
    is_in = write.after is not None and matches(_labels(write.after))
    if is_in:
        return WatchEvent("MODIFIED" if was_in else "ADDED", msgspec.Raw(write.raw))
    if not was_in:
        return None
    if write.after is None:
        return WatchEvent("DELETED", msgspec.Raw(write.raw))
    assert write.before is not None  # it was selected
    metadata = {**write.before["metadata"], "resourceVersion": str(write.version)}
    raw = msgspec.json.encode({**write.before, "metadata": metadata})
    return WatchEvent("DELETED", msgspec.Raw(raw))


def _bookmark(resource: Resource, version: int) -> WatchEvent:
    value = {"kind": resource.kind, "metadata": {"resourceVersion": str(version)}}
    return WatchEvent("BOOKMARK", msgspec.Raw(msgspec.json.encode(value)))


def _gone(version: str, log: Log) -> WatchEvent:
    value = {
        "kind": "Status",
        "code": 410,
        "reason": "Expired",
        "message": f"too old resource version: {version} ({log.compacted_to})",
    }
    return WatchEvent("ERROR", msgspec.Raw(msgspec.json.encode(value)))
