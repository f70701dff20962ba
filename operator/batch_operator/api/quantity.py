"""Kubernetes quantities (`500m`, `1.5`, `2Gi`) as exact integers."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil

LARGEST = 2**63 - 1
"""Kubernetes caps every quantity here, and so do we: whatever is written, the result is small."""

_FORM = re.compile(
    r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"  # a number
    r"(?:[eE]([+-]?[0-9]+)|([A-Za-z]{0,2}))"  # an exponent or a unit
)
_LENGTH_MAX = 64  # characters; more digits than any quantity needs
_EXPONENT_MAX = 100  # beyond it the number is capped, or rounded up from next to nothing, anyway
_UNITS = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    **{unit: Fraction(1000**power) for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", start=1)},
}


def total_request(containers: list[int], inits: list[tuple[bool, int]], whole: int) -> int:
    """A Pod's request of one resource from those of its parts, by Kubernetes' own rule.

    Containers run side by side and are summed; init containers run one after the other, so the
    largest counts when it exceeds the sum; sidecars (those that stay, the first of each pair) are
    summed. What the Pod as a whole asks for stands in the place of all that (KEP-2837).
    """
    if whole:
        return whole
    largest_init = sidecars = 0
    for stays, request in inits:
        if stays:
            sidecars += request
        else:
            largest_init = max(largest_init, sidecars + request)
    return max(sum(containers) + sidecars, largest_init)


@lru_cache(maxsize=4096)
def milli_cpu(quantity: str | float) -> int:
    """CPUs in thousandths, rounded up and capped at `LARGEST`: `0.5` and `500m` are 500.

    Raises:
        ValueError: not a quantity, or negative.
    """
    return _scaled(quantity, 1000)


@lru_cache(maxsize=4096)
def memory_bytes(quantity: str | float) -> int:
    """Bytes, rounded up and capped at `LARGEST`: `1Ki` is 1024.

    Raises:
        ValueError: not a quantity, or negative.
    """
    return _scaled(quantity, 1)


def units(quantity: str | float) -> int:
    """Whole things such as GPUs, rounded up and capped at `LARGEST`: `1k` is 1000.

    Raises:
        ValueError: not a quantity, or negative.
    """
    return _scaled(quantity, 1)


def memory_text(count: int) -> str:
    """Bytes as a quantity, in the unit in which people write memory where that is exact."""
    whole, rest = divmod(count, 2**20)
    return str(count) if rest else f"{whole}Mi"


def _scaled(quantity: str | float, factor: int) -> int:
    text = str(quantity)
    match = _FORM.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if match is None:
        shown = text[:_LENGTH_MAX]
        raise ValueError(f"{shown!r} is no quantity: write a number such as 2, 0.5, 500m or 1Gi")
    number, exponent, unit = match.groups()
    if exponent:
        power = max(-_EXPONENT_MAX, min(_EXPONENT_MAX, int(exponent)))
        value = Fraction(number) * Fraction(10) ** power
    elif unit in _UNITS:
        value = Fraction(number) * _UNITS[unit]
    else:
        raise ValueError(f"{text!r} has an unknown unit: write m, k, M, G, Ki, Mi, Gi …")
    if value < 0:
        raise ValueError(f"{text!r} is negative: write 0 or more")
    return min(LARGEST, ceil(value * factor))
