"""Errors in this program, each kept away from the objects that it does not concern."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Fault:
    """An object that could not be seen to: an error in this program, kept away from the others."""

    name: str
    error: Exception


@contextmanager
def kept_away(name: str, faults: list[Fault]) -> Iterator[None]:
    """Note what goes wrong with one object, and go on with the next."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # one broken object must not stop the others
        faults.append(Fault(name, error))
