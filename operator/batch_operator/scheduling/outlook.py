"""What is known of what is to come, and what queues show of it: the data of forecasts."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.job_queue import QueuedJob


@dataclass(frozen=True, slots=True)
class Estimate:
    """When a job starts: as likely before as after `p50`, hardly after `p90`.

    Without times, `basis` says why there is none.
    """

    p50: datetime | None
    p90: datetime | None
    basis: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was found for one time: by queue the uids at its front, in order.

    `moves` says on what it rests: how often something had changed by then.
    """

    made_at: datetime
    moves: int
    fronts: Mapping[str, Sequence[str]]
    estimates: Mapping[str, Estimate]
    refuted_at: datetime | None = None
    """When a start has not come by its p90, if nothing happens until then."""


Making = Generator[int, None, Forecast]
"""A forecast that is being made. It yields how many steps it has taken, and may stop there."""


@dataclass(slots=True)
class Outlook:
    """The last forecast, and how far the next one is."""

    forecast: Forecast | None = None
    making: Making | None = None
    moves: int = 0
    """How often something has changed that a forecast rests on."""
    fronts: dict[str, tuple[Sequence[QueuedJob], datetime | None]] = field(default_factory=dict)
    """By queue: what its status is to show of the forecast, and when that was written."""
    fronts_due: dict[str, None] = field(default_factory=dict)
    """Queues about which the forecast has something else to say, in order."""

    @property
    def refuted_at(self) -> datetime | None:
        return self.forecast.refuted_at if self.forecast is not None else None
