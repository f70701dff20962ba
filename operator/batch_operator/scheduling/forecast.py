"""When will it start? The dispatch of the core, played in virtual time on copies.

What runs ends when the run times that were learned say so, what is freed goes to whoever is served
next, and so on until the front of every queue has started. One play takes what half of all attempts
did not exceed, another what nine of ten did not. An attempt of whose run time nothing is known
never ends in a play: what needs its room gets no estimate, and the sentence says why.

Not in it: failures and their retries, preemption, what is still to be submitted.

A forecast costs what runs and what it plays, which is bounded. It is made anew only when something
has changed that it rests on, so that time alone moves no estimate.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.index_set import IndexSet
from batch_operator.scheduling.administration import Fault
from batch_operator.scheduling.backfill import expected, longest_s, releases
from batch_operator.scheduling.consumables import free_units, is_used_up
from batch_operator.scheduling.dispatch import Dispatch
from batch_operator.scheduling.environments import fair_policy, usable_environments
from batch_operator.scheduling.room import Room
from batch_operator.scheduling.shares import FairStanding
from batch_operator.scheduling.starts import lots_of
from batch_operator.scheduling.walk import MANY, Equal, Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.backlog import Backlog
    from batch_operator.scheduling.dispatch import Placed
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.room import Release
    from batch_operator.scheduling.run_times import RunTime
    from batch_operator.scheduling.shares import ShareBook
    from batch_operator.scheduling.snapshot import Environment, Key, Queue, Snapshot
    from batch_operator.scheduling.walk import Standing

FRONT_MAX = 100
"""Jobs of a queue for which a start is looked for; AWS's snapshot of a queue has as many."""
FRONTS_MAX = 1_000
"""Of all queues together; once that many are found, the queues behind have `FRONT_MIN` each."""
FRONT_MIN = 10
_KINDS_PER_STEP = 3
EVERY = timedelta(seconds=10)
HORIZON = timedelta(hours=24)
STEPS_MAX = 1_000
"""What a play may cost: starts, queues served, and what backfill tries."""
STARTING_S = 5.0
"""From the end of one attempt until the next one runs in its place."""
_GRAIN = 0.02
"""Ends that are apart by less than this part of their distance are played as one."""
_NAMED_MAX = 2


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
    """What was found at one time, from `inputs`: by queue the uids at its front, in order."""

    made_at: datetime
    inputs: object
    fronts: Mapping[str, Sequence[str]]
    estimates: Mapping[str, Estimate]


def inputs_of(snapshot: Snapshot, memo: Memo) -> object:
    """Something that differs when a forecast could differ for other reasons than the time."""
    kinds = (snapshot.queues, snapshot.environments, snapshot.policies, snapshot.consumables)
    return memo.moves, [[(name, one.generation) for name, one in kind.items()] for kind in kinds]


def look_ahead(snapshot: Snapshot, memo: Memo, faults: list[Fault]) -> datetime | None:
    """Make the memo's forecast anew where it is due, and say when to come back for the next."""
    known, inputs = memo.forecast, inputs_of(snapshot, memo)
    if known is not None and known.inputs == inputs:
        return None
    if known is not None and snapshot.now < known.made_at + EVERY and any(memo.backlogs.values()):
        return known.made_at + EVERY
    try:
        memo.forecast = forecast(snapshot, memo)
    except Exception as error:  # noqa: BLE001  # nobody waits longer for want of a forecast
        faults.append(Fault("forecast", error))
        memo.forecast = Forecast(snapshot.now, inputs, {}, {})
    memo.fronts.clear()
    memo.touched_queues |= memo.forecast.fronts.keys()
    memo.touched_queues |= known.fronts.keys() if known is not None else set()
    return None


def forecast(snapshot: Snapshot, memo: Memo) -> Forecast:
    """Play what is to come, twice. What starts at once does not wait, and is not in it."""
    inputs = inputs_of(snapshot, memo)
    if not any(memo.backlogs.values()):
        return Forecast(snapshot.now, inputs, {}, {})
    usual = _Play(snapshot, memo, lambda known: known.p50_s)
    slow = _Play(snapshot, memo, lambda known: known.p90_s)
    fronts = {name: front for name in usual.backlogs if (front := usual.front(name))}
    usual.run(fronts)
    slow.run(fronts)
    estimates = {
        uid: _estimate(uid, name, usual, slow) for name, front in fronts.items() for uid in front
    }
    return Forecast(snapshot.now, inputs, fronts, estimates)


