"""Waiting longer after every failure, never in step with others; the only use of randomness."""

from __future__ import annotations

import random  # noqa: TID251  # the one place
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Backoff:
    """Exponential delays with jitter: at most `first_s` at first, at most `max_s` ever.

    `uniform(low, high)` draws the jitter; a simulation hands in a seeded one.
    """

    first_s: float = 0.5
    max_s: float = 30.0
    failures: int = 0
    uniform: Callable[[float, float], float] = random.uniform

    def next_delay_s(self, max_s: float | None = None) -> float:
        """Seconds to wait after one more failure; `max_s` is for this one, in place of its own."""
        longest_s = self.max_s if max_s is None else max_s
        ceiling_s = min(longest_s, self.first_s * float(1 << min(self.failures, 16)))
        self.failures += 1
        return self.uniform(ceiling_s / 2, ceiling_s)

    def reset(self) -> None:
        self.failures = 0


def between(low: float, high: float) -> float:
    """A random number, to spread what would otherwise happen to all at once."""
    return random.uniform(low, high)  # noqa: S311  # no secret depends on it
