"""An `ApiClient` whose answers a test lines up, and which remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_operator.cluster.client import ApiError, WatchEvent
from batch_operator.simulator.calls import CallAnswerer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from batch_operator.cluster.client import Resource
    from batch_operator.simulator.calls import Call


@dataclass(frozen=True, slots=True)
class Request:
    """One call, with the (virtual) time at which it came."""

    at_s: float
    verb: str
    resource: str
    namespace: str | None = None
    name: str = ""
    body: Mapping[str, Any] | None = None
    uid: str = ""
    content_type: str = ""
    label_selector: str | None = None
    field_selector: str | None = None
    limit: int = 0
    continue_token: str = ""
    resource_version: str | int | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """An answer that takes its time."""

    seconds: float
    answer: Any


class Watch:
    """A watch's events; a number is that many seconds of silence, an error breaks it off."""

    def __init__(self, *steps: WatchEvent | float | ApiError, stays_open: bool = False) -> None:
        self.steps = steps
        self.stays_open = stays_open


SILENT = Watch(stays_open=True)


class ScriptedApi(CallAnswerer):
    """Answers each verb's calls with what was lined up for it, in that order.

    An answer is what the call returns (of a watch: a `Watch`), an error that it raises, a function
    of the request, or one of these `Late`. When they are used up, `always` answers; without it a
    call is an error of the test, except that a watch is silent.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.always: dict[str, Any] = {"watch": SILENT}
        self._answers: dict[str, deque[Any]] = defaultdict(deque)

    def will(self, verb: str, *answers: Any) -> None:
        """Line up answers for the next calls of a verb."""
        self._answers[verb] += answers

    def asked(self, verb: str) -> list[Request]:
        return [one for one in self.requests if one.verb == verb]

    def times(self, verb: str) -> list[float]:
        """When the verb was asked for, to the millisecond."""
        return [round(one.at_s, 3) for one in self.asked(verb)]

    async def answer(self, call: Call) -> Any:
        details = dict(call.arguments)
        if call.verb == "create":
            details["name"] = details["body"]["metadata"]["name"]
        return await self._lined_up(call.verb, call.resource, **details)

    async def watch(
        self, resource: Resource, *, label_selector: str | None, resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        script: Watch = await self._lined_up(
            "watch", resource, label_selector=label_selector, resource_version=resource_version
        )
        for step in script.steps:
            if isinstance(step, WatchEvent):
                yield step
            elif isinstance(step, ApiError):
                raise step
            else:
                await asyncio.sleep(step)
        if script.stays_open:
            await asyncio.Event().wait()

    async def _lined_up(self, verb: str, resource: Resource, **details: Any) -> Any:
        at_s = asyncio.get_running_loop().time()
        name = f"{resource.plural}/{resource.subresource}".rstrip("/")
        request = Request(at_s=at_s, verb=verb, resource=name, **details)
        self.requests.append(request)
        lined_up = self._answers[verb]
        assert lined_up or verb in self.always, f"nobody said what to answer: {request}"
        answer = lined_up.popleft() if lined_up else self.always[verb]
        await asyncio.sleep(0)  # no answer comes before others had their turn
        if isinstance(answer, Late):
            await asyncio.sleep(answer.seconds)
            answer = answer.answer
        if isinstance(answer, ApiError):
            raise answer
        return answer(request) if callable(answer) else answer
