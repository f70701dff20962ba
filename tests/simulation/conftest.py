"""Many simulations are shared out among as many processes as the machine has processors."""

from __future__ import annotations

from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.pool import Pool


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with get_context("spawn").Pool() as processes:
        yield processes
