"""The dispatch of the core, played in virtual time on copies: one course of things to come.

What runs ends when the run times that were learned say so, what is freed goes to whoever is served
next, and so on until the front of every queue has started.

A play can be interrupted between any two of its steps: it rests on a `Beginning` that was taken at
one time and that nothing changes any more, whatever happens in the cluster meanwhile.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from batch_operator.api.index_set import IndexSet
from batch_operator.scheduling.backfill import at_longest_s, expected, longest_s, releases
from batch_operator.scheduling.backlog import Backlog
from batch_operator.scheduling.consumables import free_units, is_used_up
from batch_operator.scheduling.dispatch import Dispatch
from batch_operator.scheduling.room import Room
from batch_operator.scheduling.shares import FairStanding
from batch_operator.scheduling.starts import lots_of
from batch_operator.scheduling.terms import offer_of
from batch_operator.scheduling.walk import MANY, Equal, Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from batch_operator.api.job import BatchJobSpec
    from batch_operator.api.scheduling_policy import FairsharePolicy
    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.backlog import Lot
    from batch_operator.scheduling.dispatch import Placed
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.room import Release
    from batch_operator.scheduling.run_times import RunTime, RunTimes
    from batch_operator.scheduling.shares import ShareBook
    from batch_operator.scheduling.snapshot import (
        Consumable,
        Environment,
        Key,
        Queue,
        Snapshot,
    )
    from batch_operator.scheduling.suitability import Needs
    from batch_operator.scheduling.walk import Standing

FRONT_MAX = 100
"""Jobs of a queue for which a start is looked for; AWS's snapshot of a queue has as many."""
FRONTS_MAX = 1_000
"""Of all queues together; once that many are found, the queues behind have `FRONT_MIN` each."""
FRONT_MIN = 10
LOTS_PER_ROW = 5
"""Of a queue with many shares so many lots are played for each job of its front: the shares that
are served first then have more to start than the front shows of them."""
HORIZON = timedelta(hours=24)
STEPS_MAX = 1_000
"""What a play may cost: starts, queues served, and what backfill tries."""
STARTING_S = 5.0
"""From the end of one attempt until the next one runs in its place."""
LATE_PART = 0.5
"""What is late will be so for half as long again: nobody knows, but as time passes that is revised
ever less often, and what is late for long gets no estimate, as one beyond the horizon."""
_GRAIN = 0.02
"""Ends that are apart by less than this part of their distance are played as one."""
_KINDS_PER_STEP = 3
_LINES_PER_STEP, _SHARES_PER_STEP = 10, 100
"""Whenever a queue is served its lines are ranked, after a look at who is active in it."""
_SKIPPED_PER_STEP = 10
"""Queues for which there is no room: so many are as quick as one step."""
_JOBS_PER_STEP, _LOTS_PER_STEP, _ATTEMPTS_PER_STEP = 10, 3, 2
"""Of what plays are told, at once of jobs and then of what waits and of what runs."""
_LOTS_AT_ONCE = 30


@dataclass(frozen=True, slots=True)
class WaitingQueue:
    """A queue in which jobs wait, as plays begin. `lots` are its front, `book` is a copy."""

    stored: Queue
    places: Sequence[Environment]
    policy: FairsharePolicy | None
    book: ShareBook | None
    lots: Sequence[Lot]
    size: int
    """How many jobs its front has at the most."""
    is_cut_off: bool
    """Whether more wait than are played: nothing is known of those behind them."""


@dataclass(slots=True)
class PlayedQueue:
    """A queue as one play has it; `least` is the smallest request in it."""

    waiting: WaitingQueue
    backlog: Backlog
    book: ShareBook | None
    least: int

    @classmethod
    def of(cls, waiting: WaitingQueue) -> PlayedQueue:
        """Its backlog is still to be told of the lots."""
        book = waiting.book.sums() if waiting.book is not None else None
        least = min(lot.ask.milli_cpu for lot in waiting.lots)
        return cls(waiting, Backlog(), book, least)

    def standing(self, now: datetime) -> tuple[Standing, float]:
        return _standing(self.waiting.policy, self.book, now)

    @property
    def steps(self) -> int:
        """How many steps it takes to serve it, whatever starts."""
        shares = len(self.book.open_jobs) if self.book is not None else 0
        return 1 + len(self.backlog.lines) // _LINES_PER_STEP + shares // _SHARES_PER_STEP


