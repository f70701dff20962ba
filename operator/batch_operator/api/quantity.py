"""Kubernetes quantities (`500m`, `1.5`, `2Gi`) as exact integers."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_FORM = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)([A-Za-z]{0,2}|[eE][+-]?[0-9]+)")
_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


def milli_cpu(quantity: str | float) -> int:
    """CPUs in thousandths, rounded up: `0.5` and `500m` are 500.

    Raises:
        ValueError: not a quantity, or negative.
    """
    return _scaled(quantity, 1000)


def memory_bytes(quantity: str | float) -> int:
    """Bytes, rounded up: `1Ki` is 1024.

    Raises:
        ValueError: not a quantity, or negative.
    """
    return _scaled(quantity, 1)


def _scaled(quantity: str | float, factor: int) -> int:
    match = _FORM.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity: write a number such as 2, 0.5, 500m or 1Gi")
    number, suffix = match.groups()
    if suffix[:1] in {"e", "E"} and len(suffix) > 1 and suffix != "Ei":
        value = Decimal(number + suffix)
    elif suffix in _SUFFIXES:
        value = Decimal(number) * _SUFFIXES[suffix]
    else:
        raise ValueError(f"{quantity!r} has an unknown unit: write m, k, M, G, Ki, Mi, Gi …")
    if value < 0:
        raise ValueError(f"{quantity!r} is negative: write 0 or more")
    return int((value * factor).to_integral_value(rounding=ROUND_CEILING))
