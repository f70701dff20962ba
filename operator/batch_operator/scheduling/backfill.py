"""When running attempts will give back what they hold: what backfilling goes by."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.room import Release

OVERDUE_S = 60.0
"""An attempt that runs longer than expected is expected to end after so much more."""


def releases(
    looks: Iterable[Evaluation], runs_s: Callable[[Evaluation], float | None], now: datetime
) -> Mapping[str, list[Release]]:
    """By environment: when live attempts are expected to end, with the milli-CPU that they hold.

    Those of whose run time nothing is known are not expected to end. The nodes of a multi-node job
    end together. `runs_s` is how long an attempt of a job runs, as far as that is known.
    """
    found: dict[str, list[Release]] = defaultdict(list)
    for look in looks:
        if not look.children.live:
            continue
        expected_s = runs_s(look)
        if expected_s is None:
            continue
        is_gang = bool(look.gangs)
        for one in look.children.live[:1] if is_gang else look.children.live:
            end = (one.started_at or now) + timedelta(seconds=expected_s)
            if end <= now:
                end = now + timedelta(seconds=OVERDUE_S)
            held = look.usage if is_gang else {one.environment: one.milli_cpu}
            for environment, milli_cpu in held.items():
                found[environment].append((end, milli_cpu))
    return found
