"""Budgets of queues and shares: what is spent in their windows, and what follows for starts.

Spent in a window is what attempts cost that ended in it, and what those have cost so far that run,
for if they ended now it would be paid now. It follows from the ledger, so a restart finds the same.
A job is never stopped for money: a budget can be exceeded by what runs when it is spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from batch_operator.api.common import ConditionStatus
from batch_operator.api.cost import (
    MICROS,
    Budget,
    BudgetAction,
    BudgetStatus,
    BudgetWindow,
    QueueCost,
    money,
)
from batch_operator.lifecycle.holds import Hold, Reason
from batch_operator.provisioning.prices import seconds_until
from batch_operator.scheduling.environments import has_spot, usable_environments
from batch_operator.scheduling.faults import kept_away

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batch_operator.scheduling.conditions import Wanted
    from batch_operator.scheduling.faults import Fault
    from batch_operator.scheduling.ledger import Ledger
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Queue, Snapshot

SPENT = "BudgetSpent"
"""The condition on a queue; the reason of the jobs that it holds is the same."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the calendar (UTC): its days until today, and when it ends."""

    days: tuple[str, ...]
    ends_at: datetime

    @classmethod
    def at(cls, kind: BudgetWindow, now: datetime) -> Window:
        return cls.of(kind, now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0))

    @classmethod
    @lru_cache(maxsize=len(BudgetWindow))
    def of(cls, kind: BudgetWindow, today: datetime) -> Window:
        """The same for all budgets, most of whose cost it was."""
        match kind:
            case BudgetWindow.DAY:
                begins, ends = today, today + timedelta(days=1)
            case BudgetWindow.WEEK:
                begins = today - timedelta(days=today.weekday())
                ends = begins + timedelta(days=7)
            case BudgetWindow.MONTH:
                begins = today.replace(day=1)
                ends = (begins + timedelta(days=31)).replace(day=1)
        count = (today - begins).days + 1
        days = (begins + timedelta(days=number) for number in range(count))
        return cls(tuple(one.date().isoformat() for one in days), ends)


@dataclass(frozen=True, slots=True)
class Spent:
    """How a budget stands at a time.

    `look_again_at` is when what runs will have spent it, or the end of its window if that is first.
    """

    budget: Budget
    amount: int
    spent: int
    ends_at: datetime
    look_again_at: datetime | None

    @property
    def exceeded(self) -> bool:
        return self.spent >= self.amount

    def concerns(self, share: str | None) -> bool:
        return self.exceeded and self.budget.share_identifier in {None, share}

    def __str__(self) -> str:
        share = self.budget.share_identifier
        whose = f" of share {share}" if share else ""
        return (
            f"budget {self.budget.name}{whose} is spent: {money(self.spent)} of "
            f"{money(self.amount)} in the {self.budget.window.lower()} that ends at "
            f"{self.ends_at:%Y-%m-%d %H:%M}Z"
        )


def spent_of(budget: Budget, queue: str, ledger: Ledger, now: datetime) -> Spent:
    """How a budget stands now."""
    window = Window.at(budget.window, now)
    account = ledger.account(queue, budget.share_identifier)
    amount, spent = round(budget.amount * MICROS), account.spent(window.days, now)
    left_s = seconds_until(amount - spent, account.runs.rate)
    window_s = (window.ends_at - now).total_seconds()
    again_at = None if left_s is None else now + timedelta(seconds=min(left_s, window_s))
    return Spent(budget, amount, spent, window.ends_at, again_at)


def review(snapshot: Snapshot, memo: Memo, faults: list[Fault]) -> set[str]:
    """See how all budgets stand; then, the jobs for which something else holds from now on."""
    turned: set[str] = set()
    for name in sorted(memo.ledger.spent.keys() | snapshot.queues.keys()):
        with kept_away(f"the budgets of queue {name}", faults):
            turned |= _review(name, snapshot, memo)
    return turned


def _review(name: str, snapshot: Snapshot, memo: Memo) -> set[str]:
    queue = snapshot.queues.get(name)
    before = memo.ledger.spent.get(name, ())
    budgets = queue.spec.budgets if queue is not None else []
    now = tuple(spent_of(one, name, memo.ledger, snapshot.now) for one in budgets)
    if now:
        memo.ledger.spent[name] = now
    else:
        memo.ledger.spent.pop(name, None)
    if _exceeded(before) == _exceeded(now):
        return set()
    memo.touched_queues[name] = None
    return memo.by_queue.get(name, set())


def _exceeded(those: Sequence[Spent]) -> list[Budget]:
    return [one.budget for one in those if one.exceeded]


def next_at(memo: Memo) -> datetime | None:
    """When to see how budgets stand; of one that is spent, those who wait for it know when."""
    budgets = (one for those in memo.ledger.spent.values() for one in those)
    times = (one.look_again_at for one in budgets if not one.exceeded)
    return min((one for one in times if one is not None), default=None)


def budget_hold(
    queue: Queue, share: str | None, memo: Memo, environments: Mapping[str, Environment]
) -> Hold | None:
    """Why a queue's budgets let nothing of a share start, if so."""
    for one in memo.ledger.spent.get(queue.name, ()):
        if not one.concerns(share):
            continue
        if one.budget.action is BudgetAction.HOLD:
            return _hold(queue, one, "nothing starts before that")
        if one.budget.action is BudgetAction.SPOT_ONLY and not any(
            map(has_spot, usable_environments(queue, environments))
        ):
            return _hold(
                queue, one, "before that jobs start on spot only, and none of its environments has"
            )
    return None


def _hold(queue: Queue, spent: Spent, what: str) -> Hold:
    return Hold(
        Reason.BUDGET_SPENT,
        f"JobQueue {queue.name}: {spent}; {what}",
        blocked_by=(spent.budget.name,),
        look_again_at=spent.ends_at,
    )


def is_spot_only(queue: Queue, share: str | None, memo: Memo) -> bool:
    """Whether a queue's budgets let a share have spot capacity only."""
    return any(
        one.budget.action is BudgetAction.SPOT_ONLY and one.concerns(share)
        for one in memo.ledger.spent.get(queue.name, ())
    )


def rows_of(queue: Queue, memo: Memo, cost: QueueCost | None) -> list[BudgetStatus]:
    """How budgets stand, for the queue's status: as it says unless something was settled."""
    stored = queue.status
    before = {row.name: row for row in stored.budgets} if stored.cost == cost else {}
    rows = [
        BudgetStatus(
            name=one.budget.name,
            amount=money(one.amount),
            spent=money(one.spent),
            window_ends_at=one.ends_at,
            exceeded=one.exceeded,
        )
        for one in memo.ledger.spent.get(queue.name, ())
    ]
    return [_kept(row, before.get(row.name)) for row in rows]


def _kept(row: BudgetStatus, before: BudgetStatus | None) -> BudgetStatus:
    same = before is not None and before.model_copy(update={"spent": row.spent}) == row
    return before if same and before is not None else row


def spent_budgets(queue: Queue, memo: Memo) -> list[Wanted]:
    """A condition of a queue with budgets that are spent; none where there are none."""
    spent = [one for one in memo.ledger.spent.get(queue.name, ()) if one.exceeded]
    if not spent:
        return []
    names = ", ".join(one.budget.name for one in spent)
    return [(SPENT, ConditionStatus.TRUE, SPENT, f"see status.budgets: {names}"[:1024])]
