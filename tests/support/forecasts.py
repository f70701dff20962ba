"""Forecasts against what came, in virtual time: `PYTHONPATH=tests python -m support.forecasts`."""

from __future__ import annotations

import hashlib
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from batch_operator.scheduling import forecast as module
from batch_operator.simulator.virtual_time import EPOCH
from support.builders import pod_template
from support.play import play

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.outlook import Estimate, Making
    from batch_operator.scheduling.snapshot import Snapshot

JOBS, VCPUS = 1000, 20
RUNTIMES_S = {"render": (20, 100), "train": (60, 300), "mail": (5, 15)}
"""By definition: attempts run for something between, evenly spread."""
STEPS = 11


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of all estimates `said`, how many starts came by p90, and how many by p50.

    `early_by` is the mean of how much of the time until p90 was left when the job started.
    """

    said: int
    kept: int
    kept_p50: int
    early_by: float


@contextmanager
def overheard() -> Iterator[list[tuple[str, Estimate, datetime]]]:
    """By job: every estimate that is made meanwhile, and when it was made."""
    made: list[tuple[str, Estimate, datetime]] = []
    original = module.forecasting

    def listening(snapshot: Snapshot, memo: Memo) -> Making:
        names = {uid: job.name for uid, job in snapshot.jobs.items()}
        found = yield from original(snapshot, memo)
        made.extend(
            (names[uid], one, found.made_at)
            for uid, one in found.estimates.items()
            if one.p90 is not None
        )
        return found

    with patch.object(module, "forecasting", listening):
        yield made


def calibration() -> Calibration:
    """A long queue of jobs of three definitions, and all that was said while it was worked off."""
    names = list(RUNTIMES_S)
    jobs: dict[str, Any] = {}
    for number in range(JOBS):
        definition = names[int(_drawn(f"{number} kind") * len(names))]
        step = int(_drawn(f"{number} runs") * STEPS)
        jobs[f"{definition}-{step}-{number}"] = {"jobDefinition": definition}
    behaviors = [
        {"job": f"{name}-{step}-*", "runtime": f"{low + (high - low) * step // (STEPS - 1)}s"}
        for name, (low, high) in RUNTIMES_S.items()
        for step in range(STEPS)
    ]
    definitions = {name: {"podTemplate": pod_template()} for name in names}
    with overheard() as made:
        played = play(jobs, definitions=definitions, behaviors=behaviors, max_vcpus=VCPUS)
    began = {
        one.job: one.at_s for one in reversed(played.outcome.transitions) if one.after == "RUNNING"
    }
    found = [
        (
            (p50 - EPOCH).total_seconds(),
            (p90 - EPOCH).total_seconds(),
            (at - EPOCH).total_seconds(),
            began[job],
        )
        for job, one, at in made
        if (p50 := one.p50) is not None and (p90 := one.p90) is not None
    ]
    return Calibration(
        said=len(found),
        kept=sum(start <= p90 for _, p90, _, start in found),
        kept_p50=sum(start <= p50 for p50, _, _, start in found),
        early_by=sum((p90 - start) / (p90 - at) for _, p90, at, start in found) / len(found),
    )


def _drawn(name: str) -> float:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) / 2**32


if __name__ == "__main__":
    sys.stdout.write(f"{calibration()}\n")
