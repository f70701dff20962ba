"""When running attempts will give back what they hold: what backfilling goes by."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.backlog import Ask
    from batch_operator.scheduling.room import Release
    from batch_operator.scheduling.run_times import RunTime, RunTimes

STOPPING_S = 30.0
"""As long a Pod that is being ended has by default (terminationGracePeriodSeconds)."""
OVERDUE_S = 60.0
"""An attempt that runs longer than expected is expected to end after so much more."""
HISTORY_MIN = 20
"""From so many successes on, what nine of ten of them did not exceed is taken for the longest that
a job without a timeout runs."""


def longest_s(run_times: RunTimes, ask: Ask) -> float | None:
    """At the longest: a timeout is certain, and of what was learned only a long history is."""
    if ask.timeout_s is not None or ask.definition is None:
        return ask.timeout_s
    known = run_times.estimate(ask.definition)
    return known.p90_s if known and known.count >= HISTORY_MIN else None


def expected(run_times: RunTimes, look: Evaluation) -> RunTime | None:
    """As far as is known: what was learned is closer than a timeout."""
    timeout = look.plan.timeout if look.plan else None
    name = look.job.spec.job_definition.partition(":")[0]
    timeout_s = timeout.attempt_duration_seconds if timeout else None
    return run_times.estimate((look.job.namespace, name), timeout_s)


def at_longest_s(run_times: RunTimes, look: Evaluation) -> float | None:
    """How long an attempt of a job may run: its timeout, or else what nine of ten did not exceed.

    What was learned may be less than the timeout, but nothing holds a job to it: who passed others
    by that would delay them.
    """
    timeout = look.plan.timeout if look.plan else None
    if timeout is not None:
        return timeout.attempt_duration_seconds
    known = expected(run_times, look)
    return known.p90_s if known is not None else None


def releases(
    looks: Iterable[Evaluation],
    runs_s: Callable[[Evaluation], float | None],
    now: datetime,
    late_part: float = 0.0,
) -> Mapping[str, list[Release]]:
    """By environment: when live attempts are expected to end, with the milli-CPU that they hold.

    Those of whose run time nothing is known are not expected to end, but for those that are being
    stopped. The nodes of a multi-node job end together. `runs_s` is how long an attempt of a job
    runs, as far as that is known. What is late, in its end or to begin with, is so for this part of
    that time more, `late_part`.
    """
    found: dict[str, list[Release]] = defaultdict(list)
    for look in looks:
        if not look.children.live:
            continue
        expected_s = runs_s(look)
        is_gang = bool(look.gangs)
        for one in look.children.live[:1] if is_gang else look.children.live:
            if one.requeued or one.stopping or one.deleting:
                end = now + timedelta(seconds=STOPPING_S)
            elif expected_s is None:
                continue
            else:
                begins = one.started_at or now + (now - (one.created_at or now)) * late_part
                end = begins + timedelta(seconds=expected_s)
            if end <= now:
                end = now + max(timedelta(seconds=OVERDUE_S), (now - end) * late_part)
            held = look.usage if is_gang else {one.environment: one.milli_cpu}
            for environment, milli_cpu in held.items():
                found[environment].append((end, milli_cpu))
    return found
