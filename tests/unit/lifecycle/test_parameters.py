"""`Ref::name` in words: what is replaced, and that a value is never read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.lifecycle.parameters import placeholders, substituted, substituted_length

PARAMETERS = {"in": "s3://a b", "out": "$(rm -rf /)", "n": "3", "in.part": "p", "a-b_c": "x"}

WORDS: dict[str, tuple[str, str]] = {
    "a whole word": ("Ref::in", "s3://a b"),
    "the end of a word": ("--input=Ref::in", "--input=s3://a b"),
    "the middle of a word": ("[Ref::n]", "[3]"),
    "two in a word": ("Ref::n:Ref::n", "3:3"),
    "one behind the other": ("Ref::n/Ref::in", "3/s3://a b"),
    "a name with a dot": ("Ref::in.part", "p"),
    "a full stop after a name": ("Take Ref::in.", "Take s3://a b."),
    "a name with dash and underscore": ("Ref::a-b_c", "x"),
    "a value that a shell would run": ("Ref::out", "$(rm -rf /)"),
    "no placeholder": ("Ref:in ref::in", "Ref:in ref::in"),
    "no name": ("Ref:: in", "Ref:: in"),
    "an unknown name": ("Ref::other", "Ref::other"),
    "a name that begins like another": ("Ref::inside", "Ref::inside"),
    "a name with an ending behind it": ("--out=Ref::n.sorted.bam", "--out=3.sorted.bam"),
    "the longest name that is known": ("Ref::in.part.gz", "p.gz"),
    "a dash between two": ("Ref::n-Ref::in", "3-s3://a b"),
    "an unknown name with an ending": ("Ref::other.bam", "Ref::other.bam"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("name", WORDS)
def test_a_placeholder_is_replaced_in(name: str) -> None:
    """AWS Batch, job definition parameters; the placeholder may be a part of a word."""
    word, expected = WORDS[name]

    assert substituted([word], PARAMETERS) == [expected]


def test_placeholders_are_named_once_in_order_of_appearance() -> None:
    words = ["Ref::b Ref::a", "x", "Ref::b", "Ref:: nobody", "--in=Ref::c.d"]

    assert placeholders(words) == ["b", "a", "c.d"]


NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.text(alphabet="abcRef: ", max_size=12) | NAMES.map(lambda name: f"Ref::{name}")


@given(st.dictionaries(NAMES, VALUES), st.lists(NAMES, max_size=6))
def test_a_value_is_never_substituted_again(values: dict[str, str], names: list[str]) -> None:
    """Whoever passes a value cannot read another parameter, nor make the operator go in circles."""
    words = [f"Ref::{name}" for name in names]

    assert substituted(words, values) == [values.get(name, f"Ref::{name}") for name in names]


@given(st.lists(st.sampled_from([word for word, _ in WORDS.values()]), max_size=6))
def test_the_length_is_known_before_anything_is_replaced(words: list[str]) -> None:
    """A short template with a long parameter must not fill the operator's memory."""
    assert substituted_length(words, PARAMETERS) == len("".join(substituted(words, PARAMETERS)))


@given(st.lists(st.text(alphabet="ab :=-", max_size=10)))
def test_words_without_a_placeholder_stay_as_they_are(words: list[str]) -> None:
    assert substituted(words, PARAMETERS) == words
