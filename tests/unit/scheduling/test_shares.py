"""Fair share: what use is worth after a time, whose weight is what, and who is served next."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.scheduling_policy import FairsharePolicy
from batch_operator.scheduling.shares import (
    EPOCH_HALF_LIVES,
    Charge,
    FairStanding,
    Scale,
    ShareBook,
    Usage,
    decayed,
    half_life_s,
    overlap,
    usable_part,
    usage_of_run,
    weights,
)
from batch_operator.scheduling.walk import MANY
from support.builders import START

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

HALF_LIFE = 300.0
MEAN_LIFE = 432.8085  # 300 s / ln 2
HORIZON_S = int(HALF_LIFE * EPOCH_HALF_LIVES)


def policy(distribution: Mapping[str, float] | None = None, **fields: int) -> FairsharePolicy:
    listed = [
        {"shareIdentifier": name, "weightFactor": weight}
        for name, weight in (distribution or {}).items()
    ]
    return FairsharePolicy.model_validate({"shareDistribution": listed, **fields})


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def book(
    charges: Mapping[str, Charge] | None = None, *, now: datetime = START, half_life: float = 300
) -> ShareBook:
    made = ShareBook({}).at(now, half_life)
    for uid, charge in (charges or {}).items():
        made.set(uid, charge)
    return made


def used(amount: float, at_s: float = 0, share: str = "a", **fields: object) -> Charge:
    return Charge(share, over=Usage(amount, after(at_s)), **{"is_open": False, **fields})  # type: ignore[arg-type]


# The curve


@pytest.mark.parametrize(
    ("window_s", "half_life"), [(0, 300), (1, 300), (600, 300), (3600, 1800), (604_800, 302_400)]
)
def test_the_half_life_is_half_the_window_and_a_window_is_600_s_at_least(
    window_s: int, half_life: float
) -> None:
    assert half_life_s(policy(shareDecaySeconds=window_s)) == half_life


@pytest.mark.parametrize(
    ("age_s", "left"),
    [(0, 1000), (30, 933.033), (150, 707.107), (300, 500), (600, 250), (900, 125), (3000, 0.977)],
)
def test_a_window_leaves_a_quarter(age_s: float, left: float) -> None:
    assert decayed(1000, age_s, HALF_LIFE) == pytest.approx(left, abs=0.001)


@pytest.mark.parametrize(
    ("held_s", "age_s", "vcpu_seconds"),
    [
        (0, 0, 0),
        (1, 0, 0.9988),
        (60, 0, 56.027),
        (300, 0, 216.404),  # half of 432.8085
        (600, 0, 324.606),  # three quarters
        (600, 300, 162.303),
        (86_400, 0, 432.809),  # all that a vCPU can ever be worth
    ],
)
def test_a_run_is_worth_the_sum_of_what_its_moments_are_worth(
    held_s: float, age_s: float, vcpu_seconds: float
) -> None:
    worth = usage_of_run(1000, held_s, age_s, HALF_LIFE) / 1000
    steps = 10_000
    summed = sum(
        decayed(held_s / steps, age_s + held_s * (step + 0.5) / steps, HALF_LIFE)
        for step in range(steps)
    )

    assert worth == pytest.approx(vcpu_seconds, abs=0.001)
    assert worth == pytest.approx(summed, rel=1e-4)


@given(st.floats(0, 1e9), st.integers(-5000, 5000), st.floats(0, 1e9), st.integers(-5000, 5000))
def test_usages_of_two_times_can_be_added_in_any_order(
    first: float, first_s: int, second: float, second_s: int
) -> None:
    one = Usage(first, after(first_s)).plus(second, after(second_s), HALF_LIFE)
    other = Usage(second, after(second_s)).plus(first, after(first_s), HALF_LIFE)
    later = max(first_s, second_s)
    expected = decayed(first, later - first_s, HALF_LIFE) + decayed(
        second, later - second_s, HALF_LIFE
    )

    assert one == other
    assert one.at == after(later)
    assert one.amount == pytest.approx(expected)


# The book


def test_what_is_over_decays_and_what_runs_grows() -> None:
    shares = book({"j": used(8000, -300, runs=((after(-300), 2000),), is_open=True)})

    assert shares.usage("a", START) == pytest.approx(4000 + 2000 * 0.5 * MEAN_LIFE)
    assert shares.usage("a", after(300)) == pytest.approx(2000 + 2000 * 0.75 * MEAN_LIFE)
    assert shares.usage("nobody", START) == 0


def test_a_run_and_the_same_run_when_it_is_over_are_worth_the_same() -> None:
    runs = book({"j": Charge("a", runs=((after(-250), 1500),))})
    over = book({"j": used(usage_of_run(1500, 250, 0, HALF_LIFE), 0)})

    assert runs.usage("a", START) == pytest.approx(over.usage("a", START), rel=1e-6)


def test_a_run_that_begins_a_second_from_now_counts_nothing() -> None:
    """Clocks differ: a node's may be ahead of ours."""
    assert book({"j": Charge("a", runs=((after(1), 1000),))}).usage("a", START) == 0


