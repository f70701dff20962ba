"""Fair share: who has used least of a queue, by weight, is served next.

AWS Batch (user guide, "Use share identifiers"): a share's usage is its vCPUs over time, recent use
counting more, times its weight factor; the share with the lowest usage is served. AWS does not say
how use is forgotten; here by an exponential with a half-life of half the policy's window
(`shareDecaySeconds`, 600 s where it is 0), so that a window's end leaves a quarter.

Among starts of one cycle usage over time does not change, and a share that was idle for long would
get everything. So what a share holds counts, too, by a part of the usage that holding it for ever
would come to (its vCPUs times the mean life, which is half-life / ln 2)::

    rank = weight * (usage + held * MEAN_LIFE * HELD_PART)

The smaller the part, the closer the shares come to their weights where few and large jobs run (one
that holds nothing at the moment of choice is not owed as much as its rank says); the larger, the
less a newcomer gets of all that is freed before it has caught up.

Sums are kept as integers, scaled by a power of two that follows the clock: adding and taking away
is exact, and so the same whatever came in between.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from batch_operator.lifecycle.clocks import NEVER, SKEW
from batch_operator.scheduling.walk import MANY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batch_operator.api.scheduling_policy import FairsharePolicy, Share

WINDOW_MIN_S = 600
HELD_PART = 0.25
EPOCH_HALF_LIVES = 64
"""The scale of the sums changes after so many half-lives; what is older than that is forgotten."""
_FRACTION_BITS = 20
_FORGOTTEN = 1000.0  # milli-vCPU-seconds that nobody misses
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def half_life_s(policy: FairsharePolicy) -> float:
    return max(policy.share_decay_seconds, WINDOW_MIN_S) / 2


def decayed(usage: float, age_s: float, half_life: float) -> float:
    """What is left of a usage after a time; of what is still to come, all of it."""
    return usage * math.exp2(-max(0.0, age_s) / half_life)


def usage_of_run(milli_cpu: int, held_s: float, age_s: float, half_life: float) -> float:
    """Milli-vCPU-seconds that an attempt is worth that held so much for `held_s` until `age_s` ago.

    The integral over its time of what each moment is still worth.
    """
    mean_life = half_life / math.log(2)
    worth = mean_life * (1 - math.exp2(-held_s / half_life))
    return decayed(milli_cpu * worth, age_s, half_life)


@dataclass(frozen=True, slots=True)
class Scale:
    """Turns usage at a time into integers that can be added whatever their times."""

    half_life: float
    epoch: int
    """Number of the epoch that counts from."""

    @classmethod
    def at(cls, now: datetime, half_life: float) -> Scale:
        return cls(half_life, int(_seconds(now) // (half_life * EPOCH_HALF_LIVES)))

    def of(self, usage: float, at: datetime) -> int:
        """A usage as it was at a time."""
        begun_s = self.epoch * EPOCH_HALF_LIVES * self.half_life
        whole, part = divmod((_seconds(at) - begun_s) / self.half_life, 1.0)
        value = round(usage * math.exp2(part) * (1 << _FRACTION_BITS))
        shift = int(whole)
        return value << shift if shift >= 0 else value >> -shift

    def usage(self, scaled: int, now: datetime) -> float:
        """A sum of such integers as the usage that it is now."""
        unit = self.of(1.0, now)
        return scaled / unit if unit else 0.0


def _seconds(at: datetime) -> float:
    return (at - _EPOCH).total_seconds()


@dataclass(frozen=True, slots=True)
class Usage:
    """Milli-vCPU-seconds, as they are worth at a time."""

    amount: float = 0.0
    at: datetime = _EPOCH

    def plus(self, amount: float, at: datetime, half_life: float) -> Usage:
        """With what is worth so much at another time, as of the later of both."""
        latest = max(self.at, at)
        mine = decayed(self.amount, (latest - self.at).total_seconds(), half_life)
        other = decayed(amount, (latest - at).total_seconds(), half_life)
        return Usage(mine + other, latest)


@dataclass(frozen=True, slots=True)
class Charge:
    """What one job adds to its share.

    `over` is the usage of its attempts that are over; `runs` are those on a node, since when and
    with how much; `held` is what all its attempts hold, in milli-CPU.
    """

    share: str
    over: Usage = Usage()
    runs: tuple[tuple[datetime, int], ...] = ()
    held: int = 0
    is_open: bool = True

    def until(self, latest: datetime) -> Charge:
        """The same without times that are later, whatever clock has told of them."""
        if self.over.at <= latest and all(since <= latest for since, _ in self.runs):
            return self
        return replace(
            self,
            over=replace(self.over, at=min(self.over.at, latest)),
            runs=tuple((min(since, latest), milli_cpu) for since, milli_cpu in self.runs),
        )


class ShareBook:
    """What the shares of one queue have used and hold."""

    def __init__(self, deleted: Mapping[str, Usage], queue_uid: str = "") -> None:
        """`deleted` is the usage of jobs that exist no more, by share, as it was stored."""
        self.deleted: dict[str, Usage] = dict(deleted)
        self.queue_uid = queue_uid
        """A queue that is deleted and applied again begins anew."""
        self._scale = Scale(WINDOW_MIN_S / 2, 0)
        self._latest = NEVER
        """The latest time that is believed, once it is known when it is."""
        self._charges: dict[str, Charge] = {}
        self._weighed: tuple[FairsharePolicy, list[str], dict[str, float]] | None = None
        self._clear()

    def _clear(self) -> None:
        self._last_used: dict[str, datetime] = {}
        self._over: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()
        """Milli-CPU of runs, scaled by when they began."""
        self._running: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.open_jobs: Counter[str] = Counter()

    def set(self, uid: str, charge: Charge | None) -> None:
        """Make `charge` what the job adds; no time is later than any clock may be ahead."""
        charge = charge.until(self._latest) if charge is not None else None
        before = self._charges.get(uid)
        if before == charge:
            return
        if before is not None:
            self._add(before, -1)
            del self._charges[uid]
        if charge is not None:
            self._add(charge, 1)
            self._charges[uid] = charge

    def delete(self, uid: str, now: datetime) -> bool:
        """The job exists no more: its usage is kept under its share. Whether there was any.

        Who deletes a job that runs has used what it held until now.
        """
        charge = self._charges.get(uid)
        self.set(uid, None)
        if charge is None:
            return False
        at, used = now.replace(microsecond=0), charge.over
        for since, milli_cpu in charge.runs:
            held_s = max(0.0, (at - since).total_seconds())
            used = used.plus(usage_of_run(milli_cpu, held_s, 0, self.half_life), at, self.half_life)
        if not used.amount:
            return False
        before = self.deleted.get(charge.share, Usage())
        total = before.plus(used.amount, used.at, self.half_life)
        # Rounded as it is stored, so that a restart changes nothing.
        self.deleted[charge.share] = Usage(round(total.amount), total.at)
        return True

    def sums(self) -> ShareBook:
        """A copy of the sums without the jobs behind them, for `begin` and `end` to go on with."""
        found = ShareBook(self.deleted, self.queue_uid)
        found._scale, found._last_used = self._scale, dict(self._last_used)
        found._over, found._begun = Counter(self._over), Counter(self._begun)
        found._running, found.held = Counter(self._running), Counter(self.held)
        found.open_jobs = Counter(self.open_jobs)
        return found

    def begin(self, share: str, milli_cpu: int, at: datetime) -> None:
        """Attempts of a share begin to run."""
        self._add(Charge(share, runs=((at, milli_cpu),), held=milli_cpu, is_open=False), 1)

    def end(self, share: str, milli_cpu: int, since: datetime, at: datetime) -> None:
        """Attempts that began at a time are over."""
        self._add(Charge(share, runs=((since, milli_cpu),), held=milli_cpu, is_open=False), -1)
        used = usage_of_run(milli_cpu, (at - since).total_seconds(), 0, self.half_life)
        self._add(Charge(share, over=Usage(used, at), is_open=False), 1)

    def prune(self, now: datetime) -> None:
        """Forget what deleted jobs have used where nobody would notice.

        And whoever has nothing left: a share may be the name of one run of a pipeline.
        """
        for share, one in list(self.deleted.items()):
            left = self.usage_of_deleted(share, now)
            if left < _FORGOTTEN and now - one.at >= self._window:
                del self.deleted[share]
        sums = (self.open_jobs, self._over, self.held, self._running, self._begun)
        for share in [share for share, count in self.open_jobs.items() if not count]:
            last = self._last_used.get(share, _EPOCH)
            if now - last >= self._window and not any(each[share] for each in sums):
                self._last_used.pop(share, None)
                for each in sums:
                    each.pop(share, None)

    def _add(self, charge: Charge, sign: int) -> None:
        share, over = charge.share, charge.over
        if over.amount:
            self._over[share] += sign * self._scale.of(over.amount, over.at)
            self._last_used[share] = max(over.at, self._last_used.get(share, over.at))
        for since, milli_cpu in charge.runs:
            self._begun[share] += sign * self._scale.of(milli_cpu, since)
            self._running[share] += sign * milli_cpu
        self.held[share] += sign * charge.held
        self.open_jobs[share] += sign * charge.is_open

    @property
    def half_life(self) -> float:
        return self._scale.half_life

    @property
    def _window(self) -> timedelta:
        return timedelta(seconds=2 * self.half_life)

    def at(self, now: datetime, half_life: float) -> ShareBook:
        """The book for a time; it is reckoned anew where the policy or the epoch has changed."""
        self._latest, scale = now + SKEW, Scale.at(now, half_life)
        if scale != self._scale:
            self._scale = scale
            self._clear()
            horizon_s = half_life * EPOCH_HALF_LIVES
            for uid, charge in list(self._charges.items()):
                age_s = (now - charge.over.at).total_seconds()
                if charge.is_open or charge.held or charge.runs or age_s < horizon_s:
                    self._add(charge, 1)
                else:
                    del self._charges[uid]
        return self

    def usage(self, share: str, now: datetime) -> float:
        """Milli-vCPU-seconds of a share, everything that is forgotten taken off."""
        mean_life = self.half_life / math.log(2)
        over = self._scale.usage(self._over[share], now)
        begun = self._scale.usage(self._begun[share], now)
        gone = self.usage_of_deleted(share, now)
        return over + gone + max(0.0, mean_life * (self._running[share] - begun))

    def usage_of_deleted(self, share: str, now: datetime) -> float:
        """The part of it that jobs have used which exist no more."""
        deleted = self.deleted.get(share, Usage())
        return decayed(deleted.amount, (now - deleted.at).total_seconds(), self.half_life)

    def active(self, now: datetime) -> list[str]:
        """Shares with a job that is not over, or with use that a window has not wiped out.

        AWS: a share becomes inactive when its decay period is over after its last job.
        """
        window = self._window
        found = {share for share, count in self.open_jobs.items() if count > 0}
        found |= {share for share, at in self._last_used.items() if now - at < window}
        found |= {share for share, one in self.deleted.items() if now - one.at < window}
        return sorted(found)

    def weights(self, policy: FairsharePolicy, active: list[str]) -> Mapping[str, float]:
        """`weights`, reckoned anew only when something about them has changed."""
        known = self._weighed
        if known is None or known[0] is not policy or known[1] != active:
            known = self._weighed = (policy, active, weights(policy, active))
        return known[2]


def weights(policy: FairsharePolicy, active: Iterable[str]) -> dict[str, float]:
    """The weight of each active share: lower weighs more.

    AWS: an entry that ends in `*` is a weight that all who begin so share, so each of them has it
    times their number; who is in no entry weighs 1.
    """
    exact = {one.share_identifier: one.weight_factor for one in policy.share_distribution}
    prefixes = {
        one.share_identifier[:-1]: one for one in policy.share_distribution if _is_prefix(one)
    }
    lengths = sorted({len(prefix) for prefix in prefixes})
    found: dict[str, float] = {}
    members: dict[str, list[str]] = defaultdict(list)
    for share in active:
        found[share] = exact.get(share, 1.0)
        for length in lengths if share not in exact else ():
            stem = share[:length]
            if stem in prefixes and len(stem) == length:
                members[stem].append(share)
    for prefix, one in prefixes.items():
        alike = members[prefix]
        found.update(dict.fromkeys(alike, one.weight_factor * len(alike)))
    return found


def overlap(distribution: Sequence[Share]) -> tuple[str, str] | None:
    """Two entries that one share identifier could be in both of (AWS refuses such a policy)."""
    return _overlap(tuple(one.share_identifier for one in distribution))


@lru_cache(maxsize=256)
def _overlap(names: tuple[str, ...]) -> tuple[str, str] | None:
    """Asked for every job of a queue in every look, and quadratic."""
    for prefix in sorted(one for one in names if one.endswith("*")):
        for other in sorted(names):
            stem = other.rstrip("*")
            if other != prefix and (
                stem.startswith(prefix[:-1]) or (other.endswith("*") and prefix.startswith(stem))
            ):
                return prefix, other
    return None


def _is_prefix(share: Share) -> bool:
    return share.share_identifier.endswith("*")


def usable_part(policy: FairsharePolicy, active: int) -> float:
    """How much of an environment the active shares may use together.

    AWS: `(computeReservation/100) ^ active shares` of it is kept for those that are not active.
    """
    return 1.0 - (policy.compute_reservation / 100) ** max(1, active)


class FairStanding:
    """The standing of a queue's shares in one cycle."""

    def __init__(self, book: ShareBook, policy: FairsharePolicy, now: datetime) -> None:
        active = book.active(now)
        self.weights = book.weights(policy, active)
        self.usable = usable_part(policy, len(active))
        self._book, self._now = book, now
        self._held_s = book.half_life / math.log(2) * HELD_PART
        self._usage: dict[str, float] = {}
        self._more: Counter[str] = Counter()

    def rank(self, share: str) -> float:
        return self._rank(share, self._book.held[share] + self._more[share])

    def take(self, share: str, milli_cpu: int) -> None:
        self._more[share] += milli_cpu

    def served_before(self, share: str, milli_cpu: int, other: float) -> int:
        held = self._book.held[share] + self._more[share]
        step = self._weight(share) * milli_cpu * self._held_s
        count = max(1, min(MANY, math.ceil((other - self._rank(share, held)) / step)))
        # Rounding may lead one too far, and then another share's turn would come in the middle.
        while count > 1 and self._rank(share, held + (count - 1) * milli_cpu) >= other:
            count -= 1
        return count

    def _rank(self, share: str, held: int) -> float:
        if share not in self._usage:
            self._usage[share] = self._book.usage(share, self._now)
        return self._weight(share) * (self._usage[share] + held * self._held_s)

    def surplus(self, share: str, asks: str, milli_cpu: int) -> int:
        """Milli-CPU that a share holds beyond its part, beside one that asks for so much more.

        What each holds decides, by weight, and no history: so much taken leaves it no less than the
        one that asks then has, which therefore cannot be asked to give it back.
        """
        if share == asks:
            return 0
        then = self._weight(asks) * (self._book.held[asks] + self._more[asks] + milli_cpu)
        held = self._book.held[share] + self._more[share]
        return max(0, math.floor(held - then / self._weight(share)))

    def _weight(self, share: str) -> float:
        return self.weights.get(share, 1.0)
