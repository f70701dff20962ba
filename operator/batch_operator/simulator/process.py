"""The operator as a process that can die: the real engine, everything it started, and its end.

Whatever a process does, it does through tasks and timers that descend from its start. They carry
their process in a context variable, so that killing it reaches all of them; a timer that still
fires finds a client that no longer answers. What it had asked of the API server before may have
been carried out, as with any process that dies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from batch_operator.cluster.backoff import Backoff
from batch_operator.cluster.engine import Engine
from batch_operator.simulator.calls import CallAnswerer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextvars import Context
    from datetime import datetime

    from batch_operator.cluster.client import Resource, WatchEvent
    from batch_operator.cluster.clock import Clock
    from batch_operator.cluster.engine import NewProvisioners
    from batch_operator.lifecycle.stops import Policy
    from batch_operator.scheduling.cycle import CycleResult
    from batch_operator.scheduling.mutations import WriteStatus
    from batch_operator.simulator.calls import Call


CRASH_DOWN_S = 1.0
"""How long a process that died at a write is away."""


class When(StrEnum):
    """Whether the write at which a process dies is carried out."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Crash:
    """Death at the operator's write number `write`, counted from 1 over the whole simulation."""

    write: int
    when: When

    def __str__(self) -> str:
        return f"{self.when}:{self.write}"


class _Life:
    """One process from its start to its end."""

    def __init__(self) -> None:
        self.is_over = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.wake_at: datetime | None = None
        self.due_at: datetime | None = None


_LIFE: ContextVar[_Life | None] = ContextVar("life", default=None)


def _new_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any],
    *,
    context: Context | None = None,
) -> asyncio.Task[Any]:
    """A task factory that enters every task into the life that it belongs to."""
    task = asyncio.Task(work, loop=loop, context=context)
    life = context.get(_LIFE) if context is not None else _LIFE.get()
    if life is not None:
        life.tasks[task] = None
        task.add_done_callback(lambda done: life.tasks.pop(done, None))
    return task


class OperatorProcess:
    """Starts, kills and restarts the operator.

    `new_client` gives the API client of a process. `report` is told, as a sentence, of everything
    that went wrong inside the operator. `uniform` draws the jitter of its waiting times. `dies` is
    asked around every write whether the process dies there. `provisioners` make its nodes.
    """

    def __init__(
        self,
        new_client: Callable[[], CallAnswerer],
        clock: Clock,
        policy: Policy,
        uniform: Callable[[float, float], float],
        report: Callable[[str], None],
        dies: Callable[[Crash], bool],
        provisioners: NewProvisioners,
    ) -> None:
        self.writes: Counter[tuple[str, str]] = Counter()
        """How many were asked for, by kind and verb."""
        self.restarts = 0
        self._new_client = new_client
        self._clock = clock
        self._policy = policy
        self._uniform = uniform
        self._report = report
        self._dies = dies
        self._provisioners = provisioners
        self._life: _Life | None = None
        loop: Any = asyncio.get_running_loop()  # typeshed knows no factory that takes a context
        loop.set_task_factory(_new_task)

    @property
    def is_up(self) -> bool:
        return self._life is not None

    @property
    def wake_at(self) -> datetime | None:
        """When the last cycle asked to be woken."""
        return self._life.wake_at if self._life else None

    @property
    def due_at(self) -> datetime | None:
        """When something falls due, by the last cycle."""
        return self._life.due_at if self._life else None

    def start(self) -> None:
        """A new process that remembers nothing."""
        life = self._life = _Life()
        token = _LIFE.set(life)
        try:
            self._begin(life)
        finally:
            _LIFE.reset(token)

    def _begin(self, life: _Life) -> None:
        client = _Mortal(self._new_client(), life, self)
        engine = Engine(
            client,
            self._clock,
            self._policy,
            _Observer(life, self._report),
            self._provisioners,
            new_backoff=lambda: Backoff(uniform=self._uniform),
        )
        administrators = [
            engine.reflector(resource, table, decode)
            for resource, (table, decode) in engine.administrators.items()
        ]
        reflectors = [*engine.reflectors, *administrators]
        loop = asyncio.get_running_loop()
        turning = loop.create_task(engine.turn([one.synced for one in administrators]))
        for task in (turning, *(loop.create_task(one.run()) for one in reflectors)):
            task.add_done_callback(lambda done: self._ended(life, done))

    def _ended(self, life: _Life, task: asyncio.Task[None]) -> None:
        if not life.is_over:
            error = None if task.cancelled() else task.exception()
            self._report(f"a part of the operator ended by itself: {error!r}")

    def kill(self) -> None:
        """SIGKILL: nothing of the process does anything any more."""
        life, self._life = self._life, None
        if life is not None:
            life.is_over = True
            # A task that has not begun yet must begin, or the coroutine it was given is never
            # awaited; it comes no further than to the client.
            asyncio.get_running_loop().call_soon(_cancel_all, life)

    def restart(self, down_for_s: float) -> None:
        """Kill the process and start another one after a while."""
        self.kill()
        self.restarts += 1
        loop = asyncio.get_running_loop()
        context = _outside()
        loop.call_later(down_for_s, self._start_again, context=context)

    def _start_again(self) -> None:
        if self._life is None:
            self.start()

    def begin_write(self, kind: str, verb: str) -> int:
        """The number of a write that a process is about to make, and the place to die before it."""
        self.writes[kind, verb] += 1
        number = self.writes.total()
        self._maybe_crash(number, When.BEFORE)
        return number

    def end_write(self, number: int) -> None:
        """The place to die after a write, carried out or refused."""
        self._maybe_crash(number, When.AFTER)

    def _maybe_crash(self, number: int, when: When) -> None:
        if self._dies(Crash(number, when)):
            self.restart(CRASH_DOWN_S)


def _cancel_all(life: _Life) -> None:
    for task in list(life.tasks):
        task.cancel()


def _outside() -> Context:
    """A context that belongs to no process."""
    context = copy_context()
    context.run(_LIFE.set, None)
    return context


class _Observer:
    def __init__(self, life: _Life, report: Callable[[str], None]) -> None:
        self._life = life
        self._report = report

    def cycle_done(self, result: CycleResult, seconds: float) -> None:
        del seconds
        self._life.wake_at = result.wake_at
        self._life.due_at = result.due_at
        for fault in result.faults:
            self._report(f"job {fault.name} cannot be looked at: {fault.error!r}")

    def status_written(self, write: WriteStatus, before: Any, after: Any) -> None:
        del write, before, after


class _Mortal(CallAnswerer):
    """An `ApiClient` that dies with its process, and tells of every write."""

    def __init__(self, client: CallAnswerer, life: _Life, process: OperatorProcess) -> None:
        self._client = client
        self._life = life
        self._process = process

    async def answer(self, call: Call) -> Any:
        self._check()
        if not call.is_write:
            return await self._client.answer(call)
        number = self._process.begin_write(call.resource.kind, call.verb)
        self._check()
        try:
            return await self._client.answer(call)
        finally:
            self._process.end_write(number)
            self._check()

    def watch(
        self, resource: Resource, *, label_selector: str | None, resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        self._check()
        return self._client.watch(
            resource, label_selector=label_selector, resource_version=resource_version
        )

    def _check(self) -> None:
        if self._life.is_over:
            raise asyncio.CancelledError
