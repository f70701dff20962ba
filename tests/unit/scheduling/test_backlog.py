"""The order of a queue's jobs against a sorted list."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from batch_operator.scheduling.backlog import FIRST_TRY, RETRY, Ask, Backlog, Lot
from support.builders import START

SMALL, LARGE = Ask(1000), Ask(4000)


def lot(
    rank: int, at_s: float, uid: str, *, share: str = "", priority: int = 0, ask: Ask = SMALL
) -> Lot:
    return Lot((rank, -priority, START + timedelta(seconds=at_s), uid, 0), ask, share=share)


def backlog_of(*lots: Lot) -> Backlog:
    backlog = Backlog()
    for one in lots:
        backlog.set(one.uid, (one,))
    return backlog


def uids(backlog: Backlog) -> list[str]:
    return [one.uid for one in backlog]


def test_jobs_wait_in_order_of_submission() -> None:
    """AWS Batch, job queues: first in, first out."""
    backlog = backlog_of(lot(FIRST_TRY, 2, "b"), lot(FIRST_TRY, 1, "a"))

    assert uids(backlog) == ["a", "b"]
    assert (backlog.position("a"), backlog.position("b")) == (1, 2)


def test_retries_stand_in_front() -> None:
    """AWS Batch, best practices: a retried job moves to the front of its queue."""
    backlog = backlog_of(lot(FIRST_TRY, 1, "a", priority=9), lot(RETRY, 2, "b"))

    assert uids(backlog) == ["b", "a"]


def test_a_higher_priority_stands_before_an_earlier_submission() -> None:
    """AWS Batch, fair share: within a share, the higher schedulingPriority first."""
    backlog = backlog_of(lot(FIRST_TRY, 1, "a"), lot(FIRST_TRY, 2, "b", priority=1))

    assert uids(backlog) == ["b", "a"]


def test_jobs_submitted_in_the_same_second_keep_one_order() -> None:
    backlog = backlog_of(lot(FIRST_TRY, 1, "b"), lot(FIRST_TRY, 1, "a"))

    assert uids(backlog) == ["a", "b"]


def test_an_array_with_retries_waits_in_two_places_and_counts_from_the_first() -> None:
    backlog = backlog_of(lot(FIRST_TRY, 0, "a"))
    backlog.set("array", (lot(RETRY, 5, "array"), lot(FIRST_TRY, 5, "array")))

    assert uids(backlog) == ["array", "a", "array"]
    assert (backlog.position("array"), backlog.position("a")) == (1, 2)


def test_a_position_is_that_within_the_jobs_share() -> None:
    backlog = backlog_of(
        lot(FIRST_TRY, 0, "a", share="red"),
        lot(FIRST_TRY, 1, "b", share="blue"),
        lot(FIRST_TRY, 2, "c", share="blue"),
    )

    assert [backlog.position(uid) for uid in "abc"] == [1, 1, 2]


def test_a_job_that_does_not_wait_has_no_position() -> None:
    backlog = backlog_of(lot(FIRST_TRY, 1, "a"))
    backlog.set("a", ())

    assert backlog.position("a") is None
    assert backlog.position("never heard of") is None
    assert len(backlog) == 0
    assert not backlog.lines


def test_the_jobs_of_a_class_are_those_of_all_shares() -> None:
    backlog = backlog_of(
        lot(FIRST_TRY, 0, "a", share="red"),
        lot(FIRST_TRY, 1, "b", share="blue"),
        lot(FIRST_TRY, 2, "c", share="blue", ask=LARGE),
    )
    assert backlog.jobs_with(SMALL) == ["a", "b"]

    backlog.set("a", ())
    assert backlog.jobs_with(SMALL) == ["b"]


class Turns:
    """The standing of shares that each wait until all before them had a turn."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def rank(self, share: str) -> float:
        return self.taken[share]

    def take(self, share: str, milli_cpu: int) -> None:
        self.taken[share] += milli_cpu

    def served_before(self, share: str, milli_cpu: int, other: float) -> int:
        return max(1, int((other - self.taken[share]) // milli_cpu))


def test_the_front_of_a_few_shares_has_the_first_of_each() -> None:
    backlog = backlog_of(
        *(lot(FIRST_TRY, at, f"{share}{at}", share=share) for share in "ab" for at in range(3)),
        lot(FIRST_TRY, 9, "c0", share="c", ask=LARGE),
    )

    assert [one.uid for one in backlog.front(2, 9, Turns())] == ["a0", "b0", "c0", "a1", "b1"]


def test_the_front_of_many_shares_has_those_that_are_served_first() -> None:
    """`a` holds so much already that all others have their turns before it."""
    backlog = backlog_of(
        *(lot(FIRST_TRY, at, f"{share}{at}", share=share) for share in "abc" for at in range(9))
    )
    turns = Turns()
    turns.take("a", 2000)

    assert [one.uid for one in backlog.front(9, 5, turns)] == ["b0", "c0", "b1", "c1", "a0"]


UIDS = st.sampled_from([f"uid-{number}" for number in range(6)])
PLACES = st.lists(st.sampled_from([RETRY, FIRST_TRY]), unique=True, max_size=2).map(sorted)


@given(st.lists(st.tuples(UIDS, PLACES, st.sampled_from([SMALL, LARGE])), max_size=30))
def test_the_order_is_that_of_a_sorted_list_whatever_came_and_went(
    changes: list[tuple[str, list[int], Ask]],
) -> None:
    backlog, model = Backlog(), dict[str, list[Lot]]()
    for uid, ranks, ask in changes:
        model[uid] = [lot(rank, int(uid[-1]) % 3, uid, ask=ask) for rank in ranks]
        backlog.set(uid, model[uid])
        waiting = [one for lots in model.values() for one in lots]
        expected = sorted(waiting, key=lambda one: one.place)
        classes = {ask: [one.place for one in expected if one.ask == ask] for ask in (SMALL, LARGE)}

        assert list(backlog) == expected
        assert len(backlog) == len(expected)
        for kind, places in classes.items():
            assert backlog.jobs_with(kind) == list(dict.fromkeys(place[3] for place in places))
            assert (kind in backlog.shares_with) == bool(places)
        for share in backlog.lines.values():
            assert share.classes == {ask: places for ask, places in classes.items() if places}
        for one, lots in model.items():
            assert backlog.position(one) == (expected.index(lots[0]) + 1 if lots else None)
