"""How large rows of statuses are in etcd, which takes no object above 1.5 MiB.

What a row says is stored twice: its fields, and in metadata.managedFields their names once more. So
its key, which a tenant chooses, counts twice; the other fields have about the same size in all
rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
SHARES_BYTES_MAX = 330_000
"""Of the shares of a queue: 500 with names of 80 characters, or 340 with the longest."""
COSTS_BYTES_MAX = 190_000
"""Of what they cost: 500 of 80 characters, or 260 of the longest."""
DELETED_BYTES_MAX = 400_000
"""Of what deleted jobs cost by share and day: 500 of 80 characters with a week of days each."""
_SHARE_BYTES, _COST_BYTES, _DAY_BYTES = 480, 220, 50


def share_bytes(name: str) -> int:
    return _SHARE_BYTES + 2 * len(name)


def cost_bytes(name: str, days: int = 0) -> int:
    return _COST_BYTES + 2 * len(name) + days * _DAY_BYTES


def fitting(rows: Iterable[T], bytes_of: Callable[[T], int], most: int) -> list[T]:
    """The first rows, as many as fit."""
    found: list[T] = []
    for row in rows:
        most -= bytes_of(row)
        if most < 0:
            break
        found.append(row)
    return found
