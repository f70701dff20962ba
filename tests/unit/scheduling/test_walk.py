"""The order in which lots are tried, against a model that looks at all of them every time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.index_set import IndexSet
from batch_operator.scheduling.backlog import FIRST_TRY, RETRY, Ask, Backlog, Lot
from batch_operator.scheduling.walk import MANY, PASSED_MAX, Equal, Walk
from support.builders import START

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_operator.scheduling.backlog import Place

ASKS = [Ask(milli_cpu) for milli_cpu in (1000, 2000, 3000)]


class Ranks:
    """A standing in which whoever starts something falls behind by its milli-CPU."""

    def __init__(self, ranks: dict[str, float]) -> None:
        self.ranks = dict(ranks)

    def rank(self, share: str) -> float:
        return self.ranks[share]

    def take(self, share: str, milli_cpu: int) -> None:
        self.ranks[share] += milli_cpu

    def served_before(self, share: str, milli_cpu: int, other: float) -> int:
        return max(1, int((other - self.ranks[share]) // milli_cpu))


@dataclass
class Model:
    """All lots; what was said about them; and who is next, found by looking at each."""

    lots: Sequence[Lot]
    ranks: Ranks
    fits: set[Ask]
    passed: set[Ask] = field(default_factory=set)
    over: set[Place] = field(default_factory=set)
    taken: dict[Place, list[int]] = field(default_factory=dict)

    def next(self) -> Lot | None:
        left = [one for one in self.lots if one.place not in self.over and self._may(one)]
        return min(
            left, key=lambda one: (self.ranks.rank(one.share), one.share, one.place), default=None
        )

    def leave_out(self, lot: Lot, but_for: set[str]) -> None:
        alike = (one for one in self.lots if (one.share, one.ask) == (lot.share, lot.ask))
        self.over.update(one.place for one in alike if one.uid not in but_for)
        self.over.add(lot.place)

    def _may(self, lot: Lot) -> bool:
        return not self.passed or (lot.ask not in self.passed and lot.ask in self.fits)


@st.composite
def waiting(draw: st.DrawFn, shares: Sequence[str]) -> list[Lot]:
    """Lots of a few jobs, of which some wait in two places."""
    lots = []
    for number in range(draw(st.integers(0, 12))):
        share, ask = draw(st.sampled_from(shares)), draw(st.sampled_from(ASKS))
        submitted = START + timedelta(seconds=draw(st.integers(0, 3)))
        priority = draw(st.integers(0, 1))
        for rank in draw(st.sampled_from([(RETRY,), (FIRST_TRY,), (RETRY, FIRST_TRY)])):
            place = (rank, -priority, submitted, f"uid-{number}", 0)
            indexes = IndexSet.of(draw(st.sets(st.integers(0, 9), min_size=1, max_size=4)))
            lots.append(Lot(place, ask, indexes, share))
    return lots


def backlog_of(lots: Iterable[Lot]) -> Backlog:
    backlog, by_job = Backlog(), dict[str, list[Lot]]()
    for one in lots:
        by_job.setdefault(one.uid, []).append(one)
    for uid, own in by_job.items():
        backlog.set(uid, own)
    return backlog


def drained(walk: Walk) -> list[Lot]:
    found = []
    while (lot := walk.next()) is not None:
        found.append(lot)
        walk.done(lot)
    return found


@given(waiting([""]))
def test_one_line_is_walked_from_its_front_to_its_back(lots: list[Lot]) -> None:
    assert drained(Walk(backlog_of(lots), Equal())) == sorted(lots, key=lambda one: one.place)


STEPS = st.lists(
    st.sampled_from(["take", "take", "done", "leave out", "pass over", "fill"]), max_size=40
)


def test_of_a_class_that_is_left_out_none_comes_back_behind_one_that_is_not() -> None:
    lots = [
        Lot((FIRST_TRY, 0, START, f"uid-{number}", 0), ASKS[0], IndexSet(1)) for number in range(4)
    ]
    walk = Walk(backlog_of(lots), Equal())
    walk.leave_out(lots[0], [{"uid-2"}])

    assert drained(walk) == [lots[2]]


@given(waiting(["a", "b", "c"]), STEPS, st.data())
def test_every_lot_is_the_one_that_a_look_at_all_of_them_finds(
    lots: list[Lot], steps: list[str], data: st.DataObject
) -> None:
    """Whatever is started, refused, left out or used up on the way, each lot once and in order.

    What could fit is asked for only once something was passed over, and becomes less all the time.
    Who is not left out with its class is so for good.
    A lot that was taken in part and is met again goes on where it was left.
    """
    start = {share: float(data.draw(st.integers(0, 3000))) for share in "abc"}
    model = Model(lots, Ranks(start), set(ASKS))
    spared: dict[tuple[str, Ask], set[str]] = {}
    walk = Walk(backlog_of(lots), Ranks(start))
    for step in steps:
        expected = model.next()
        assert walk.next() == expected
        if expected is None:
            return
        if step == "fill":
            model.fits.discard(data.draw(st.sampled_from(ASKS)))
        elif step == "done":
            model.over.add(expected.place)
            walk.done(expected)
        elif step == "leave out":
            kind = expected.share, expected.ask
            if kind not in spared:
                spared[kind] = data.draw(st.sets(st.sampled_from([one.uid for one in lots])))
            but_for = spared[kind]
            model.leave_out(expected, but_for)
            walk.leave_out(expected, [but_for] if but_for else [])
        elif step == "pass over":
            model.passed.add(expected.ask)
            walk.pass_over(expected, model.fits.__contains__)
        else:
            known = model.taken.setdefault(expected.place, [])
            assert walk.taken(expected) == len(known)
            known += walk.indexes(expected, data.draw(st.integers(1, 2)), IndexSet())
            assert known == sorted(expected.indexes)[: len(known)]
            walk.started(expected, 1)
            model.ranks.take(expected.share, expected.ask.milli_cpu)


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)), st.integers(1, 5))
def test_a_lot_gives_those_that_go_first_before_the_others(
    indexes: set[int], first: set[int], step: int
) -> None:
    lot = Lot((FIRST_TRY, 0, START, "uid", 0), ASKS[0], IndexSet.of(indexes))
    walk = Walk(backlog_of([lot]), Equal())
    found: list[int] = []
    while len(found) < len(indexes):
        found += walk.indexes(lot, step, IndexSet.of(first))

    assert found == [*sorted(indexes & first), *sorted(indexes - first)]


def lot_of(share: str) -> Lot:
    return Lot((FIRST_TRY, 0, START, f"uid-{share}", 0), ASKS[0], share=share)


def test_a_share_has_its_turn_until_it_stands_behind_the_next() -> None:
    lots = [lot_of(share) for share in "abc"]
    walk = Walk(backlog_of(lots), Ranks({"a": 0.0, "b": 5000.0, "c": 3000.0}))

    assert walk.next() == lots[0]
    assert walk.chunk(lots[0]) == 3


def test_the_only_share_is_not_interrupted() -> None:
    walk = Walk(backlog_of([lot_of("a")]), Ranks({"a": 0.0}))

    assert walk.chunk(lot_of("a")) == MANY


def test_a_class_that_is_left_out_costs_one_step_however_many_are_in_it() -> None:
    lots = [
        Lot((FIRST_TRY, 0, START, f"uid-{number:03}", 0), ASKS[number % 3]) for number in range(99)
    ]
    walk = Walk(backlog_of(lots), Equal())
    tried = []
    while (lot := walk.next()) is not None:
        tried.append(lot)
        walk.leave_out(lot)

    assert tried == lots[:3]


def test_so_many_classes_are_passed_over_and_no_more() -> None:
    lots = [
        Lot((FIRST_TRY, 0, START, f"uid-{number:03}", 0), Ask(1000, timeout_s=60 + number))
        for number in range(PASSED_MAX + 1)
    ]
    walk = Walk(backlog_of(lots), Equal())
    tried = []
    while (lot := walk.next()) is not None:
        tried.append(lot)
        walk.pass_over(lot, lambda _: True)

    assert tried == lots[:PASSED_MAX]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 5))
def test_the_shares_whose_turn_it_is_are_those_of_the_lowest_ranks(
    ranks: list[int], count: int
) -> None:
    """Those of them whose lots have all been tried are not among them."""
    standing = {f"s{number:02}": float(rank) for number, rank in enumerate(ranks)}
    walk = Walk(backlog_of([lot_of(share) for share in standing]), Ranks(standing))
    in_order = sorted(standing, key=lambda share: (standing[share], share))
    first = walk.next()
    assert first is not None

    assert walk.turns(count) == tuple(in_order[:count])
    walk.done(first)
    assert walk.turns(count) == tuple(in_order[1 : count + 1])