def test_going_back_a_second_changes_little_even_across_an_epoch() -> None:
    epoch = Scale.at(START, HALF_LIFE).epoch + 1
    begun = START + timedelta(seconds=epoch * HORIZON_S - START.timestamp())
    charge = Charge("a", Usage(1e6, begun), ((begun - timedelta(seconds=60), 1000),), 1000)
    shares = book({"j": charge}, now=begun)
    there = shares.usage("a", begun)
    back = shares.at(begun - timedelta(seconds=1), HALF_LIFE).usage("a", begun)

    assert shares.at(begun, HALF_LIFE).usage("a", begun) == there
    assert back == pytest.approx(there, rel=1e-6)


CHARGES = st.builds(
    lambda share, amount, at_s, runs, held, is_open: Charge(
        share,
        Usage(amount, after(at_s)) if amount else Usage(),
        tuple((after(since_s), milli_cpu) for since_s, milli_cpu in runs),
        held,
        is_open,
    ),
    st.sampled_from("abc"),
    st.just(0.0) | st.floats(1, 1e12),
    st.integers(-HORIZON_S + 1, 0),
    st.lists(st.tuples(st.integers(-100_000, 10), st.integers(1, 64_000)), max_size=3),
    st.integers(0, 64_000),
    st.booleans(),
)
STEPS = st.lists(st.tuples(st.sampled_from("123456"), st.none() | CHARGES), max_size=30)


def sums(shares: ShareBook, now: datetime) -> list[tuple[float, int, int]]:
    return [(shares.usage(one, now), shares.held[one], shares.open_jobs[one]) for one in "abc"]


@given(STEPS)
def test_whatever_came_in_between_the_sums_are_those_of_a_fresh_book(
    steps: list[tuple[str, Charge | None]],
) -> None:
    """To the last bit: adding and taking away is exact."""
    shares = book()
    for uid, charge in steps:
        shares.set(uid, charge)
    left = {uid: charge for uid, charge in dict(steps).items() if charge is not None}

    assert sums(shares, START) == sums(book(left), START)
    for uid in left:
        shares.set(uid, None)
    assert sums(shares, START) == [(0, 0, 0)] * 3


@given(STEPS, st.sampled_from((300.0, 1800.0)), st.integers(0, 100_000))
def test_a_book_that_has_lived_is_the_same_as_a_fresh_one(
    steps: list[tuple[str, Charge | None]], half_life: float, later_s: int
) -> None:
    """After the epoch has changed, or the policy's window."""
    shares = book()
    for uid, charge in steps:
        shares.set(uid, charge)
    shares.at(after(later_s), half_life)
    left = {uid: charge for uid, charge in dict(steps).items() if charge is not None}
    fresh = book(left, now=after(later_s), half_life=half_life)

    for mine, theirs in zip(sums(shares, after(later_s)), sums(fresh, after(later_s)), strict=True):
        assert mine == (pytest.approx(theirs[0], abs=0.001), *theirs[1:])


def test_a_year_of_epochs_keeps_what_still_counts() -> None:
    shares = book({"j": Charge("a", runs=((START, 1000),), held=1000)})
    for day in range(366):
        shares.at(after(86_400 * day), HALF_LIFE)

    assert shares.usage("a", after(86_400 * 365)) == pytest.approx(1000 * MEAN_LIFE)
    assert shares.held["a"] == 1000


