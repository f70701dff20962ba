"""What a pool's history counts, how it fades, and how long a refusal keeps the pool alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from batch_operator.api.compute_environment import ComputeEnvironmentStatus
from batch_operator.provisioning.history import (
    BACK_OFF_MAX,
    History,
    decayed,
    has_never_worked,
    histories_of,
    rows_of,
)
from support.environments import NOON, at, pool, space

HOUR = 3600


@pytest.mark.parametrize(
    ("hours", "left"),
    [(0, 8), (6, 4), (12, 2), (24, 0.5), (3, 8 * 0.5**0.5), (48, 0)],
)
def test_a_count_halves_every_six_hours_until_it_is_forgotten(hours: float, left: float) -> None:
    assert decayed(8, NOON, at(hours * HOUR)) == pytest.approx(left)


def test_a_clock_that_goes_back_makes_nothing_count_more() -> None:
    assert decayed(1, NOON, at(-HOUR)) == 1


def test_risk_is_refusals_and_interruptions_as_they_are_worth_now() -> None:
    history = History().refused(NOON, "none left").interrupted(at(6 * HOUR), times=2)

    assert history.risk(at(12 * HOUR)) == 0.25 + 1


def test_each_refusal_in_a_row_doubles_the_time_that_the_pool_is_left_alone() -> None:
    history, waits = History(), []
    for number in range(7):
        history = history.refused(at(number * HOUR), "none left")
        assert history.refused_until is not None
        waits.append(history.refused_until - at(number * HOUR))

    assert [wait.total_seconds() for wait in waits] == [30, 60, 120, 240, 480, 900, 900]
    assert waits[-1] == BACK_OFF_MAX


def test_a_pool_is_refused_until_its_time_is_over() -> None:
    history = History().refused(NOON, "none left")

    assert history.is_refused(at(29.9))
    assert not history.is_refused(at(30))


def test_a_clock_that_is_set_back_leaves_no_pool_alone_for_longer() -> None:
    history = History().refused(NOON, "none left")

    assert history.is_refused(at(-800))
    assert not history.is_refused(at(-HOUR))


def test_a_node_made_after_the_refusal_ends_it_and_the_row() -> None:
    refused = History().refused(NOON, "none left").refused(at(30), "none left")
    came = refused.became_ready(at(40), 20)

    assert not came.is_refused(at(60))
    assert came.message == ""
    assert came.refused(at(100), "none left").refused_until == at(130)
    assert came.risk(at(100)) > 1.9  # that it happened is remembered all the same


@pytest.mark.parametrize("created_s", [-1, 0])
def test_a_node_made_before_the_refusal_says_nothing_about_it(created_s: int) -> None:
    """A pool gave three of ten nodes: that these become ready does not mean that it has more."""
    came = History().refused(NOON, "none left").became_ready(at(created_s), 20)

    assert came.is_refused(at(20))
    assert came.refused_in_a_row == 1


def test_of_how_long_nodes_take_the_last_weighs_half() -> None:
    history = History().became_ready(NOON, 100).became_ready(at(60), 50)

    assert history.ready_seconds == 75


def test_only_a_node_made_later_than_the_newest_that_came_is_news() -> None:
    """So a node that loses touch for a moment, days later, does not count as one that took days."""
    history = History().became_ready(NOON, 100)

    assert not history.is_news(NOON)
    assert history.is_news(at(1))


@pytest.mark.parametrize(
    ("ready_seconds", "patience_s"), [(None, 600), (60, 600), (120, 600), (300, 1500)]
)
def test_a_node_is_waited_for_ten_minutes_or_five_times_as_long_as_usual(
    ready_seconds: int | None, patience_s: int
) -> None:
    assert History(ready_seconds=ready_seconds).patience == timedelta(seconds=patience_s)


def test_an_order_of_which_nothing_comes_is_as_good_as_a_refusal() -> None:
    history = History().overdue(NOON)

    assert history.refused_until == at(30)
    assert history.message == "no node of it became ready within 600 s"
    assert history.risk(NOON) == 1
    assert (history.overdue_at, history.became_ready(at(1), 5).overdue_at) == (NOON, None)


def test_an_environment_has_never_worked_if_orders_ran_out_and_no_node_ever_came() -> None:
    overdue, came = History().overdue(NOON), History().became_ready(NOON, 5)

    assert has_never_worked({pool("a"): overdue, pool("b"): History()})
    assert not has_never_worked({pool("a"): overdue, pool("b"): came})
    assert not has_never_worked({pool("a"): overdue.became_ready(at(60), 5)})
    assert not has_never_worked({pool("a"): History().refused(NOON, "none left")})
    assert not has_never_worked({})


def test_a_status_remembers_all_of_it() -> None:
    """To the last digit: a restarted operator decides as the one before it would have."""
    late = NOON + timedelta(microseconds=654_321)
    full = (
        History(allocatable=space(3.92, 62, gpus=1, pods=29))
        .became_ready(NOON - timedelta(hours=1), 41)
        .refused(late, "none left")
        .interrupted(late)
        .overdue(late + timedelta(hours=1))
        .interrupted(late + timedelta(hours=5))
        .waits(late, is_awaited=True)
    )
    rows = rows_of({pool(): full}, {pool(): 3}, {}, [pool()], NOON)
    status = ComputeEnvironmentStatus(pools=rows)
    read = ComputeEnvironmentStatus.model_validate_json(status.model_dump_json(by_alias=True))

    assert histories_of(read) == {pool(): full}


def test_a_pool_of_which_there_is_nothing_to_say_has_no_row() -> None:
    order = [pool("a"), pool("b"), pool("c"), pool("d")]
    histories = {
        pool("a"): History(refusals=1, refused_at=NOON - timedelta(days=9)),
        pool("b"): History().interrupted(NOON),
    }
    rows = rows_of(histories, {pool("c"): 1}, {}, order, NOON)

    assert [one.instance_type for one in rows] == ["b", "c"]