def _estimate(uid: str, queue: str, usual: _Play, slow: _Play) -> Estimate:
    early, late = usual.started.get(uid), slow.started.get(uid)
    namespace = usual.memo.looks[uid].job.namespace
    if early is not None and late is not None:
        p50, p90 = _told(early.at), _told(max(early.at, late.at))
        used = usual.freed[early.environment][: early.freed]
        return Estimate(p50, p90, _basis(used, namespace))
    unknown = dict.fromkeys(
        key
        for play in (usual, slow)
        for one in play.places[queue]
        for key in play.endless[one.name]
    )
    if unknown:
        names = _names([(key, key[1]) for key in unknown], namespace)
        return Estimate(None, None, f"no estimate: nothing is known of the run times of {names}")
    return Estimate(None, None, "no estimate: it starts later than a forecast looks ahead")


def _told(at: datetime) -> datetime:
    """In whole seconds, not before it is so."""
    return (at + timedelta(seconds=STARTING_S, microseconds=999_999)).replace(microsecond=0)


def _basis(used: Sequence[tuple[Key, RunTime]], namespace: str) -> str:
    if not used:
        return "there is room for it now"
    words = [
        (
            key,
            f"run times of {known.count} successes of {key[1]}"
            if known.count
            else f"the timeout of {key[1]}",
        )
        for key, known in used
    ]
    return _names(words, namespace)


def _names(words: Sequence[tuple[Key, str]], namespace: str) -> str:
    """The first of the job's own namespace; the others are counted, not named."""
    own = [text for key, text in words if key[0] == namespace][:_NAMED_MAX]
    more = len(words) - len(own)
    if more:
        own.append(f"{more} {'more' if own else 'other'} definition{'s' if more > 1 else ''}")
    return " and ".join([", ".join(own[:-1]), own[-1]] if len(own) > 1 else own)


@dataclass(frozen=True, slots=True)
class _Run:
    """Attempts of one job that end together, and what they give back then."""

    uid: str
    key: Key
    known: RunTime
    held: Sequence[tuple[str, int]]
    units: Sequence[tuple[str, int]]
    since: datetime
    count: int = 1


@dataclass(frozen=True, slots=True)
class _Started:
    """The first start of a job: when, where, and how many definitions' ends were behind it."""

    at: datetime
    environment: str
    freed: int


