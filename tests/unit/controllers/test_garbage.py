"""The garbage collector leaves the cache alone, and what is garbage does not stay for ever."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from batch_operator.controllers import garbage

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ring:
    """Refers to itself, so that counting references never frees it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("_thresholds")
def test_a_busy_operator_does_not_walk_over_all_that_it_knows() -> None:
    garbage.confine_collector()
    gc.collect()
    full = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(600_000)]

    assert len(kept) == 600_000
    assert gc.get_stats()[2]["collections"] == full


@pytest.mark.usefixtures("_thresholds")
async def test_garbage_that_has_grown_old_is_collected_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "COLLECT_EVERY_S", 0.0)
    garbage.confine_collector()
    ring = garbage.undisturbed(Ring)()  # now it is among the old
    gone = weakref.ref(ring)
    del ring
    gc.collect()
    assert gone() is not None
    task = asyncio.create_task(garbage.collect_now_and_then())
    for _ in range(3):  # it begins, sleeps for no time, and collects
        await asyncio.sleep(0)
    task.cancel()

    assert gone() is None


@pytest.mark.usefixtures("_thresholds")
def test_what_a_decision_makes_is_not_walked_over() -> None:
    """Neither while it decides nor afterwards."""
    garbage.confine_collector()
    decide = garbage.undisturbed(lambda count: [[number] for number in range(count)])
    before = [one["collections"] for one in gc.get_stats()]
    kept = decide(100_000)

    assert len(kept) == 100_000
    assert [one["collections"] for one in gc.get_stats()] == before
    assert gc.get_freeze_count() >= 100_000


@pytest.mark.usefixtures("_thresholds")
def test_a_decision_that_fails_leaves_the_collector_at_work() -> None:
    with pytest.raises(ZeroDivisionError):
        garbage.undisturbed(lambda: 1 / 0)()

    assert gc.isenabled()