# Jobs that exist no more


def test_the_usage_of_a_deleted_job_goes_on_counting() -> None:
    shares = book({"j": used(8000), "other": used(1000)})

    assert shares.delete("j", after(300))
    assert shares.usage("a", after(300)) == pytest.approx(4000 + 500)
    assert shares.delete("other", after(300))
    assert shares.usage("a", after(300)) == pytest.approx(4000 + 500)


def test_deleting_a_job_that_runs_does_not_wipe_out_what_it_has_used() -> None:
    shares = book({"j": Charge("a", runs=((after(-300), 2000),), held=2000)})

    assert shares.delete("j", START)
    assert shares.usage("a", START) == pytest.approx(1000 * MEAN_LIFE, rel=1e-5)
    assert (shares.held["a"], shares.open_jobs["a"]) == (0, 0)


def test_a_job_that_never_ran_leaves_nothing() -> None:
    shares = book({"j": Charge("a", held=1000)})

    assert not shares.delete("j", START)
    assert not shares.delete("j", START)
    assert not shares.delete("unknown", START)
    assert shares.deleted == {}


def test_deleted_usage_is_kept_as_it_is_stored() -> None:
    """A restart reads it back rounded; it must not make a difference."""
    shares = book({f"j{n}": used(1000 / 3, -n) for n in range(3)})
    for number in range(3):
        shares.delete(f"j{number}", START)

    assert shares.deleted["a"].amount == round(shares.deleted["a"].amount)


@pytest.mark.parametrize(
    ("amount", "age_s", "is_kept"),
    [(1, 599, True), (1, 600, False), (5000, 600, True), (3999, 600, False), (5000, 700, False)],
)
def test_deleted_usage_is_forgotten_after_a_window_once_it_is_worth_nothing(
    amount: float, age_s: float, *, is_kept: bool
) -> None:
    shares = ShareBook({"a": Usage(amount, START)}).at(START, HALF_LIFE)
    shares.prune(after(age_s))

    assert ("a" in shares.deleted) is is_kept


# Active shares


def test_a_share_is_active_with_a_job_that_is_not_over_or_for_a_window_after_its_last() -> None:
    shares = book({"1": Charge("open"), "2": used(5, -100, "recent"), "3": used(5, -600, "past")})

    assert shares.active(START) == ["open", "recent"]
    assert shares.active(after(499)) == ["open", "recent"]
    assert shares.active(after(500)) == ["open"]


def test_a_share_stays_active_for_a_window_though_its_jobs_are_deleted() -> None:
    shares = book({"1": used(5, -100, "recent"), "2": Charge("open")})
    shares.delete("1", START)
    shares.delete("2", START)
    restarted = ShareBook(shares.deleted).at(START, HALF_LIFE)

    for one in (shares, restarted):
        assert one.active(START) == ["recent"]
        assert one.active(after(500)) == []


# Weights


@pytest.mark.parametrize(
    ("distribution", "active", "expected"),
    [
        ({}, ["a", "b"], {"a": 1, "b": 1}),
        ({"a": 0.5}, ["a", "b"], {"a": 0.5, "b": 1}),
        ({"u*": 1}, ["u1", "u2", "b"], {"u1": 2, "u2": 2, "b": 1}),
        ({"u*": 0.2}, [f"u{n}" for n in range(5)], {f"u{n}": 1.0 for n in range(5)}),
        ({"u*": 3, "a": 0.0001}, ["a", "u"], {"a": 0.0001, "u": 3}),
        ({"u*": 3, "v*": 999.9999}, ["v1"], {"v1": 999.9999}),
        ({"u*": 3, "team-*": 5}, ["u", "team"], {"u": 3, "team": 1}),
    ],
)
def test_weights(
    distribution: Mapping[str, float], active: list[str], expected: Mapping[str, float]
) -> None:
    assert weights(policy(distribution), active) == pytest.approx(expected)


