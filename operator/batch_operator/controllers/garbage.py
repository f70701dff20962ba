"""When Python's garbage collector runs: often over what is new, seldom over everything.

What the operator makes is freed by reference counting; only cycles, such as an exception with its
traceback, need the collector. Left alone it walks over every object each time that a quarter of
them are new, which with ten thousand jobs in the cache stops the operator for half a second in the
midst of scheduling. So it is confined to new objects, and everything is walked over on a schedule.
A decision makes no cycles, and most of what it makes is kept: it is not walked over at all.
"""

from __future__ import annotations

import asyncio
import gc
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

NEW_OBJECTS = 1_000
"""Few enough to be in the processor's cache still when they are walked over: half a millisecond,
and three for what `YOUNG_COLLECTIONS` have left. With ten times as many it was 15 and 70."""
YOUNG_COLLECTIONS = 5
NEVER = 1_000_000
COLLECT_EVERY_S = 600.0


def confine_collector() -> None:
    """Keep automatic collections to objects that are new."""
    gc.set_threshold(NEW_OBJECTS, YOUNG_COLLECTIONS, NEVER)


def undisturbed(decide: Callable[P, T]) -> Callable[P, T]:
    """The function without collections in it; what there is when it returns counts as old."""

    @wraps(decide)
    def decided(*args: P.args, **kwargs: P.kwargs) -> T:
        gc.disable()
        try:
            return decide(*args, **kwargs)
        finally:
            gc.freeze()
            gc.enable()

    return decided


async def collect_now_and_then() -> None:
    """Collect everything at intervals: what grew old before it became garbage is left to this."""
    while True:
        await asyncio.sleep(COLLECT_EVERY_S)
        gc.unfreeze()
        gc.collect()
