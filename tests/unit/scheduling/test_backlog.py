"""The order of a queue's jobs against a sorted list."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from batch_operator.scheduling.backlog import FIRST_TRY, RETRY, Backlog, Entry
from support.builders import START


def entry(rank: int, at_s: float, uid: str) -> Entry:
    return rank, START + timedelta(seconds=at_s), uid


def backlog_of(*entries: Entry) -> Backlog:
    backlog = Backlog()
    for one in entries:
        backlog.set(one[2], (one,))
    return backlog


def test_jobs_wait_in_order_of_submission() -> None:
    """AWS Batch, job queues: first in, first out."""
    backlog = backlog_of(entry(FIRST_TRY, 2, "b"), entry(FIRST_TRY, 1, "a"))

    assert [uid for *_, uid in backlog] == ["a", "b"]
    assert (backlog.position("a"), backlog.position("b")) == (1, 2)


def test_retries_stand_in_front() -> None:
    """AWS Batch, best practices: a retried job moves to the front of its queue."""
    backlog = backlog_of(entry(FIRST_TRY, 1, "a"), entry(RETRY, 2, "b"))

    assert [uid for *_, uid in backlog] == ["b", "a"]


def test_jobs_submitted_in_the_same_second_keep_one_order() -> None:
    backlog = backlog_of(entry(FIRST_TRY, 1, "b"), entry(FIRST_TRY, 1, "a"))

    assert [uid for *_, uid in backlog] == ["a", "b"]


def test_an_array_with_retries_waits_in_two_places_and_counts_from_the_first() -> None:
    backlog = backlog_of(entry(FIRST_TRY, 0, "a"))
    backlog.set("array", (entry(RETRY, 5, "array"), entry(FIRST_TRY, 5, "array")))

    assert [uid for *_, uid in backlog] == ["array", "a", "array"]
    assert (backlog.position("array"), backlog.position("a")) == (1, 2)


def test_a_job_that_does_not_wait_has_no_position() -> None:
    backlog = backlog_of(entry(FIRST_TRY, 1, "a"))
    backlog.set("a", ())

    assert backlog.position("a") is None
    assert backlog.position("never heard of") is None
    assert len(backlog) == 0


UIDS = st.sampled_from([f"uid-{number}" for number in range(6)])
PLACES = st.lists(st.sampled_from([RETRY, FIRST_TRY]), unique=True, max_size=2).map(sorted)


@given(st.lists(st.tuples(UIDS, PLACES), max_size=30))
def test_the_order_is_that_of_a_sorted_list_whatever_came_and_went(
    changes: list[tuple[str, list[int]]],
) -> None:
    backlog, model = Backlog(), dict[str, list[Entry]]()
    for uid, ranks in changes:
        model[uid] = [entry(rank, int(uid[-1]) % 3, uid) for rank in ranks]
        backlog.set(uid, model[uid])
        expected = sorted(one for entries in model.values() for one in entries)

        assert list(backlog) == expected
        assert len(backlog) == len(expected)
        for one, entries in model.items():
            assert backlog.position(one) == (expected.index(entries[0]) + 1 if entries else None)
