"""Time that passes only when nothing else is left to do.

A test on this loop may wait for minutes and takes microseconds: as long as anything is ready to
run, time stands still; then it jumps to the next timer. What happens at which moment is therefore
the same in every run, however slow the machine is.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from support.builders import START

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

T = TypeVar("T")
STEPS_AT_ONCE_MAX = 10_000
SOCKET_GRACE_S = 0.01
"""How long the kernel may take, really, to carry bytes from one loopback socket to another."""


class DeadlockError(Exception):
    """Everything waits, and nothing that could end the waiting is under way."""


class BusyLoopError(Exception):
    """Something goes on and on, and no time passes."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own. Sockets are real; threads are not used at all."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._steps_at_once = 0
        super().__init__()

    def time(self) -> float:
        return self._now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call at once: time must not jump ahead of a thread that is at work."""
        del executor
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the caller's
            done.set_exception(error)
        return done

    def _run_once(self) -> None:
        self._steps_at_once += 1
        if self._steps_at_once > STEPS_AT_ONCE_MAX:
            self._steps_at_once = 0
            raise BusyLoopError
        loop: Any = self  # what follows are internals, the same in all versions that we support
        if not loop._ready and not loop._stopping:
            has_sockets = len(loop._selector.get_map()) > 1  # the loop has one for itself
            if not loop._selector.select(SOCKET_GRACE_S if has_sockets else 0):
                timers = [one.when() for one in loop._scheduled if not one.cancelled()]
                if not timers and not has_sockets:
                    raise DeadlockError
                self._jump_to(min(timers, default=self._now_s))
        super()._run_once()  # type: ignore[misc]

    def _jump_to(self, then_s: float) -> None:
        if then_s > self._now_s:
            self._now_s = then_s
            self._steps_at_once = 0


class VirtualClock:
    """`cluster.clock.Clock` over the running loop's time; wall time begins at START."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


async def settled() -> None:
    """Let everything run that can run now; no time passes that anybody would notice."""
    await asyncio.sleep(1e-6)
