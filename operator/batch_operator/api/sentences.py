"""Words that sentences to users have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMED_MAX = 3
"""A sentence names so many; the others are counted."""


def listed(names: Iterable[str], most: int = NAMED_MAX, between: str = ", ") -> str:
    """The first names, and how many more there are: `a, b, c and 2 more`."""
    known = list(names)
    more = len(known) - most
    return between.join(known[:most]) + (f" and {more} more" if more > 0 else "")


def shortened(text: str, most: int) -> str:
    """The text, or so many characters of it and an ellipsis."""
    return text if len(text) <= most else f"{text[:most]}…"
