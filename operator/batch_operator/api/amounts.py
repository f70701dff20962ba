"""What a Pod asks for and a node has to give."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from batch_operator.api.quantity import units

if TYPE_CHECKING:
    from collections.abc import Mapping

_GPU = "/gpu"
"""Vendors' resources for GPUs are named so: nvidia.com/gpu, amd.com/gpu."""


@dataclass(frozen=True, slots=True, order=True)
class Amounts:
    """Thousandths of a CPU, bytes of memory, and whole GPUs. What is over may be negative."""

    milli_cpu: int = 0
    memory: int = 0
    gpus: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.milli_cpu + other.milli_cpu, self.memory + other.memory, self.gpus + other.gpus
        )

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.milli_cpu - other.milli_cpu, self.memory - other.memory, self.gpus - other.gpus
        )

    def times(self, count: int) -> Amounts:
        return Amounts(self.milli_cpu * count, self.memory * count, self.gpus * count)

    def fits_into(self, room: Amounts) -> bool:
        return (
            self.milli_cpu <= room.milli_cpu
            and self.memory <= room.memory
            and self.gpus <= room.gpus
        )

    def count_in(self, room: Amounts) -> int:
        """How many such requests have room; one that asks for nothing always has."""
        pairs = (
            (self.milli_cpu, room.milli_cpu),
            (self.memory, room.memory),
            (self.gpus, room.gpus),
        )
        return max(0, min((have // ask for ask, have in pairs if ask), default=1 << 30))

    def share_of(self, whole: Amounts) -> Fraction:
        """The largest part that it takes of any resource of a node (dominant share), 1 at most."""
        pairs = (
            (self.milli_cpu, whole.milli_cpu),
            (self.memory, whole.memory),
            (self.gpus, whole.gpus),
        )
        shares = (Fraction(ask, have) for ask, have in pairs if have > 0)
        return min(Fraction(1), max(shares, default=Fraction(0)))


def gpus_of(amounts: Mapping[str, str | int]) -> int:
    """GPUs among a Pod's requests or a node's resources, whoever made them."""
    return sum(units(amount) for name, amount in amounts.items() if name.endswith(_GPU))
