"""Tables of prices: what is read of them, and what is said of the rest."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.provisioning.catalogue import ROWS_MAX, TEXT_MAX, Listed, listed_prices


@pytest.mark.parametrize(
    "text",
    [
        "c5.large: {onDemand: 0.085, spot: 0.03}\nm5.large: {onDemand: 1}\nspotty: {spot: 0}\n",
        json.dumps(
            {
                "c5.large": {"onDemand": 0.085, "spot": 0.03},
                "m5.large": {"onDemand": 1},
                "spotty": {"spot": 0},
            }
        ),
    ],
    ids=["yaml", "json"],
)
def test_a_table_gives_prices_by_instance_type(text: str) -> None:
    assert listed_prices(text) == (
        {"c5.large": Listed(0.085, 0.03), "m5.large": Listed(1), "spotty": Listed(None, 0)},
        "",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {onDemand: dear}", "a: onDemand is 'dear': write a number from 0 to 1000000"),
        ("a: {spot: -1}", "a: spot is '-1': write a number from 0 to 1000000"),
        ("a: {spot: .nan}", "a: spot is '.nan': write a number from 0 to 1000000"),
        ("a: {spot: true}", "a: spot is 'true': write a number from 0 to 1000000"),
        ("a: {price: 1}", "a: write `TYPE: {onDemand: 0.1, spot: 0.03}`"),
        ("a: 1", "a: write `TYPE: {onDemand: 0.1, spot: 0.03}`"),
        ("a: {spot: nan}", "a: spot is 'nan': write a number from 0 to 1000000"),
        ("a: {spot: 1000001}", "a: spot is '1000001': write a number from 0 to 1000000"),
        ("a: {spot: 2026-99-99}", "a: spot is '2026-99-99': write a number from 0 to 1000000"),
        ("a: {spot: [1]}", "a: spot is \"['1']\": write a number from 0 to 1000000"),
        (
            f"a: {{spot: {'9' * 5000}}}",
            f"a: spot is '{'9' * 40}': write a number from 0 to 1000000",
        ),
        ("'': {spot: 1}", ": an instance type is a text of 1 to 63 characters"),
        ("a: 1\nb: 2\nc: 3", "a: write `TYPE: {onDemand: 0.1, spot: 0.03}` (and 2 more rows)"),
    ],
)
def test_a_bad_row_is_a_sentence_and_spoils_no_other(text: str, said: str) -> None:
    assert listed_prices(f"{text}\ngood: {{spot: 1}}\n") == ({"good": Listed(None, 1)}, said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "it is no table of instance types"),
        ("", "it is no table of instance types"),
        ("a: {", "it is no YAML: "),
        ("#" * (TEXT_MAX + 1), f"it has {TEXT_MAX + 1} characters, {TEXT_MAX} are the most"),
        (
            "\n".join(f"t{number}: {{spot: 1}}" for number in range(ROWS_MAX + 1)),
            f"it has {ROWS_MAX + 1} rows, {ROWS_MAX} are the most",
        ),
    ],
    ids=["a list", "nothing", "no yaml", "too long", "too many rows"],
)
def test_what_is_no_table_gives_no_prices(text: str, said: str) -> None:
    found, problem = listed_prices(text)

    assert found == {}
    assert problem.startswith(said)


BOMB = "a0: &a0 {spot: 1}\n" + "\n".join(
    f"a{number}: &a{number} {{spot: [*a{number - 1}, *a{number - 1}]}}" for number in range(1, 100)
)


@pytest.mark.parametrize(
    "text",
    [BOMB, "a: &a {spot: 1}\nb: *a", "[" * 5000, "- " * 5000, "a: " + "{b: " * 5000],
    ids=["a bomb", "an alias", "lists in lists", "items in items", "tables in tables"],
)
def test_what_may_be_larger_than_it_looks_is_not_read(text: str) -> None:
    assert listed_prices(text) == (
        {},
        "it has aliases, or lists within lists: write `TYPE: {onDemand: 0.1, spot: 0.03}` in it",
    )


@given(st.text(max_size=200))
def test_any_text_is_read_or_answered_with_a_sentence(text: str) -> None:
    found, problem = listed_prices(text)

    assert found or problem or text.strip().startswith("{}")
