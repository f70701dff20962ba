"""When attempts give back what they hold, and what backfilling promises the head of a queue."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.index_set import IndexSet
from batch_operator.lifecycle.attempt import Phase
from batch_operator.scheduling.backfill import OVERDUE_S, STOPPING_S, releases
from batch_operator.scheduling.backlog import FIRST_TRY, Ask, Backlog, Lot
from batch_operator.scheduling.dispatch import Dispatch
from batch_operator.scheduling.room import Room
from batch_operator.scheduling.walk import Equal
from support.builders import START, attempt, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.room import Release
    from batch_operator.scheduling.snapshot import Environment


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


# When what runs is over


def look(*live: Any, usage: Mapping[str, int] | None = None) -> Evaluation:
    """A look at a job, as far as it matters here; with `usage`, at a multi-node job."""
    children = SimpleNamespace(live=live)
    gangs = ("gang",) if usage else ()
    return cast("Evaluation", SimpleNamespace(children=children, gangs=gangs, usage=usage or {}))


def expected_of(*looks: Evaluation, runs_s: float | None, now_s: float) -> Mapping[str, Any]:
    return releases(looks, lambda _: runs_s, at(now_s))


def test_an_attempt_is_expected_to_run_for_as_long_as_it_may() -> None:
    first = attempt(Phase.RUNNING, started_at=at(10), environment="a", milli_cpu=500)
    second = attempt(Phase.RUNNING, index=1, started_at=at(20), environment="a")

    assert expected_of(look(first, second), runs_s=60, now_s=30) == {
        "a": [(at(70), 500), (at(80), 1000)]
    }


def test_one_that_has_not_begun_to_run_has_all_its_time_before_it() -> None:
    waits = attempt(Phase.UNBOUND, started_at=None)

    assert expected_of(look(waits), runs_s=60, now_s=30) == {"local": [(at(90), 1000)]}


@pytest.mark.parametrize("now_s", [70, 500])
def test_one_that_is_overdue_is_expected_to_end_soon(now_s: float) -> None:
    runs = attempt(Phase.RUNNING, started_at=at(10))

    assert expected_of(look(runs), runs_s=60, now_s=now_s) == {
        "local": [(at(now_s + OVERDUE_S), 1000)]
    }


@pytest.mark.parametrize(
    "state", [{"requeued": "Preempted: x"}, {"stopping": True}, {"deleting": True}]
)
@pytest.mark.parametrize("runs_s", [None, 36000])
def test_one_that_is_being_stopped_is_over_soon(
    state: dict[str, Any], runs_s: float | None
) -> None:
    ends = attempt(Phase.RUNNING, started_at=at(10), **state)

    assert expected_of(look(ends), runs_s=runs_s, now_s=100) == {
        "local": [(at(100 + STOPPING_S), 1000)]
    }


def test_of_one_whose_run_time_is_not_known_nothing_is_expected() -> None:
    assert expected_of(look(attempt(Phase.RUNNING)), runs_s=None, now_s=30) == {}


def test_the_nodes_of_a_multi_node_job_end_together() -> None:
    main = attempt(Phase.RUNNING, started_at=at(10), node_group=0)

    assert expected_of(look(main, usage={"local": 8000}), runs_s=60, now_s=30) == {
        "local": [(at(70), 8000)]
    }


# What EASY promises


@dataclass(frozen=True)
class Work:
    """Children of one job. `runs_s` is how long each really runs, `timeout_s` what is known."""

    milli_cpu: int
    runs_s: int
    timeout_s: int | None
    licences: int = 0
    children: int = 1
    submitted_s: int = 0

    def lot(self, uid: str, indexes: IndexSet) -> Lot:
        units = (("licence", self.licences),) if self.licences else ()
        ask = Ask(self.milli_cpu, units, self.timeout_s)
        return Lot((FIRST_TRY, 0, at(self.submitted_s), uid, 0), ask, indexes)


@dataclass
class Cluster:
    """Queues from the highest priority to the lowest, served whenever something has happened."""

    environments: Sequence[Environment]
    queues: Sequence[tuple[bool, Mapping[str, Work]]]
    """Each: whether it backfills, and its jobs by uid."""
    licences: int = 0
    running: list[tuple[int, int | None, str, Work]] = field(default_factory=list)
    """When each really ends, when at the latest as far as is known, where, and what."""
    started: dict[str, list[int]] = field(default_factory=dict)
    """When each child of a job has started, in order."""
    promised: dict[tuple[str, int], int] = field(default_factory=dict)
    """By job and child of the highest queue: when it is to start, said when it came to the head."""
    first_head: tuple[str, int] | None = None

    def run(self) -> None:
        now = 0
        moments = {work.submitted_s for _, jobs in self.queues for work in jobs.values()}
        while moments:
            now = min(moments)
            self.running = [one for one in self.running if one[0] > now]
            while self.serve(now):
                pass  # as the operator does: what has started calls for another cycle
            moments |= {ends for ends, *_ in self.running}
            moments = {one for one in moments if one > now}

    def serve(self, now: int) -> bool:
        """One cycle; whether anything has started."""
        self._promise(now)
        dispatch = self._dispatch(now)
        for backfill, jobs in self.queues:
            backlog = self._backlog(jobs, now)
            dispatch.serve(backlog, self.environments, Equal(), 1.0, backfill=backfill)
        for one in dispatch.placed:
            work = next(jobs[one.lot.uid] for _, jobs in self.queues if one.lot.uid in jobs)
            latest = None if work.timeout_s is None else now + work.timeout_s
            self.started.setdefault(one.lot.uid, []).extend(now for _ in one.indexes)
            self.running += [
                (now + work.runs_s, latest, one.environment.name, work) for _ in one.indexes
            ]
        return bool(dispatch.placed)

    def _promise(self, now: int) -> None:
        """What the head of the highest queue is to be told, reckoned by trying every moment."""
        dispatch = self._dispatch(now)
        backlog = self._backlog(self.queues[0][1], now)
        found = dispatch.serve(backlog, self.environments, Equal(), 1.0, backfill=False)
        if not found:
            return
        blocked = found[0]
        placed = Counter(one.lot.uid for one in dispatch.placed for _ in one.indexes)
        child = blocked.uid, len(self.started.get(blocked.uid, ())) + placed[blocked.uid]
        self.first_head = self.first_head or child
        ends = [(latest, where, work.milli_cpu) for _, latest, where, work in self.running]
        for one in dispatch.placed:
            timeout_s = one.lot.ask.timeout_s
            latest = None if timeout_s is None else now + timeout_s
            ends += [(latest, one.environment.name, one.lot.ask.milli_cpu) for _ in one.indexes]
        asked = zip(blocked.ask.units, blocked.units, strict=True)
        if any(free < quantity for (_, quantity), (_, free) in asked):
            return  # nobody knows when units come back
        moment = self._room_at(blocked.ask.milli_cpu, ends)
        if moment is not None:
            self.promised.setdefault(child, moment)

    def _room_at(self, milli_cpu: int, ends: Sequence[tuple[int | None, str, int]]) -> int | None:
        """The first moment at which there is so much room somewhere."""
        for moment in sorted({latest for latest, *_ in ends if latest is not None}):
            for one in self.environments:
                held = sum(
                    milli
                    for latest, where, milli in ends
                    if where == one.name and (latest is None or latest > moment)
                )
                if one.spec.max_vcpus * 1000 - held >= milli_cpu:
                    return moment
        return None

    def _backlog(self, jobs: Mapping[str, Work], now: int) -> Backlog:
        backlog = Backlog()
        for uid, work in jobs.items():
            left = IndexSet.range(work.children - len(self.started.get(uid, ())))
            if left and work.submitted_s <= now:
                backlog.set(uid, (work.lot(uid, left),))
        return backlog

    def _dispatch(self, now: int) -> Dispatch:
        used, held = Counter[str](), 0
        releases: dict[str, list[Release]] = {}
        for _, latest, where, work in self.running:
            used[where] += work.milli_cpu
            held += work.licences
            if latest is not None:
                releases.setdefault(where, []).append((at(latest), work.milli_cpu))
        return Dispatch(
            now=at(now),
            room=Room(used, {"licence": self.licences - held}),
            resources={},
            limit_of=lambda _: 1 << 30,
            takes_s=lambda ask: ask.timeout_s,
            releases=lambda: releases,
            budget=1000,
        )


MAX_VCPUS = 4
"""Of the smallest environment: every job fits into each."""
LICENCES = 3


@st.composite
def works(draw: st.DrawFn, *, exact: bool = False, prefix: str = "job") -> dict[str, Work]:
    """Jobs by uid; with `exact`, they are all there from the beginning and run as long as known."""
    jobs = {}
    for number in range(draw(st.integers(1, 9))):
        runs_s = draw(st.integers(1, 20))
        loose = st.sampled_from([None, runs_s, runs_s + 1, runs_s + 15])
        jobs[f"{prefix}-{number}"] = Work(
            milli_cpu=1000 * draw(st.integers(1, MAX_VCPUS)),
            runs_s=runs_s,
            timeout_s=runs_s if exact else draw(loose),
            licences=draw(st.sampled_from([0, 0, 1, LICENCES])),
            children=draw(st.sampled_from([1, 1, 1, 3])),
            submitted_s=0 if exact else number * draw(st.integers(0, 2)),
        )
    times = sorted(one.submitted_s for one in jobs.values())
    return {
        uid: replace(work, submitted_s=time)
        for (uid, work), time in zip(jobs.items(), times, strict=True)
    }


ENVIRONMENTS = st.lists(st.integers(MAX_VCPUS, 6), min_size=1, max_size=2).map(
    lambda sizes: [environment(f"e{number}", maxvCpus=size) for number, size in enumerate(sizes)]
)


@given(ENVIRONMENTS, works(), works(prefix="low"), st.booleans())
def test_who_comes_to_the_head_starts_no_later_than_it_is_promised(
    environments: list[Environment],
    high: dict[str, Work],
    low: dict[str, Work],
    low_backfills: bool,  # noqa: FBT001
) -> None:
    """EASY: a job at the head of its queue has a time at which it starts at the latest.

    It is the earliest at which there is room if everything that runs takes as long as it may; and
    it holds whatever passes the job, in this queue or in a lower one.

    No more is promised. Who stands further back may well start later than it would have without
    backfill: what passes may take what the head leaves over, and hold it for long. Nor does it hold
    against what comes in before the head: a retry, a higher priority, a higher queue. Where no run
    time is known, or units are waited for, there is no time to be promised.
    """
    queues = [(True, high), (low_backfills, low)]
    cluster = Cluster(environments, queues, licences=LICENCES)
    cluster.run()

    for (uid, number), moment in cluster.promised.items():
        assert cluster.started[uid][number] <= moment
    for jobs in (high, low):
        assert all(len(cluster.started[uid]) == work.children for uid, work in jobs.items())


@given(works(exact=True), st.sampled_from(["known", "not known"]))
def test_the_first_head_starts_when_it_would_have_without_backfill(
    jobs: dict[str, Work], run_times: str
) -> None:
    """One queue, one environment, and run times that are exact, or none of them known.

    Also when it is units that the head waits for: those who need fewer do not keep it waiting.
    """
    if run_times == "not known":
        jobs = {uid: replace(work, timeout_s=None) for uid, work in jobs.items()}
    found = []
    for backfill in (False, True):
        cluster = Cluster([environment("e", maxvCpus=6)], [(backfill, jobs)], licences=LICENCES)
        cluster.run()
        found.append(cluster)
    plain, filled = found

    assert filled.first_head == plain.first_head
    if plain.first_head is not None:
        uid, number = plain.first_head
        assert filled.started[uid][number] == plain.started[uid][number]


def test_a_short_job_passes_and_a_long_one_takes_what_the_head_leaves_over() -> None:
    """The head is to start at 60 s with 3 of the 4 vCPUs."""
    jobs = {
        "a-runs": Work(2000, 60, 60),
        "b-head": Work(3000, 60, 60),
        "c-too-long": Work(2000, 61, 61),
        "d-short": Work(1000, 60, 60),
        "e-long": Work(1000, 600, None),
    }
    cluster = Cluster([environment("e", maxvCpus=4)], [(True, jobs)])
    cluster.run()

    assert cluster.started == {
        "a-runs": [0],
        "b-head": [60],
        "d-short": [0],
        "e-long": [0],
        "c-too-long": [120],
    }


def test_a_lower_queue_takes_what_is_free_past_a_queue_without_backfill() -> None:
    """AWS Batch: so a higher queue's large job may starve; backfill keeps its place."""
    starts = []
    for backfill in (False, True):
        high = {"a-runs": Work(2000, 60, 60), "b-head": Work(4000, 60, 60)}
        low = {f"low-{number}": Work(2000, 61, 61, submitted_s=number) for number in range(3)}
        cluster = Cluster([environment("e", maxvCpus=4)], [(backfill, high), (False, low)])
        cluster.run()
        starts.append(cluster.started["b-head"])

    assert starts == [[122], [60]]
