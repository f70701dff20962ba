"""Who makes room: as few as it takes, and those that lose least."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.index_set import IndexSet
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.children import REQUEUES_MAX, Children, Counted
from batch_operator.lifecycle.evaluate import Evaluation
from batch_operator.scheduling.backlog import Ask
from batch_operator.scheduling.dispatch import Blocked
from batch_operator.scheduling.preemption import Company, Preemption, Source, Victims, preempt
from support.builders import START, attempt, environment, job

if TYPE_CHECKING:
    from batch_operator.lifecycle.attempt import PodAttempt

NOW = START + timedelta(seconds=1000)
ANYBODY = Source("low", 1 << 40)
NONE = IndexSet()


def look(
    *live: PodAttempt, name: str = "victim", counted: Counted | None = None, **spec: Any
) -> Evaluation:
    known = counted or Counted(members=IndexSet.range(100))
    children = Children(known, NONE, NONE, NONE, NONE, NONE, live=live)
    return Evaluation(job(name, **spec), None, children, None, None)


def runs(index: int, milli_cpu: int, for_s: float, **fields: Any) -> PodAttempt:
    since = NOW - timedelta(seconds=for_s)
    return attempt(Phase.RUNNING, index=index, milli_cpu=milli_cpu, started_at=since, **fields)


def blocked(milli_cpu: int, free: int = 0, max_vcpus: int = 100) -> Blocked:
    return Blocked("uid-urgent", Ask(milli_cpu), ((environment(maxvCpus=max_vcpus), free),), ())


def room_for(
    asks: Blocked, *looks: Evaluation, source: Source | None = ANYBODY, min_run_s: float = 0
) -> Preemption | None:
    return preempt(asks, "urgent", Victims(looks, {}, NOW), lambda *_: source, min_run_s)


def stopped(found: Preemption | None) -> list[int]:
    return sorted(one.pod.index for one in found.stops) if found else []


def test_those_go_that_have_run_for_the_shortest_time() -> None:
    found = room_for(blocked(2000), look(*(runs(n, 1000, for_s=100 * n) for n in (3, 1, 2))))

    assert stopped(found) == [1, 2]
    assert found is not None
    assert {one.requeue for one in found.stops} == {"Preempted: made room for job urgent"}


@pytest.mark.parametrize(
    ("wanted", "licences", "goes"),
    [(1, 99, [0]), (3, 99, [0, 1, 2]), (9, 99, [0, 1, 2, 3]), (9, 2, [0, 1])],
)
def test_room_is_made_for_all_that_would_start_at_once(
    wanted: int, licences: int, goes: list[int]
) -> None:
    """The array asks for a vCPU and a licence for each child; there are four to make room."""
    asks = Blocked(
        "uid-urgent",
        Ask(1000, (("licence", 1),)),
        ((environment(maxvCpus=100), 0),),
        (("licence", licences),),
        wanted=wanted,
    )
    found = room_for(asks, look(*(runs(n, 1000, for_s=10 + n) for n in range(4))))

    assert stopped(found) == goes
    assert found is not None
    assert found.milli_cpu == len(goes) * 1000


def test_where_some_room_is_ready_it_is_kept_though_no_more_can_be_made() -> None:
    found = room_for(replace(blocked(1000, free=2000), wanted=5), look())

    assert found is not None
    assert (found.stops, found.milli_cpu) == ((), 2000)


def test_the_environment_is_chosen_in_which_most_can_start() -> None:
    """One child of `local` would lose less, but two of `other` can make room."""
    here = runs(0, 1000, for_s=10)
    there = [runs(n, 1000, for_s=100, environment="other", pod_uid=f"o{n}") for n in (1, 2)]
    asks = Blocked(
        "uid-urgent", Ask(1000), ((environment(), 0), (environment("other"), 0)), (), wanted=2
    )

    assert stopped(room_for(asks, look(here, *there))) == [1, 2]


def test_what_is_going_already_counts_against_what_its_share_may_lose() -> None:
    """Of two vCPUs beyond its part one is going; for a third start it would have to give two."""
    going = runs(0, 1000, 10, requeued="Preempted: x", stopping=True, pod_uid="going")
    left = [runs(n, 1000, 10, pod_uid=f"left-{n}") for n in (1, 2, 3)]
    asks = replace(blocked(1000), wanted=3)
    found = room_for(asks, look(going, *left), source=Source("share", 2000))

    assert len(stopped(found)) == 1
    assert found is not None
    assert found.milli_cpu == 2000


def test_a_queue_whose_shares_make_no_room_for_one_another_is_asked_once() -> None:
    looks = [
        look(runs(n, 1000, for_s=50 - n, pod_uid=f"pod-{n}"), name=f"j{n}", shareIdentifier=f"s{n}")
        for n in range(20)
    ]
    asked: list[Company] = []

    def source_of(company: Company, *_: object) -> Source:
        asked.append(company)
        return ANYBODY

    by_share = preempt(blocked(3000), "urgent", Victims(looks, {}, NOW), source_of, 0)
    assert len(set(asked)) == 20

    asked.clear()
    as_one = preempt(blocked(3000), "urgent", Victims(looks, {}, NOW, {"main"}), source_of, 0)
    assert set(asked) == {Company("main", None)}
    assert stopped(as_one) == stopped(by_share) == [17, 18, 19]


def test_one_large_one_goes_in_place_of_small_ones_that_alone_are_not_enough() -> None:
    found = room_for(blocked(4000), look(runs(0, 1000, 10), runs(1, 4000, 20)))

    assert stopped(found) == [1]


def test_what_is_free_and_what_is_being_stopped_need_not_be_taken_from_anybody() -> None:
    stopping = runs(0, 1000, 10, requeued="Preempted: x", stopping=True)

    assert stopped(room_for(blocked(3000, free=1000), look(stopping, runs(1, 1000, 50)))) == [1]
    assert stopped(room_for(blocked(2000, free=1000), look(stopping, runs(1, 1000, 50)))) == []


def test_the_environment_is_kept_while_what_was_stopped_still_ends() -> None:
    stopping = runs(0, 2000, 10, requeued="Preempted: x", stopping=True)
    found = room_for(blocked(2000), look(stopping))

    assert found is not None
    assert found.environment.name == "local"


@pytest.mark.parametrize(("ago_s", "goes"), [(30, []), (90, [1])])
def test_what_should_be_gone_and_is_not_makes_no_room(ago_s: float, goes: list[int]) -> None:
    """A Pod on a node of which nobody hears is Terminating for as long as its Node is there."""
    gone_by = NOW - timedelta(seconds=ago_s)
    dead = runs(0, 1000, 10, deleting=True, gone_by=gone_by)

    assert stopped(room_for(blocked(1000), look(dead, runs(1, 1000, 50)))) == goes


def test_who_asks_next_finds_what_makes_room_for_another_taken() -> None:
    victims = Victims([look(*(runs(n, 1000, 10 + n) for n in range(3)))], {}, NOW)
    first, second, third = (
        preempt(blocked(2000), name, victims, lambda *_: ANYBODY, 0) for name in ("a", "b", "c")
    )

    assert stopped(first) == [0, 1]
    assert (second, third) == (None, None)
    small = preempt(blocked(1000), "small", victims, lambda *_: ANYBODY, 0)
    assert stopped(small) == [2]


def test_of_each_company_only_as_much_is_taken_as_it_may_lose() -> None:
    """Share `red` may lose nothing; it has run for the shortest time all the same."""
    share_of = {"red": 10, "blue": 20, "green": 30}
    looks = [
        look(runs(0, 1000, for_s, pod_uid=share), name=share, shareIdentifier=share)
        for share, for_s in share_of.items()
    ]
    limits = {"red": Source("red", 0), "blue": Source("blue", 9000), "green": Source("green", 0)}
    found = preempt(
        blocked(1000), "urgent", Victims(looks, {}, NOW), lambda one, *_: limits[one.share or ""], 0
    )

    assert found is not None
    assert [one.pod.pod_uid for one in found.stops] == ["blue"]


SPARED: dict[str, tuple[Evaluation, dict[str, Any]]] = {
    "nobody has to make room": (look(runs(0, 1000, 10)), {"source": None}),
    "it has run for less than it is granted": (look(runs(0, 1000, 59)), {"min_run_s": 60}),
    "it is being deleted already": (look(runs(0, 1000, 10, deleting=True)), {}),
    "its share would then be owed something": (
        look(runs(0, 1000, 10)),
        {"source": Source("share", 999)},
    ),
    "it has made room too often": (
        look(
            runs(0, 1000, 10),
            counted=Counted(IndexSet.range(1), preempted={REQUEUES_MAX: IndexSet.of([0])}),
        ),
        {},
    ),
    "its gang is still being put together": (
        look(attempt(Phase.UNBOUND, node_group=0, node_name=None, started_at=None)),
        {},
    ),
}


@pytest.mark.parametrize("name", SPARED)
def test_an_attempt_is_spared_when(name: str) -> None:
    spared, how = SPARED[name]

    assert stopped(room_for(blocked(1000), spared, **how)) == []


def test_nothing_is_stopped_for_what_can_never_fit() -> None:
    assert room_for(blocked(5000, max_vcpus=4), look(runs(0, 4000, 1))) is None


def test_nothing_is_stopped_for_a_job_that_waits_for_a_licence() -> None:
    asks = Blocked(
        "uid-urgent", Ask(1000, (("licence", 1),)), ((environment(), 0),), (("licence", 0),)
    )

    assert room_for(asks, look(runs(0, 1000, 1))) is None


SIZES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 50)), max_size=7)


@given(SIZES, st.integers(1, 12))
def test_room_is_made_whenever_it_can_be_and_nobody_is_stopped_in_vain(
    sizes: list[tuple[int, int]], wanted: int
) -> None:
    live = [runs(n, cpu * 1000, for_s) for n, (cpu, for_s) in enumerate(sizes)]
    chosen = stopped(room_for(blocked(wanted * 1000), look(*live)))
    enough = [
        those
        for count in range(1, len(sizes) + 1)
        for those in combinations(range(len(sizes)), count)
        if sum(sizes[n][0] for n in those) >= wanted
    ]

    assert bool(chosen) == bool(enough)
    for left_out in chosen:
        rest = sum(sizes[n][0] for n in chosen if n != left_out)
        assert rest < wanted