def _standing(
    policy: FairsharePolicy | None, book: ShareBook | None, now: datetime
) -> tuple[Standing, float]:
    """How the shares of a queue stand at a time, and the part of environments that they may use."""
    if policy is None or book is None:
        return Equal(), 1.0
    fair = FairStanding(book, policy, now)
    return fair, fair.usable


class PlayedJob(NamedTuple):
    """What plays have to know of a job; `limit` is how many of its children may start."""

    namespace: str
    spec: BatchJobSpec
    limit: int


@dataclass(frozen=True, slots=True)
class Beginning:
    """All that plays rest on, taken at one time, and shared with nothing that changes later."""

    now: datetime
    queues: tuple[WaitingQueue, ...]
    """In the order in which they are served."""
    live: deque[Evaluation]
    """Jobs of which something runs, until the plays have taken them in: see `take_in`."""
    jobs: Mapping[str, PlayedJob]
    """All that a play can meet, without their statuses, which others will have replaced by then."""
    run_times: RunTimes
    consumables: Mapping[str, Consumable]
    used: Mapping[str, int]
    units: Mapping[str, int]
    ceilings: Mapping[str, int]
    """Of environments that get no more nodes now."""
    suits: Callable[[Environment, Needs], bool]

    @classmethod
    def of(cls, snapshot: Snapshot, memo: Memo) -> Beginning:
        in_order = sorted(snapshot.queues.values(), key=lambda one: (-one.spec.priority, one.name))
        queues: list[WaitingQueue] = []
        left = FRONTS_MAX
        for queue in in_order:
            waiting = memo.backlogs.get(queue.name)
            if not waiting:
                continue
            size = max(FRONT_MIN, min(FRONT_MAX, left))
            offer, book = offer_of(snapshot, memo, queue), memo.books.get(queue.name)
            standing, _ = _standing(offer.policy, book, snapshot.now)
            lots = waiting.front(size, LOTS_PER_ROW * size, standing)
            left -= min(size, len(lots))
            queues.append(
                WaitingQueue(
                    stored=queue,
                    places=offer.environments,
                    policy=offer.policy,
                    book=book.sums() if book is not None else None,
                    lots=lots,
                    size=size,
                    is_cut_off=len(waiting) > len(lots),
                )
            )
        live = memo.live()
        waits = (memo.looks[lot.uid] for one in queues for lot in one.lots)
        return cls(
            now=snapshot.now,
            queues=tuple(queues),
            live=deque(live),
            jobs={
                one.job.uid: PlayedJob(one.job.namespace, one.job.spec, one.start_limit)
                for one in (*live, *waits)
            },
            run_times=memo.run_times.copy(),
            consumables=dict(snapshot.consumables),
            used=dict(memo.used_milli),
            units=free_units(snapshot.consumables, memo.used_units),
            ceilings=dict(memo.nodes.ceilings),
            suits=memo.nodes.suits,
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """Attempts of one job that end together, and what they give back then."""

    uid: str
    key: Key
    known: RunTime
    held: Sequence[tuple[str, int]]
    units: Sequence[tuple[str, int]]
    since: datetime
    longest_s: float
    """How long it may run, which is what backfilling goes by."""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Started:
    """The first start of a job: when, where, and how many definitions' ends were behind it."""

    at: datetime
    environment: str
    freed: int


@dataclass(slots=True)
class Play:
    """One course of things, in which attempts take as long as `runs_s` says.

    Its generators yield how many steps they have taken.
    """

    beginning: Beginning
    runs_s: Callable[[RunTime], float]
    now: datetime = field(init=False)
    started: dict[str, Started] = field(default_factory=dict)
    freed: dict[str, list[tuple[Key, RunTime]]] = field(default_factory=lambda: defaultdict(list))
    """By environment: the definitions whose ends have made room in it, in order."""
    endless: dict[str, dict[Key, None]] = field(default_factory=lambda: defaultdict(dict))
    """By environment: the definitions of attempts that are never over, as far as is known."""
    queues: dict[str, PlayedQueue] = field(default_factory=dict)
    """In the order in which they are served."""
    _held_back: set[str] = field(default_factory=set)
    """Arrays that have as many children at work as they may."""
    _used: Counter[str] = field(init=False)
    _units: dict[str, int] = field(init=False)
    _limits: dict[str, int] = field(init=False)
    _ends: list[tuple[datetime, int, _Run]] = field(default_factory=list)
    _pushed: int = 0
    _steps: int = 0

    def __post_init__(self) -> None:
        self.now = self.beginning.now
        self._used = Counter(self.beginning.used)
        self._units = dict(self.beginning.units)
        self._limits = {uid: one.limit for uid, one in self.beginning.jobs.items()}

    def begin(self) -> Iterator[int]:
        """Start what starts at once."""
        yield from self._serve()
        self.started.clear()

    def front(self, name: str) -> list[str]:
        """Who waits in a queue, in the order in which they would start if there were room."""
        queue = self.queues[name]
        walk = Walk(queue.backlog, queue.standing(self.now)[0])
        found: dict[str, None] = {}
        while len(found) < queue.waiting.size and (lot := walk.next()) is not None:
            if lot.uid not in self._held_back:
                found[lot.uid] = None
                walk.started(lot, len(lot.indexes))
            walk.done(lot)
        return list(found)

    def run(self, wanted: Collection[str]) -> Iterator[int]:
        """Go on from one end to the next until all that are `wanted` started, or long enough."""
        begun, missing = self.now, {*wanted}
        while self._ends and self._ends[0][0] - begun <= HORIZON:
            if self._steps >= STEPS_MAX:
                return
            until = self._ends[0][0] + (self._ends[0][0] - begun) * _GRAIN
            while self._ends and self._ends[0][0] <= until:
                self.now, _, run = heapq.heappop(self._ends)
                self._end(run)
                yield 1
            yield from self._serve()
            if missing <= self.started.keys():
                return

    def endless_in(self, queue: str) -> dict[Key, None]:
        """The definitions of attempts that are never over where a queue could start something."""
        places = self.queues[queue].waiting.places
        return dict.fromkeys(key for one in places for key in self.endless[one.name])

    def take_in(self, look: Evaluation) -> None:
        """A job of which something runs."""
        self._go_on(look)
        self._await_own(look)

    def _go_on(self, look: Evaluation) -> None:
        """What runs already."""
        known, plan = expected(self.beginning.run_times, look), look.plan
        key = look.job.namespace, look.job.spec.job_definition.partition(":")[0]
        if known is None:
            for environment in look.usage:
                self.endless[environment][key] = None
            return
        runs_s, may_s = self.runs_s(known), at_longest_s(self.beginning.run_times, look) or 0.0
        units = tuple(look.held.items()) if look.gangs else plan.units if plan else ()
        to_come = releases((look,), lambda _: runs_s, self.now, LATE_PART)
        for environment, ends in to_come.items():
            for end, milli_cpu in ends:
                since = end - timedelta(seconds=runs_s)
                held = ((environment, milli_cpu),)
                self._ends_at(end, _Run(look.job.uid, key, known, held, units, since, may_s))

    def _await_own(self, look: Evaluation) -> None:
        """Children that only wait for others of their array come to the queue when those end."""
        job, name = look.job, look.job.spec.job_queue
        array = job.spec.array_properties
        if array is None or array.max_parallel is None or look.start_limit:
            return
        queue = self.queues.get(name)
        if look.hold or job.deleting or queue is None:
            return
        waiting = look.children.waiting - look.gated
        is_fair = queue.waiting.stored.spec.scheduling_policy is not None
        lots = lots_of(replace(look, start_limit=1, startable=waiting), is_fair=is_fair)
        if lots:
            self._held_back.add(job.uid)
            queue.backlog.set(job.uid, lots)
            queue.least = min(queue.least, lots[0].ask.milli_cpu)

    def _ends_at(self, end: datetime, run: _Run) -> None:
        self._pushed += 1  # of those that end at the same time, in the order of their begin
        heapq.heappush(self._ends, (end, self._pushed, run))

    def _serve(self) -> Iterator[int]:
        """Start what may, queue by queue, as a cycle does."""
        run_times = self.beginning.run_times
        dispatch = Dispatch(
            now=self.now,
            room=Room(self._used, dict(self._units), self.beginning.ceilings, self.beginning.suits),
            resources=self.beginning.consumables,
            asks_first=False,  # that takes one cycle more
            limit_of=self._limits.__getitem__,
            takes_s=lambda ask: longest_s(run_times, ask),
            releases=self._releases,
            budget=MANY,
        )
        closed: set[str] = set()
        for queue in self.queues.values():
            waiting = queue.waiting
            places = [one for one in waiting.places if one.name not in closed]
            if not queue.backlog:
                if waiting.is_cut_off:
                    closed.update(one.name for one in places)
                continue
            backfill = waiting.stored.spec.backfill
            if not backfill and not any(dispatch.room.free(one) >= queue.least for one in places):
                continue  # as of most of the queues that share an environment which is full
            standing, usable = queue.standing(self.now)
            before, steps = len(dispatch.placed), queue.steps
            dispatch.serve(queue.backlog, places, standing, usable, backfill=backfill)
            steps += queue.backlog.kinds // _KINDS_PER_STEP if backfill else 0
            for one in dispatch.placed[before:]:
                self._start(queue, one)
                steps += 1
            self._steps += steps
            yield steps
        yield len(self.queues) // _SKIPPED_PER_STEP

    def _releases(self) -> Mapping[str, Sequence[Release]]:
        found: dict[str, list[Release]] = defaultdict(list)
        for end, _, run in self._ends:
            latest = max(end, run.since + timedelta(seconds=run.longest_s))
            for environment, milli_cpu in run.held:
                found[environment].append((latest, milli_cpu))
        return found

    def _start(self, queue: PlayedQueue, one: Placed) -> None:
        lot, count, name = one.lot, len(one.indexes), one.environment.name
        ask = lot.ask
        self._limits[lot.uid] -= count
        queue.backlog.take(lot.place, IndexSet.of(one.indexes))
        self.started.setdefault(lot.uid, Started(self.now, name, len(self.freed[name])))
        for resource, quantity in one.units:
            self._units[resource] = self._units.get(resource, 0) - quantity * count
        begins = self.now + timedelta(seconds=STARTING_S)
        if queue.book is not None:
            queue.book.begin(lot.share, ask.milli_cpu * count, begins)
        if ask.definition is None:
            return
        known = self.beginning.run_times.estimate(ask.definition, ask.timeout_s)
        if known is None:
            self.endless[name][ask.definition] = None
            return
        units = tuple((resource, quantity * count) for resource, quantity in one.units)
        held = ((name, ask.milli_in(one.environment) * count),)
        may_s = known.p90_s if ask.timeout_s is None else ask.timeout_s
        run = _Run(lot.uid, ask.definition, known, held, units, begins, may_s, count)
        self._ends_at(begins + timedelta(seconds=self.runs_s(known)), run)

    def _end(self, run: _Run) -> None:
        spec = self.beginning.jobs[run.uid].spec
        queue = self.queues.get(spec.job_queue)
        book = queue.book if queue is not None else None
        for environment, milli_cpu in run.held:
            self._used[environment] -= milli_cpu
            if all(key != run.key for key, _ in self.freed[environment]):
                self.freed[environment].append((run.key, run.known))
            if book is not None and spec.share_identifier is not None:
                book.end(spec.share_identifier, milli_cpu, run.since, self.now)
        for resource, quantity in run.units:
            known = self.beginning.consumables.get(resource)
            if known is not None and not is_used_up(known):
                self._units[resource] += quantity
        self._limits[run.uid] += run.count


def take_in(beginning: Beginning, plays: Sequence[Play]) -> Iterator[int]:
    """Tell the plays what waits and what runs, and let go of what has been told."""
    yield len(beginning.jobs) // _JOBS_PER_STEP
    for waiting in beginning.queues:
        played = [PlayedQueue.of(waiting) for _ in plays]
        for play, queue in zip(plays, played, strict=True):
            play.queues[waiting.stored.name] = queue
        yield 1
        for begin in range(0, len(waiting.lots), _LOTS_AT_ONCE):
            lots = waiting.lots[begin : begin + _LOTS_AT_ONCE]
            for queue in played:
                queue.backlog.extend(lots)
            yield len(lots) // _LOTS_PER_STEP
    attempts = 0
    while beginning.live:
        look = beginning.live.popleft()
        for play in plays:
            play.take_in(look)
        attempts += len(look.children.live)
        yield attempts // _ATTEMPTS_PER_STEP
        attempts %= _ATTEMPTS_PER_STEP
