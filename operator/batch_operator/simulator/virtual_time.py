"""An event loop whose time passes only when nothing else is left to do.

As long as a callback is ready, time stands still; then it jumps to the next timer. A simulated day
therefore costs what happens in it, and what happens when does not depend on the machine.
"""

from __future__ import annotations

import asyncio
import selectors
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import floor
from typing import TYPE_CHECKING, TypeVarTuple, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

_Args = TypeVarTuple("_Args")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The wall time at which every simulation begins that does not go on from a snapshot."""


class DeadlockError(Exception):
    """Everything waits, and no timer will ever end the waiting."""


class _TimeMachine(selectors.SelectSelector):
    """The loop's wait for I/O: instead of waiting, it moves the clock on by the time asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError(f"nothing is scheduled after {self.now_s:g} s, but somebody waits")
        self.now_s += max(0.0, timeout)
        return []


_TIE_S = 2e-9
"""Just more than the loop's resolution, below which it takes two timers for simultaneous."""
_TIES_MIN = 10_000
"""Below so many moments it is not worth while to look for those that are past."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop without I/O: timers are all that it knows, and it never waits for them.

    Timers of the same moment fire in the order in which they were set; asyncio's own heap would
    mix them.

    Raises:
        DeadlockError: from `run_until_complete`, when nothing is ready and nothing is scheduled.
    """

    def __init__(self) -> None:
        self._machine = _TimeMachine()
        self._ties: dict[float, int] = {}
        self._ties_max = _TIES_MIN
        super().__init__(self._machine)

    def time(self) -> float:
        return self._machine.now_s

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Args]], object],
        *args: *_Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if len(self._ties) > self._ties_max:
            now = self.time()
            self._ties = {moment: count for moment, count in self._ties.items() if moment >= now}
            self._ties_max = max(_TIES_MIN, 2 * len(self._ties))
        earlier = self._ties.get(when, 0)
        self._ties[when] = earlier + 1
        return super().call_at(when + earlier * _TIE_S, callback, *args, context=context)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Which wall time is which virtual time: 0 s is `begin`, a whole second."""

    begin: datetime = EPOCH

    def at(self, at_s: float) -> datetime:
        return self.begin + timedelta(seconds=at_s)

    def seconds_at(self, at: datetime) -> float:
        """Virtual seconds; negative before the begin."""
        return (at - self.begin).total_seconds()

    def timestamp(self, at_s: float) -> str:
        """A moment of virtual time as the API server writes it: UTC, whole seconds."""
        return self.at(floor(at_s)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def seconds_of(self, timestamp: str) -> float:
        """The virtual seconds of an API server's timestamp."""
        return self.seconds_at(datetime.fromisoformat(timestamp))


PLAIN = Calendar()


class VirtualClock:
    """`cluster.clock.Clock` over a loop's virtual time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, calendar: Calendar) -> None:
        self._loop = loop
        self._calendar = calendar

    def now(self) -> datetime:
        return self._calendar.at(self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()
