"""Budgets: what is spent in a window, what then holds for starts, and when it is over.

As in `test_costs`: a vCPU for a second costs a quarter of a thousandth, so four for 1,000 s cost 1.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batch_operator.api import meta
from batch_operator.api.cost import BudgetWindow
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.budgets import Window
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.mutations import StartAttempt
from support.builders import START, job, queue, scheduling_policy
from support.priced import PricedWorld

MIDNIGHT = START + timedelta(days=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "now", "first", "count", "ends"),
    [
        (BudgetWindow.DAY, "2026-01-01T00:00:00", "2026-01-01", 1, "2026-01-02"),
        (BudgetWindow.DAY, "2026-01-01T23:59:59", "2026-01-01", 1, "2026-01-02"),
        (BudgetWindow.WEEK, "2026-01-04T23:59:59", "2025-12-29", 7, "2026-01-05"),
        (BudgetWindow.WEEK, "2026-01-05T00:00:00", "2026-01-05", 1, "2026-01-12"),
        (BudgetWindow.MONTH, "2026-01-31T23:59:59", "2026-01-01", 31, "2026-02-01"),
        (BudgetWindow.MONTH, "2028-02-29T12:00:00", "2028-02-01", 29, "2028-03-01"),
        (BudgetWindow.MONTH, "2026-12-02T00:00:00", "2026-12-01", 2, "2027-01-01"),
    ],
)
def test_windows_are_of_the_calendar(
    kind: BudgetWindow, now: str, first: str, count: int, ends: str
) -> None:
    window = Window.at(kind, at(now))

    assert (window.days[0], len(window.days)) == (first, count)
    assert window.days[-1] == now[:10]
    assert window.ends_at == at(ends)


def test_a_window_is_reckoned_once_a_day_however_many_budgets_have_it() -> None:
    morning, night = at("2026-03-18 00:00"), at("2026-03-18 23:59")

    assert Window.at(BudgetWindow.MONTH, morning) is Window.at(BudgetWindow.MONTH, night)


def budget(action: str = "HOLD", amount: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {"name": "b", "amount": amount, "window": "DAY", "action": action, **fields}


def world(*budgets: dict[str, Any], spec: dict[str, Any] | None = None) -> PricedWorld:
    """With a node on demand, `a`, and queue `main` with these budgets."""
    found = PricedWorld(**(spec or {}))
    shares = any("shareIdentifier" in one for one in budgets)
    found.policies = [scheduling_policy()]
    fair = {"schedulingPolicy": "fair"} if shares else {}
    found.queues = [queue(budgets=list(budgets), **fair)]
    found.restart()
    found.settle()
    found.add_node("a")
    return found


def spend(those: PricedWorld, units: float, name: str = "first", **spec: Any) -> None:
    """One job, alone on a quarter of a node, until it has cost so much."""
    those.submit(job(name, **spec))
    those.settle()
    those.bind()
    those.tick(units * 4000)
    those.end()


def submit(those: PricedWorld, name: str = "next", **spec: Any) -> None:
    those.submit(job(name, **spec))
    those.settle()


def pending(those: PricedWorld, name: str = "next") -> tuple[str, str]:
    found = next(one for one in those.jobs.values() if one.name == name).status.pending
    assert found is not None
    return found.reason, found.message


def wake_at(those: PricedWorld) -> datetime | None:
    return run_cycle(those.cache.snapshot(those.now, Policy(), 1000), those.memo).wake_at


@pytest.mark.parametrize(
    ("units", "reason"), [(0.9, "WaitingForNode"), (1.0, "BudgetSpent"), (1.1, "BudgetSpent")]
)
def test_nothing_starts_once_a_budget_is_spent(units: float, reason: str) -> None:
    those = world(budget())
    spend(those, units)
    submit(those)

    assert pending(those)[0] == reason


def test_a_held_job_says_how_much_is_spent_and_when_it_goes_on() -> None:
    those = world(budget())
    spend(those, 1.25)
    submit(those)
    found = those.jobs["uid-next"].status

    assert found.state == "RUNNABLE"
    assert pending(those)[1] == (
        "JobQueue main: budget b is spent: 1.25 of 1.00 in the day that ends at 2026-01-02 00:00Z; "
        "nothing starts before that"
    )
    assert found.pending is not None
    assert found.pending.next_look_at == MIDNIGHT
    assert wake_at(those) == MIDNIGHT


@pytest.mark.parametrize("is_restarted", [False, True], ids=["same operator", "restarted"])
def test_it_goes_on_when_the_window_ends(*, is_restarted: bool) -> None:
    those = world(budget())
    spend(those, 1.0)
    submit(those)
    those.now = MIDNIGHT - timedelta(seconds=1)
    if is_restarted:
        those.restart()
    those.settle()
    before = len(those.starts)
    those.now = MIDNIGHT
    those.settle()

    assert before == 1
    assert [name for name, *_ in those.starts] == ["first", "next"]


def test_what_runs_counts_as_it_goes_and_is_never_stopped() -> None:
    those = world(budget(amount=0.1))
    submit(those, "long")
    those.bind()
    those.tick(399)
    submit(those, "in-time")
    ends_at = wake_at(those)
    those.tick(1)
    those.settle()
    submit(those, "late")

    assert ends_at == those.now
    assert [name for name, *_ in those.starts] == ["long", "in-time"]
    assert those.state("long") == "RUNNING"
    assert pending(those, "late")[0] == "BudgetSpent"


def test_a_budget_that_lasts_for_longer_than_its_window_is_looked_at_when_that_ends() -> None:
    """What runs would need millions of years to spend it: no calendar goes so far."""
    those = world(budget(amount=1e12))
    submit(those, "long")
    those.bind()

    assert wake_at(those) == MIDNIGHT


def test_what_ends_after_midnight_is_paid_on_the_new_day() -> None:
    those = world(budget(amount=10))
    those.now = MIDNIGHT - timedelta(seconds=40_000)
    submit(those, "long")
    those.bind()
    those.now = MIDNIGHT + timedelta(seconds=8)
    those.end()
    submit(those)

    assert pending(those)[0] == "BudgetSpent"
    assert those.queues[0].status.budgets[0].spent == "10.002"


def test_what_is_set_aside_for_a_budget_does_not_start_in_the_cycle_that_finds_it_spent() -> None:
    """It waits for room until the moment in which the budget is spent and the room is there."""
    those = world(budget(amount=0.1), spec={"max_vcpus": 1})
    submit(those, "long")
    those.bind()
    submit(those)
    those.tick(400)
    those.end()

    assert [name for name, *_ in those.starts] == ["long"]
    assert pending(those)[0] == "BudgetSpent"


def test_a_raised_budget_lets_them_go_on() -> None:
    those = world(budget())
    spend(those, 1.0)
    submit(those)
    spec = queue(budgets=[budget(amount=2)]).spec
    those.queues = [replace(those.queues[0], spec=spec, generation=2, resource_version=10**6)]
    those.cache.queues.upsert(those.queues[0])
    those.settle()

    assert [name for name, *_ in those.starts] == ["first", "next"]


def test_a_budget_of_a_share_is_for_that_share_alone() -> None:
    those = world(budget(shareIdentifier="red"))
    spend(those, 1.0, shareIdentifier="red")
    submit(those, "red", shareIdentifier="red")
    submit(those, "blue", shareIdentifier="blue")

    assert pending(those, "red")[0] == "BudgetSpent"
    assert "budget b of share red is spent" in pending(those, "red")[1]
    assert [name for name, *_ in those.starts] == ["first", "blue"]


def test_what_deleted_jobs_have_spent_stays_spent() -> None:
    those = world(budget())
    spend(those, 1.0)
    those.delete("first")
    those.restart()
    submit(those)

    assert pending(those)[0] == "BudgetSpent"


def test_to_be_told_is_a_condition_and_a_row_of_the_queue() -> None:
    those = world(budget("NOTIFY"))
    spend(those, 1.0)
    submit(those)
    status = those.queues[0].status
    told = [one for one in status.conditions if one.type == "BudgetSpent"]

    assert [(one.reason, one.message) for one in told] == [("BudgetSpent", "see status.budgets: b")]
    assert [(one.spent, one.amount, one.exceeded) for one in status.budgets] == [
        ("1.00", "1.00", True)
    ]
    assert [name for name, *_ in those.starts] == ["first", "next"]
    those.now = MIDNIGHT
    those.settle()
    assert "BudgetSpent" not in {one.type for one in those.queues[0].status.conditions}


def _selector(those: PricedWorld, name: str) -> str | None:
    starts = [one for one in those.started if one.job.name == name]
    assert isinstance(starts[-1], StartAttempt)
    return starts[-1].node_selector.get(meta.LABEL_CAPACITY_TYPE)


def test_spot_only_lets_jobs_have_spot_nodes_only() -> None:
    those = world(budget("SPOT_ONLY"))
    spend(those, 1.0)
    submit(those)

    assert _selector(those, "first") is None
    assert _selector(those, "next") == "spot"


def test_spot_only_stands_above_a_job_s_own_rule_to_leave_spot() -> None:
    retry = {"attempts": 3, "onHostLost": {"moveToOnDemandAfter": 1}}
    those = world(budget("SPOT_ONLY"))
    spend(those, 1.0)
    submit(those, retryStrategy=retry)
    those.bind()
    those.end(Phase.FAILED, status_reason="Host EC2 (instance a) terminated.")

    assert _selector(those, "next") == "spot"


def test_spot_only_holds_where_there_is_no_spot() -> None:
    those = world(budget("SPOT_ONLY"), spec={"capacityTypes": []})
    spend(those, 1.0)
    submit(those)

    assert pending(those)[0] == "BudgetSpent"
    assert "none of its environments has" in pending(those)[1]


def test_a_spent_budget_that_nothing_waits_for_costs_no_write() -> None:
    those = world(budget())
    spend(those, 1.0)
    submit(those)
    before = those.writes
    for _ in range(3):
        those.tick(3600)
        those.restart()
        those.settle()

    assert those.writes == before
