"""A bad day: refusals, lost requests and replies, watches that lie or break, sudden deaths.

What is injected can happen with a real API server; each kind leads to a state that the operator
must mend by itself. Faults end after a while, because what is promised is convergence after them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from enum import Enum, auto
from random import Random  # noqa: TID251  # seeded: the same seed gives the same faults
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from batch_operator.cluster.client import PODS, ApiError, WatchEvent, tolerating
from batch_operator.simulator.calls import CallAnswerer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from batch_operator.cluster.client import Resource
    from batch_operator.simulator.api_server import ApiServer, Write
    from batch_operator.simulator.calls import Call

T = TypeVar("T")
FAULTS_S = 300.0
"""How long faults go on, from the beginning."""
REQUEST_SHARE, EVENT_SHARE, LIST_SHARE, DEATH_SHARE = 0.1, 0.04, 0.3, 0.005
TIMEOUT_S = 30.0
"""After which a client gives up a request that nobody answers."""
STALE_MAX_S = 10.0
_EXPIRED = WatchEvent(
    "ERROR",
    msgspec.Raw(b'{"kind":"Status","code":410,"reason":"Expired","message":"injected: too old"}'),
)


class Fault(Enum):
    """What can happen to a request."""

    CONFLICT = auto()
    TOO_MANY_REQUESTS = auto()
    INTERNAL_ERROR = auto()
    LOST_REQUEST = auto()
    LOST_REPLY = auto()
    SLOW = auto()


class WatchFault(Enum):
    """What can happen to a watch as an event arrives."""

    DOUBLED = auto()
    DELAYED = auto()
    BROKEN = auto()
    CLOSED = auto()
    EXPIRED = auto()


_ANY_REQUEST = (
    Fault.TOO_MANY_REQUESTS,
    Fault.INTERNAL_ERROR,
    Fault.LOST_REQUEST,
    Fault.LOST_REPLY,
    Fault.SLOW,
)
_UPDATE = (Fault.CONFLICT, *_ANY_REQUEST)
_WATCH = tuple(WatchFault)


class Dice:
    """Decides by seed what goes wrong, and remembers when it last did."""

    def __init__(self, seed: int) -> None:
        self.last_s = 0.0
        self.count = 0
        self._chance = Random(f"faults {seed}")  # noqa: S311  # no secret depends on it

    def request(self, kinds: Sequence[Fault]) -> Fault | None:
        return self._roll(REQUEST_SHARE, kinds)

    def event(self) -> WatchFault | None:
        return self._roll(EVENT_SHARE, _WATCH)

    def is_stale(self) -> bool:
        return self._roll(LIST_SHARE, (True,)) is not None

    def dies(self) -> bool:
        """Whether the operator dies here: before a write, or after it."""
        return self._roll(DEATH_SHARE, (True,)) is not None

    def between(self, low: float, high: float) -> float:
        return self._chance.uniform(low, high)

    def _roll(self, share: float, kinds: Sequence[T]) -> T | None:
        now_s = asyncio.get_running_loop().time()
        if now_s >= FAULTS_S or self._chance.random() >= share:
            return None
        self.last_s = now_s
        self.count += 1
        return self._chance.choice(kinds)


class FaultyApiClient(CallAnswerer):
    """An `ApiClient` in front of another."""

    def __init__(self, client: CallAnswerer, dice: Dice) -> None:
        self._client = client
        self._dice = dice
        self._listed: set[str] = set()

    async def answer(self, call: Call) -> Any:
        if call.verb != "list":
            return await self._carried_out(call)
        aged = {**call.arguments, "ago_s": self._age_s(call)}
        page = await self._carried_out(replace(call, arguments=aged))
        self._listed.add(call.resource.plural)
        return page

    def _age_s(self, call: Call) -> float:
        """How old a list is: a few seconds at most, and new if it is the first of a process.

        Kubernetes answers a list without a resource version from its latest state, and the
        operator rests on that when it starts. Later it knows versions, and must not go back.
        """
        may_be_old = call.resource.plural in self._listed and not call.arguments["continue_token"]
        if not (may_be_old and self._dice.is_stale()):
            return 0.0
        return self._dice.between(0.0, STALE_MAX_S)

    async def watch(
        self, resource: Resource, *, label_selector: str | None, resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        events = self._client.watch(
            resource, label_selector=label_selector, resource_version=resource_version
        )
        async for event in events:
            match self._dice.event():
                case None:
                    yield event
                case WatchFault.DOUBLED:
                    yield event
                    yield event
                case WatchFault.DELAYED:
                    await asyncio.sleep(self._dice.between(0.1, 5.0))
                    yield event
                case WatchFault.BROKEN:
                    raise ApiError(0, "NoReply", "injected: the watch broke")
                case WatchFault.CLOSED:
                    return
                case WatchFault.EXPIRED:
                    yield _EXPIRED
                    return

    async def _carried_out(self, call: Call) -> Any:
        is_update = call.verb in {"status", "patch"}
        match self._dice.request(_UPDATE if is_update else _ANY_REQUEST):
            case Fault.CONFLICT:
                raise ApiError(409, "Conflict", "injected: the object has been modified")
            case Fault.TOO_MANY_REQUESTS:
                after_s = float(int(self._dice.between(1, 6)))
                raise ApiError(429, "TooManyRequests", "injected: try again", after_s)
            case Fault.INTERNAL_ERROR:
                raise ApiError(500, "InternalError", "injected: etcdserver: request timed out")
            case Fault.LOST_REQUEST:
                await asyncio.sleep(TIMEOUT_S)
                raise ApiError(0, "NoReply", "injected: the request was lost")
            case Fault.LOST_REPLY:
                await self._client.answer(call)
                raise ApiError(0, "NoReply", "injected: the reply was lost")
            case Fault.SLOW:
                await asyncio.sleep(self._dice.between(0.1, 8.0))
        return await self._client.answer(call)


class Janitor:
    """Somebody who deletes Pods as soon as they have ended: every second one, to be exact.

    Whoever counts outcomes must have read them before, or must have made sure that they stay.
    """

    def __init__(self, server: ApiServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._ended: set[str] = set()
        server.subscribe(self._see)

    def _see(self, write: Write) -> None:
        if write.resource is not PODS or write.is_removal:
            return
        pod = write.object
        uid = pod["metadata"]["uid"]
        if pod["status"].get("phase") in {"Succeeded", "Failed"} and uid not in self._ended:
            self._ended.add(uid)
            if len(self._ended) % 2:
                self._loop.call_soon(self._delete, pod["metadata"])

    def _delete(self, metadata: Mapping[str, Any]) -> None:
        name, uid = metadata["name"], metadata["uid"]
        with tolerating(404, 409):
            self._server.delete(PODS, metadata["namespace"], name, "janitor", uid=uid)
