"""What jobs of a definition are learned to take, from their attempts that succeeded.

An attempt runs from its containers' start to their end, so neither waiting nor pulling counts.
Failures teach nothing: they end early, or at a limit. All revisions of a definition are learned
from together: a new revision mostly does the same work, a forecast should not start from nothing
with every new image, and `KEPT_MAX` successes later nothing of the old one is left.

What was learned is the one thing in the memo that a snapshot does not hold in full. A coarse form
of it is kept in the definition's status, so that a restart goes on from there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from batch_operator.api.job_definition import COUNT_MAX, RUN_TIME_S_MAX, LearnedRunTimes
from batch_operator.lifecycle.attempt import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Key, Snapshot

KEPT_MAX = 64
"""Durations that are kept of a definition: the latest."""
TRUSTED_FROM = 8
"""After a restart, so many new durations replace what the status said."""
CHANGE_MIN = 0.1
"""The least change, as a part of what is stored, that is worth a write."""


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long an attempt takes if it succeeds: half of them, nine of ten, take no longer.

    `count` says on how many successes this rests; 0: on none, it is the job's own timeout.
    """

    count: int
    p50_s: float
    p90_s: float


@dataclass(slots=True)
class _Record:
    prior: LearnedRunTimes | None
    count: int = 0
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_MAX))
    known: RunTime | None = None

    def add(self, seconds: float) -> None:
        self.count = min(COUNT_MAX, self.count + 1)
        self.latest.append(seconds)
        self.known = None


class RunTimes:
    """The latest durations by definition. What is not there (any more) is not learned about."""

    def __init__(self) -> None:
        self._records: dict[Key, _Record] = {}
        self._fresh: set[Key] = set()

    def recall(self, definition: Key, stored: LearnedRunTimes | None) -> None:
        """Begin with what the status of a definition says, unless something is known already."""
        if definition not in self._records:
            self._records[definition] = _Record(stored, stored.count if stored else 0)

    def forget(self, definition: Key) -> None:
        self._records.pop(definition, None)

    def observe(self, definition: Key, seconds: float) -> None:
        """Learn what one successful attempt took."""
        record = self._records.get(definition)
        if record is not None:
            record.add(min(max(0.0, seconds), float(RUN_TIME_S_MAX)))
            self._fresh.add(definition)

    def estimate(self, definition: Key, timeout_s: int | None = None) -> RunTime | None:
        """What an attempt is expected to take; None when nothing speaks for any answer.

        `timeout_s` is the job's own limit, which no attempt outlives.
        """
        record = self._records.get(definition)
        known = _known(record) if record else None
        if timeout_s is None:
            return known
        if known is None:
            return RunTime(0, timeout_s, timeout_s)
        return RunTime(known.count, min(known.p50_s, timeout_s), min(known.p90_s, timeout_s))

    def copy(self) -> RunTimes:
        """What is estimated now, whatever is learned later."""
        found = RunTimes()
        for definition, record in self._records.items():
            known = _known(record)
            found._records[definition] = _Record(None, record.count, known=known)
        return found

    def take_fresh(self) -> AbstractSet[Key]:
        """Definitions about which something was learned since this was last asked."""
        fresh, self._fresh = self._fresh, set()
        return fresh


def _known(record: _Record) -> RunTime | None:
    if record.known is None:
        prior = record.prior
        if prior is not None and len(record.latest) < TRUSTED_FROM:
            record.known = RunTime(record.count, prior.p50_seconds, prior.p90_seconds)
        elif record.latest:
            ordered = sorted(record.latest)
            record.known = RunTime(record.count, _rank(ordered, 50), _rank(ordered, 90))
    return record.known


def _rank(ordered: Sequence[float], percent: int) -> float:
    """The least of the values that so many percent of them do not exceed."""
    return ordered[-(-len(ordered) * percent // 100) - 1]


def recall(snapshot: Snapshot, memo: Memo) -> None:
    """Take in what the statuses of definitions say that are seen for the first time."""
    known = snapshot.definitions
    for key in known if memo.is_empty else snapshot.changes.definitions:
        stored = known[key].object if key in known else None
        if stored is None:
            memo.run_times.forget(key)
        else:
            memo.run_times.recall(key, stored.status.run_times)


def learn(memo: Memo, look: Evaluation) -> None:
    """Learn from the successes that no look before this one has seen."""
    if not look.children.newly_ended:
        return
    job = look.job
    definition = job.namespace, job.spec.job_definition.partition(":")[0]
    for seconds in _durations(look, memo.looks.get(job.uid)):
        memo.run_times.observe(definition, seconds)


def _durations(look: Evaluation, before: Evaluation | None) -> Iterator[float]:
    """Outcomes are seen again in every look until the status that counts them is stored."""
    seen = {one.pod_uid for one in before.children.newly_ended} if before else set()
    for one in look.children.newly_ended:
        is_new = one.phase is Phase.SUCCEEDED and one.pod_uid not in seen
        if is_new and one.started_at and one.stopped_at:
            yield (one.stopped_at - one.started_at).total_seconds()


def to_store(known: RunTime | None, stored: LearnedRunTimes | None) -> LearnedRunTimes | None:
    """What the definition's status should say: what it says, unless there is news worth a write.

    News is that twice as many successes have been seen, or, once all that is kept is newer than
    what is stored, that the times have changed. So a definition is written to once in `KEPT_MAX`
    successes, but for the first few.
    """
    if known is None:
        return stored
    now = LearnedRunTimes(
        count=known.count, p50_seconds=ceil(known.p50_s), p90_seconds=ceil(known.p90_s)
    )
    if stored is None or now.count >= 2 * stored.count:
        return now
    has_changed = _differs(now.p50_seconds, stored.p50_seconds) or _differs(
        now.p90_seconds, stored.p90_seconds
    )
    return now if has_changed and now.count - stored.count >= KEPT_MAX else stored


def _differs(now_s: int, stored_s: int) -> bool:
    return abs(now_s - stored_s) > max(1.0, CHANGE_MIN * stored_s)
