"""What is free in one cycle: vCPUs of compute environments, units of consumable resources.

Reservations make backfilling safe: the job at the head of a queue that does not fit gets the
earliest time at which it will, and what passes it may only use what is over by then, or be done
before (EASY backfilling; Lifka 1995, "The ANL/IBM SP scheduling system").
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batch_operator.scheduling.environments import capacity_milli

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from batch_operator.scheduling.backlog import Ask
    from batch_operator.scheduling.snapshot import Environment
    from batch_operator.scheduling.suitability import Needs

Release = tuple[datetime, int]
"""When an attempt is expected to end at the latest, and the milli-CPU that it gives back then."""
_AT_ONCE = datetime.min.replace(tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Reservation:
    """A claim on an environment from a time on, for the job of uid `owner`.

    `spare` is what is over then, in milli-CPU.
    """

    owner: str
    at: datetime
    milli_cpu: int
    spare: int


class Room:
    """Free capacity, which shrinks as a cycle places."""

    def __init__(
        self,
        used: Counter[str],
        units: dict[str, int],
        ceilings: Mapping[str, int] | None = None,
        suits: Callable[[Environment, Needs], bool] = lambda *_: True,
    ) -> None:
        """Begin with the milli-CPU `used` by environment, and the free `units` by resource.

        `ceilings` are of environments that get no more nodes now: what those hold that they have.
        `suits` says whether an environment could have nodes for what Pods ask.
        """
        self._suits = suits
        self.used = used
        self.units = units
        self._ceilings = ceilings or {}
        self._reserved: dict[str, list[Reservation]] = defaultdict(list)
        self._placed: dict[str, list[Release]] = defaultdict(list)
        """By environment: when what this cycle has placed is over."""

    def free(self, environment: Environment, usable: float = 1.0) -> int:
        """Milli-CPU; `usable` is the part of the environment that may be used at all."""
        return max(0, self._limit(environment, usable) - self.used[environment.name])

    def holds(self, ask: Ask, environments: Sequence[Environment], usable: float) -> bool:
        """Whether there would be room for one if nothing else ran."""
        return any(
            ask.milli_in(one) <= usable_milli(one, usable)
            for one in self.suitable(ask, environments)
        )

    def suitable(self, ask: Ask, environments: Iterable[Environment]) -> list[Environment]:
        """The environments that could have nodes for it, in the same order."""
        return [one for one in environments if self._suits(one, ask.needs)]

    def could_fit(self, ask: Ask, environments: Sequence[Environment], usable: float) -> bool:
        """Whether there is room for one, reservations aside."""
        return self.affordable(ask) > 0 and any(
            ask.milli_in(one) <= self.free(one, usable) for one in self.suitable(ask, environments)
        )

    def affordable(self, ask: Ask) -> int:
        """How many starts the free units of its consumable resources allow."""
        counts = (self.units.get(name, 0) // quantity for name, quantity in ask.units)
        return max(0, min(counts, default=1 << 30))

    def take(
        self,
        ask: Ask,
        wanted: int,
        environments: Sequence[Environment],
        usable: float,
        ends_at: datetime,
    ) -> list[tuple[Environment, int]]:
        """Take room for as many as fit, environment by environment in their order.

        `ends_at` is when each of them is over at the latest, `NEVER` if that is not known.
        """
        taken: list[tuple[Environment, int]] = []
        left = min(wanted, self.affordable(ask))
        for environment in self.suitable(ask, environments):
            if left <= 0:
                break
            each = ask.milli_in(environment)
            count = min(left, self.free(environment, usable) // each)
            in_the_way = self._in_the_way(environment, ends_at)
            for one in in_the_way:
                count = min(count, one.spare // each)
            if count <= 0:
                continue
            for one in in_the_way:
                one.spare -= count * each
            self.used[environment.name] += count * each
            if ends_at < NEVER:
                self._placed[environment.name].append((ends_at, count * each))
            left -= count
            taken.append((environment, count))
        total = sum(count for _, count in taken)
        for name, quantity in ask.units:
            self.units[name] = self.units.get(name, 0) - total * quantity
        return taken

    def kept_for(
        self, ask: Ask, environments: Sequence[Environment], usable: float, ends_at: datetime
    ) -> tuple[str, ...]:
        """Uids of the jobs for which room is kept that one start could have otherwise."""
        if not self.affordable(ask):
            return ()
        found: dict[str, None] = {}
        for environment in self.suitable(ask, environments):
            each = ask.milli_in(environment)
            if each <= self.free(environment, usable):
                claims = self._in_the_way(environment, ends_at)
                found |= {one.owner: None for one in claims if one.spare < each}
        return tuple(found)

    def _in_the_way(self, environment: Environment, ends_at: datetime) -> list[Reservation]:
        claims = self._reserved.get(environment.name, ())
        return [one for one in claims if ends_at > one.at]

    def reserve(
        self,
        owner: str,
        ask: Ask,
        environments: Sequence[Environment],
        usable: float,
        releases: Mapping[str, Sequence[Release]],
        now: datetime,
    ) -> None:
        """Keep room for `owner`, the job at the head of a queue, where it is expected first.

        When that is not known it is kept wherever it could be: nothing may pass that could be in
        its way. So it is with its units, of which nobody knows when they come back.
        """
        affordable = self.affordable(ask)
        for name, quantity in ask.units:
            self.units[name] = self.units.get(name, 0) - quantity
        found = []
        environments = self.suitable(ask, environments)
        for number, one in enumerate(environments):
            for time, lasting in self._to_come(one, usable, releases.get(one.name, ()), now):
                if lasting >= ask.milli_in(one):
                    found.append((time, number, lasting - ask.milli_in(one)))
                    break
        if found and affordable:
            time, number, spare = min(found)
            chosen = environments[number]
            self._claim(owner, chosen, time, ask.milli_in(chosen), spare)
            return
        for one in environments:
            each = ask.milli_in(one)
            if each <= capacity_milli(one):
                self._claim(owner, one, now, each, max(0, self.free(one, usable) - each))

    def keep(self, owner: str, environment: Environment, milli_cpu: int) -> None:
        """Keep what is being freed in an environment for the job that waits for it."""
        claims = self._reserved.get(environment.name, ())
        kept = milli_cpu + sum(one.milli_cpu for one in claims if one.at == _AT_ONCE)
        self._claim(owner, environment, _AT_ONCE, milli_cpu, max(0, self.free(environment) - kept))

    def _limit(self, environment: Environment, usable: float) -> int:
        limit = usable_milli(environment, usable)
        return min(limit, self._ceilings.get(environment.name, limit))

    def _claim(
        self, owner: str, environment: Environment, at: datetime, milli_cpu: int, spare: int
    ) -> None:
        self._reserved[environment.name].append(Reservation(owner, at, milli_cpu, spare))

    def _to_come(
        self, environment: Environment, usable: float, releases: Sequence[Release], now: datetime
    ) -> list[tuple[datetime, int]]:
        """Times at which room is freed or claimed, and what is free from then on for good."""
        claims = self._reserved.get(environment.name, ())
        ends = [*releases, *self._placed.get(environment.name, ())]
        events = sorted([*ends, *((one.at, -one.milli_cpu) for one in claims)])
        free = self._limit(environment, usable) - self.used[environment.name]
        steps = [(now, free)]
        for at, change in events:
            free += change
            steps.append((max(at, now), free))
        lasting = free
        for number in range(len(steps) - 1, -1, -1):
            time, free = steps[number]
            lasting = min(lasting, free)
            steps[number] = (time, lasting)
        return steps


def usable_milli(environment: Environment, usable: float) -> int:
    """What a part of an environment is in milli-CPU; 0.1 of 10 vCPUs is 1, whatever floats say."""
    return int(round(capacity_milli(environment) * usable, 3))