@dataclass(slots=True)
class _Play:
    """One course of things, in which attempts take as long as `runs_s` says."""

    snapshot: Snapshot
    memo: Memo
    runs_s: Callable[[RunTime], float]
    now: datetime = field(init=False)
    backlogs: dict[str, Backlog] = field(default_factory=dict)
    places: dict[str, list[Environment]] = field(default_factory=dict)
    started: dict[str, _Started] = field(default_factory=dict)
    freed: dict[str, list[tuple[Key, RunTime]]] = field(default_factory=lambda: defaultdict(list))
    """By environment: the definitions whose ends have made room in it, in order."""
    endless: dict[str, dict[Key, None]] = field(default_factory=lambda: defaultdict(dict))
    """By environment: the definitions of attempts that are never over, as far as is known."""
    _queues: list[Queue] = field(init=False)
    _held_back: set[str] = field(default_factory=set)
    """Arrays that have as many children at work as they may."""
    _sizes: dict[str, int] = field(default_factory=dict)
    """By queue: how many jobs its front has at the most."""
    _copied: dict[str, int] = field(default_factory=dict)
    """By queue: how many places of it are played."""
    _least: dict[str, int] = field(default_factory=dict)
    """By queue: the smallest request."""
    _used: Counter[str] = field(init=False)
    _units: dict[str, int] = field(init=False)
    _books: dict[str, ShareBook] = field(default_factory=dict)
    _limits: dict[str, int] = field(default_factory=dict)
    _ends: list[tuple[datetime, int, _Run]] = field(default_factory=list)
    _pushed: int = 0
    _steps: int = 0

    def __post_init__(self) -> None:
        """Begin with what is, and start what starts at once."""
        snapshot, memo = self.snapshot, self.memo
        self.now = snapshot.now
        self._used = Counter(memo.used_milli)
        self._units = free_units(snapshot.consumables, memo.used_units)
        in_order = sorted(snapshot.queues.values(), key=lambda one: (-one.spec.priority, one.name))
        self._queues = [one for one in in_order if memo.backlogs.get(one.name)]
        left = FRONTS_MAX
        for queue in self._queues:
            size = max(FRONT_MIN, min(FRONT_MAX, left))
            backlog = memo.backlogs[queue.name].front(size)
            self._sizes[queue.name] = size
            left -= min(size, len(backlog))
            self.backlogs[queue.name] = backlog
            self._copied[queue.name] = len(backlog)
            self.places[queue.name] = usable_environments(queue, snapshot.environments)
            self._least[queue.name] = min(lot.ask.milli_cpu for lot in backlog)
            if queue.name in memo.books:
                self._books[queue.name] = memo.books[queue.name].sums()
        for look in memo.looks.values():
            if look.children.live:
                self._go_on(look)
                self._await_own(look)
        self._serve()
        self.started.clear()

    def front(self, name: str) -> list[str]:
        """Who waits in a queue, in the order in which they would start if there were room."""
        queue = self.snapshot.queues[name]
        walk = Walk(self.backlogs[name], self._standing(queue)[0])
        found: dict[str, None] = {}
        while len(found) < self._sizes[name] and (lot := walk.next()) is not None:
            if lot.uid not in self._held_back:
                found[lot.uid] = None
                walk.started(lot, len(lot.indexes))
            walk.done(lot)
        return list(found)

    def run(self, fronts: Mapping[str, Sequence[str]]) -> None:
        """Go on from one end to the next until all of the fronts have started, or long enough."""
        wanted = {uid for front in fronts.values() for uid in front}
        begun = self.now
        while self._ends and self._ends[0][0] - begun <= HORIZON:
            if self._steps >= STEPS_MAX:
                return
            until = self._ends[0][0] + (self._ends[0][0] - begun) * _GRAIN
            while self._ends and self._ends[0][0] <= until:
                self.now, _, run = heapq.heappop(self._ends)
                self._end(run)
            self._serve()
            if wanted <= self.started.keys():
                return

    def _go_on(self, look: Evaluation) -> None:
        """What runs already."""
        known, plan = expected(self.memo.run_times, look), look.plan
        key = look.job.namespace, look.job.spec.job_definition.partition(":")[0]
        if known is None:
            for environment in look.usage:
                self.endless[environment][key] = None
            return
        runs_s = self.runs_s(known)
        units = tuple(look.held.items()) if look.gangs else plan.units if plan else ()
        for environment, ends in releases((look,), lambda _: runs_s, self.now).items():
            for end, milli_cpu in ends:
                since = end - timedelta(seconds=runs_s)
                held = ((environment, milli_cpu),)
                self._ends_at(end, _Run(look.job.uid, key, known, held, units, since))

    def _await_own(self, look: Evaluation) -> None:
        """Children that only wait for others of their array come to the queue when those end."""
        job, name = look.job, look.job.spec.job_queue
        array = job.spec.array_properties
        if array is None or array.max_parallel is None or look.start_limit:
            return
        if look.hold or job.deleting or name not in self.backlogs:
            return
        waiting = look.children.waiting - look.gated
        is_fair = self.snapshot.queues[name].spec.scheduling_policy is not None
        lots = lots_of(replace(look, start_limit=1, startable=waiting), is_fair=is_fair)
        if lots:
            self._held_back.add(job.uid)
            self.backlogs[name].set(job.uid, lots)
            self._least[name] = min(self._least[name], lots[0].ask.milli_cpu)

    def _ends_at(self, end: datetime, run: _Run) -> None:
        self._pushed += 1  # of those that end at the same time, in the order of their begin
        heapq.heappush(self._ends, (end, self._pushed, run))

    def _serve(self) -> None:
        """Start what may, queue by queue, as a cycle does."""
        dispatch = Dispatch(
            now=self.now,
            room=Room(
                self._used, dict(self._units), self.memo.nodes.ceilings, self.memo.nodes.suits
            ),
            resources=self.snapshot.consumables,
            asks_first=False,  # that takes one cycle more
            limit_of=self._limit,
            takes_s=lambda ask: longest_s(self.memo.run_times, ask),
            releases=self._releases,
            budget=MANY,
        )
        closed: set[str] = set()
        for queue in self._queues:
            backlog = self.backlogs[queue.name]
            places = [one for one in self.places[queue.name] if one.name not in closed]
            if not backlog:
                if self._is_cut_off(queue):
                    closed.update(one.name for one in places)
                continue
            if not any(dispatch.room.free(one) >= self._least[queue.name] for one in places):
                continue  # as of most of the queues that share an environment which is full
            standing, usable = self._standing(queue)
            before = len(dispatch.placed)
            dispatch.serve(backlog, places, standing, usable, backfill=queue.spec.backfill)
            self._steps += 1 + (backlog.kinds // _KINDS_PER_STEP if queue.spec.backfill else 0)
            for one in dispatch.placed[before:]:
                self._start(queue, one)

    def _is_cut_off(self, queue: Queue) -> bool:
        """Whether more wait in the queue than are played: nothing is known of those behind it."""
        return len(self.memo.backlogs[queue.name]) > self._copied[queue.name]

    def _standing(self, queue: Queue) -> tuple[Standing, float]:
        policy, book = fair_policy(queue, self.snapshot.policies), self._books.get(queue.name)
        if policy is None or book is None:
            return Equal(), 1.0
        fair = FairStanding(book, policy, self.now)
        return fair, fair.usable

    def _limit(self, uid: str) -> int:
        return self._limits.setdefault(uid, self.memo.looks[uid].start_limit)

    def _releases(self) -> Mapping[str, Sequence[Release]]:
        found: dict[str, list[Release]] = defaultdict(list)
        for end, _, run in self._ends:
            for environment, milli_cpu in run.held:
                found[environment].append((end, milli_cpu))
        return found

    def _start(self, queue: Queue, one: Placed) -> None:
        lot, count, name = one.lot, len(one.indexes), one.environment.name
        ask = lot.ask
        self._steps += 1
        self._limits[lot.uid] = self._limit(lot.uid) - count
        self.backlogs[queue.name].take(lot.place, IndexSet.of(one.indexes))
        self.started.setdefault(lot.uid, _Started(self.now, name, len(self.freed[name])))
        for resource, quantity in one.units:
            self._units[resource] = self._units.get(resource, 0) - quantity * count
        begins = self.now + timedelta(seconds=STARTING_S)
        if queue.name in self._books:
            self._books[queue.name].begin(lot.share, ask.milli_cpu * count, begins)
        if ask.definition is None:
            return
        known = self.memo.run_times.estimate(ask.definition, ask.timeout_s)
        if known is None:
            self.endless[name][ask.definition] = None
            return
        units = tuple((resource, quantity * count) for resource, quantity in one.units)
        held = ((name, ask.milli_cpu * count),)
        run = _Run(lot.uid, ask.definition, known, held, units, begins, count)
        self._ends_at(begins + timedelta(seconds=self.runs_s(known)), run)

    def _end(self, run: _Run) -> None:
        spec = self.memo.looks[run.uid].job.spec
        book = self._books.get(spec.job_queue)
        for environment, milli_cpu in run.held:
            self._used[environment] -= milli_cpu
            if all(key != run.key for key, _ in self.freed[environment]):
                self.freed[environment].append((run.key, run.known))
            if book is not None and spec.share_identifier is not None:
                book.end(spec.share_identifier, milli_cpu, run.since, self.now)
        for resource, quantity in run.units:
            if not is_used_up(self.snapshot.consumables[resource]):
                self._units[resource] += quantity
        self._limits[run.uid] = self._limit(run.uid) + run.count
