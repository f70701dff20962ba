"""Kubernetes quantities as integers, rounded up, and what is no quantity."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.quantity import memory_bytes, memory_text, milli_cpu

LARGEST = 2**63 - 1

CPUS: dict[str, tuple[str | float, int]] = {
    "whole CPUs": ("2", 2000),
    "an integer of YAML": (2, 2000),
    "a float of YAML": (0.5, 500),
    "a float that Python writes with an exponent": (1e-07, 1),
    "a fraction": ("0.5", 500),
    "a fraction without a leading zero": (".5", 500),
    "a trailing point": ("1.", 1000),
    "thousandths": ("100m", 100),
    "thousandths of more than one": ("1500m", 1500),
    "millionths": ("1500u", 2),
    "billionths": ("1n", 1),
    "a fraction of a thousandth is rounded up": ("0.0001", 1),
    "just above a thousandth is rounded up": ("1.0001m", 2),
    "digits beyond any float are rounded up": ("1.00000000000000000000000000000000001", 1001),
    "a decimal exponent": ("1e3", 1_000_000),
    "a capital exponent": ("1E3", 1_000_000),
    "a negative exponent": ("5e-1", 500),
    "an exponent with a plus": ("1.5e+1", 15_000),
    "thousands": ("1k", 1_000_000),
    "binary thousands": ("1Ki", 1_024_000),
    "a plus sign": ("+1", 1000),
    "nothing": ("0", 0),
    "minus nothing": ("-0", 0),
    "leading zeros": ("007", 7000),
}


@pytest.mark.parametrize("name", CPUS)
def test_cpus_are_read_in_thousandths(name: str) -> None:
    quantity, expected = CPUS[name]

    assert milli_cpu(quantity) == expected


MEMORY: dict[str, tuple[str | int, int]] = {
    "bytes": ("4096", 4096),
    "bytes as an integer": (4096, 4096),
    "kibibytes": ("1Ki", 1024),
    "mebibytes": ("128Mi", 128 * 1024**2),
    "half a gibibyte": ("0.5Gi", 512 * 1024**2),
    "tebibytes": ("1Ti", 1024**4),
    "pebibytes": ("1Pi", 1024**5),
    "exbibytes": ("1Ei", 1024**6),
    "decimal kilobytes": ("1k", 1000),
    "decimal gigabytes": ("1G", 10**9),
    "exabytes, not an exponent": ("1E", 10**18),
    "an exponent": ("1e9", 10**9),
    "a thousandth of a byte is rounded up": ("1m", 1),
    "a third of a mebibyte is rounded up": ("0.3333333Mi", 349_526),
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory_is_read_in_bytes(name: str) -> None:
    quantity, expected = MEMORY[name]

    assert memory_bytes(quantity) == expected


EXTREME: dict[str, tuple[str, int]] = {
    "the largest": (f"{LARGEST}", LARGEST),
    "eight exbibytes": ("8Ei", LARGEST),
    "an exponent of millions": ("1e7000000", LARGEST),
    "an exponent of billions": ("1e999999999", LARGEST),
    "an exponent beyond decimals": ("1e99999999999999999999999999", LARGEST),
    "nothing, with an exponent of billions": ("0e999999999", 0),
    "next to nothing": ("1e-999999999", 1),
    "next to nothing, beyond decimals": ("1e-99999999999999999999999999", 1),
}


@pytest.mark.parametrize("name", EXTREME)
def test_what_is_too_large_is_capped_and_what_is_too_small_rounded_up(name: str) -> None:
    """Kubernetes: a quantity is at most 2^63-1; larger ones are capped, finer ones rounded up."""
    quantity, expected = EXTREME[name]

    assert memory_bytes(quantity) == expected


SUFFIXES = {"": 0, "m": -3, "u": -6, "k": 3, "M": 6, "e2": 2, "E-2": -2}


@given(st.integers(0, 10**6), st.none() | st.integers(0, 10**6), st.sampled_from(sorted(SUFFIXES)))
def test_nothing_is_rounded_down(whole: int, part: int | None, suffix: str) -> None:
    number = f"{whole}" if part is None else f"{whole}.{part}"
    exact = Fraction(number) * Fraction(10) ** SUFFIXES[suffix]

    assert milli_cpu(number + suffix) == ceil(exact * 1000)
    assert memory_bytes(number + suffix) == ceil(exact)


@given(st.integers(0, 2**50) | st.integers(0, 2**30).map(lambda count: count * 2**20))
def test_bytes_survive_being_written_as_a_quantity(count: int) -> None:
    assert memory_bytes(memory_text(count)) == count


NO_QUANTITIES: dict[str, str | float] = {
    "nothing at all": "",
    "a word": "two",
    "a unit alone": "Gi",
    "a point alone": ".",
    "a space before the unit": "1 Gi",
    "a unit in lower case": "1gi",
    "a unit in upper case": "1KI",
    "a unit of ours": "1GB",
    "an exponent without digits": "1e",
    "an exponent with a fraction": "1e1.5",
    "an exponent with a letter": "1eb",
    "an exponent with a unit": "1Em",
    "two signs": "--1",
    "negative": "-1",
    "negative thousandths": "-5m",
    "a decimal comma": "1,5",
    "a hexadecimal": "0x10",
    "underscores": "1_000",
    "no number": "NaN",
    "a float that is no number": float("nan"),
    "endless": "Infinity",
    "digits of another script": "٣",
    "a line end": "1Gi\n",
    "ten thousand digits": "9" * 10_000,
    "an exponent of ten thousand digits": f"1e{'9' * 10_000}",
}


@pytest.mark.parametrize("name", NO_QUANTITIES)
def test_what_is_no_quantity_gets_a_short_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="write") as error:
        milli_cpu(NO_QUANTITIES[name])

    assert len(str(error.value)) < 200


@given(st.text(alphabet="0123456789.+-eEimkKMGTPnu", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = milli_cpu(text)
    except ValueError as error:
        assert "write" in str(error)  # noqa: PT017
    else:
        assert 0 <= found <= LARGEST