def test_weights_follow_the_policy_and_who_is_active() -> None:
    shares, first, second = book(), policy({"u*": 1}), policy({"u*": 5})

    assert shares.weights(first, ["u1"]) == {"u1": 1}
    assert shares.weights(first, ["u1", "u2"]) == {"u1": 2, "u2": 2}
    assert shares.weights(second, ["u1", "u2"]) == {"u1": 10, "u2": 10}


@pytest.mark.parametrize(
    "names",
    [("UserA*", "UserA1"), ("UserA*", "UserA"), ("A*", "AB*"), ("AB*", "A*"), ("x", "A*", "ABC*")],
)
def test_entries_that_overlap_are_found(names: tuple[str, ...]) -> None:
    found = overlap(policy(dict.fromkeys(names, 1.0)).share_distribution)

    assert found is not None
    assert set(found) == set(names) - {"x"}


@pytest.mark.parametrize(
    "names", [(), ("A",), ("A*",), ("A", "AB"), ("A*", "B*", "CA"), ("A*", "a")]
)
def test_entries_that_do_not_overlap(names: tuple[str, ...]) -> None:
    assert overlap(policy(dict.fromkeys(names, 1.0)).share_distribution) is None


@pytest.mark.parametrize(
    ("reservation", "kept"),
    [(0, [0, 0, 0]), (50, [0.5, 0.25, 0.125]), (90, [0.9, 0.81, 0.729]), (99, [0.99, 0.9801])],
)
def test_what_is_kept_for_shares_that_are_not_active(reservation: int, kept: list[float]) -> None:
    """AWS: (computeReservation/100) ^ active shares."""
    one = policy(computeReservation=reservation)

    assert [1 - usable_part(one, count) for count in range(1, len(kept) + 1)] == pytest.approx(kept)
    assert usable_part(one, 0) == usable_part(one, 1)


# Who is served next


def standing(
    charges: Mapping[str, Charge], distribution: Mapping[str, float] | None = None
) -> FairStanding:
    return FairStanding(book(charges), policy(distribution), START)


def test_who_has_used_less_by_weight_is_served_first() -> None:
    stand = standing(
        {"1": used(3000, 0, "a"), "2": used(1000, 0, "b"), "3": used(4000, 0, "c")}, {"c": 0.1}
    )

    assert sorted("abcd", key=stand.rank) == ["d", "c", "b", "a"]


def test_what_a_share_holds_counts_as_a_quarter_of_what_it_would_come_to() -> None:
    stand = standing({"1": Charge("a", held=2000), "2": used(500_000, 0, "b")}, {"a": 0.5})

    assert stand.rank("a") == pytest.approx(1000 * MEAN_LIFE / 4)
    stand.take("a", 500)
    assert stand.rank("a") == pytest.approx(1250 * MEAN_LIFE / 4)
    assert stand.rank("b") == pytest.approx(500_000)


WEIGHTS = st.sampled_from((0.0001, 0.125, 0.3, 1.0, 3.0, 999.9999))


@given(
    st.sampled_from((1, 100, 250, 333, 1000, 4000, 96_000)),
    WEIGHTS,
    WEIGHTS,
    st.integers(0, 500),
    st.integers(0, 500),
    st.just(0.0) | st.floats(0, 1e12),
)
def test_a_share_is_served_until_it_stands_behind_the_next(
    milli_cpu: int, weight: float, other_weight: float, mine: int, theirs: int, past: float
) -> None:
    """Exactly so long: with one start less it still stands before it."""
    charges = {"1": Charge("a", held=mine * milli_cpu), "2": used(past, 0, "b")}
    charges["3"] = Charge("b", held=theirs * milli_cpu)
    distribution = {"a": weight, "b": other_weight}
    other = standing(charges, distribution).rank("b")
    count = standing(charges, distribution).served_before("a", milli_cpu, other)
    less, enough = standing(charges, distribution), standing(charges, distribution)
    less.take("a", (count - 1) * milli_cpu)
    enough.take("a", count * milli_cpu)

    assert 1 <= count <= MANY
    assert count == 1 or less.rank("a") < other
    assert count == MANY or enough.rank("a") >= other or math.isclose(enough.rank("a"), other)
