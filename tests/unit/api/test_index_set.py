"""Index sets against Python's own sets, and what hostile notations get."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.index_set import MAX_INDEX, IndexSet
from support.strategies import indexes, intervals

NOTATIONS: dict[str, tuple[list[int], str]] = {
    "nothing": ([], ""),
    "the first index": ([0], "0"),
    "one index": ([7], "7"),
    "two neighbours": ([3, 4], "3-4"),
    "a run and a straggler": ([0, 1, 2, 3, 5], "0-3,5"),
    "every other": ([1, 3, 5], "1,3,5"),
    "given in disorder": ([5, 1, 3, 2], "1-3,5"),
    "the last index": ([MAX_INDEX], "99999"),
}


@pytest.mark.parametrize("name", NOTATIONS)
def test_the_notation_is_sorted_intervals(name: str) -> None:
    members, notation = NOTATIONS[name]

    assert str(IndexSet.of(members)) == notation
    assert list(IndexSet.parse(notation)) == sorted(members)


def test_a_text_that_is_not_there_names_no_index() -> None:
    """A status leaves out the sets that are empty."""
    assert IndexSet.parse(None) == IndexSet()


@given(indexes())
def test_a_set_holds_what_was_put_into_it_in_ascending_order(members: frozenset[int]) -> None:
    found = IndexSet.of(members)

    assert list(found) == sorted(members)
    assert len(found) == len(members)
    assert bool(found) == bool(members)
    assert all(index in found for index in members)


@given(indexes(), st.integers(0, MAX_INDEX + 10))
def test_membership_is_that_of_a_set(members: frozenset[int], index: int) -> None:
    assert (index in IndexSet.of(members)) == (index in members)


@given(indexes(), indexes())
def test_union_intersection_and_difference_are_those_of_sets(
    left: frozenset[int], right: frozenset[int]
) -> None:
    one, other = IndexSet.of(left), IndexSet.of(right)

    assert set(one | other) == left | right
    assert set(one & other) == left & right
    assert set(one - other) == left - right


@given(indexes(), st.integers(-1, 70))
def test_the_first_ones_are_the_lowest(members: frozenset[int], count: int) -> None:
    assert IndexSet.of(members).first(count) == sorted(members)[: max(0, count)]


@given(st.integers(0, 300))
def test_a_range_is_every_index_below_its_size(size: int) -> None:
    assert IndexSet.range(size) == IndexSet.of(range(size))


@given(indexes())
def test_a_set_survives_its_notation(members: frozenset[int]) -> None:
    found = IndexSet.of(members)

    assert IndexSet.parse(str(found)) == found


@given(indexes())
def test_equal_sets_have_one_notation(members: frozenset[int]) -> None:
    """Otherwise an unchanged status would be written again."""
    parts = [part.split("-") for part in str(IndexSet.of(members)).split(",") if part]
    bounds = [(int(part[0]), int(part[-1])) for part in parts]

    assert all(low < high for (low, high), part in zip(bounds, parts, strict=True) if part[1:])
    assert all(end + 1 < start for (_, end), (start, _) in pairwise(bounds))


@given(st.lists(intervals(), max_size=8), st.randoms(use_true_random=False))
def test_order_and_overlap_of_intervals_do_not_matter(
    ranges: list[tuple[int, int]], chance: st.random.Random
) -> None:
    expected = IndexSet()
    for low, high in ranges:
        expected |= IndexSet.of(range(low, high + 1))
    chance.shuffle(ranges)
    text = ", ".join(f"{low}-{high}" if low != high else str(low) for low, high in ranges)

    assert IndexSet.parse(text) == expected


HOSTILE: dict[str, str] = {
    "words": "all",
    "two dots": "1..9",
    "a gap between commas": "1,,2",
    "only a comma": ",",
    "only a space": " ",
    "an open end": "5-",
    "an open start": "-5",
    "three ends": "1-2-3",
    "a sign": "+1",
    "a hexadecimal": "0x10",
    "an exponent": "1e3",
    "a fraction": "1.5",
    "digits of another script": "٣",
    "superscript digits": "1²",
    "two lines": "1\n2",
    "spaces inside": "1 - 2",
    "falling": "9-3",
    "one above the highest": "100000",
    "an end above the highest": "0-100000",
    "a terabyte of bits": "0-9999999999999",
    "more digits than Python reads": "9" * 5000,
    "an end with more digits than Python reads": f"0-{'9' * 16_000}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_notation_gets_a_short_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=r"write intervals such as|must rise and end at") as error:
        IndexSet.parse(HOSTILE[name])

    assert len(str(error.value)) < 150


@given(st.text(alphabet="0123456789-, ", max_size=40) | st.text(max_size=40))
def test_any_text_is_read_or_refused_in_bounded_memory(text: str) -> None:
    try:
        found = IndexSet.parse(text)
    except ValueError as error:
        assert "write intervals" in str(error) or "must rise" in str(error)  # noqa: PT017
    else:
        assert found.bits.bit_length() <= MAX_INDEX + 1


def test_the_longest_notation_that_a_job_may_write_is_read() -> None:
    text = ",".join(["0-99999"] * 2048)[:16_383]

    assert IndexSet.parse(text.rstrip(",")) == IndexSet.range(MAX_INDEX + 1)
