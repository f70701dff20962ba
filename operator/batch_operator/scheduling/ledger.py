"""What all jobs cost: sums by queue and share, and by compute environment.

The statuses of jobs hold what each has cost; those of queues and environments hold the part of jobs
that exist no more. So a restart finds all of it, and what is kept here are sums of it. (What is
lost is the cost of a job that somebody deletes while no operator runs, or dies before it has
written that down.)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batch_operator.api.cost import (
    DAYS_MAX,
    SHARES_MAX,
    Costs,
    DeletedCosts,
    QueueCost,
    ShareCosts,
)
from batch_operator.provisioning.prices import NANOS
from batch_operator.scheduling.costs import (
    NOTHING,
    JobCosts,
    Runs,
    Tally,
    Tariffs,
    costs_of,
    day_of,
    days_of,
    days_to,
    tally_of,
    texts,
)
from batch_operator.scheduling.sizes import (
    COSTS_BYTES_MAX,
    DELETED_BYTES_MAX,
    cost_bytes,
    fitting,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from batch_operator.lifecycle.evaluate import Evaluation
    from batch_operator.scheduling.budgets import Spent
    from batch_operator.scheduling.memo import Memo
    from batch_operator.scheduling.snapshot import Environment, Queue, Snapshot


ACCOUNTS_MAX = 1_000
"""Shares of which the deleted jobs' costs are told apart: twice as many as a status has rows."""


@dataclass(slots=True)
class Account:
    """Sums over jobs. `deleted` and `deleted_days` are of those that exist no more."""

    tally: Tally = NOTHING
    days: Counter[str] = field(default_factory=Counter)
    runs: Runs = field(default_factory=Runs)
    deleted: Tally = NOTHING
    deleted_days: Counter[str] = field(default_factory=Counter)

    @property
    def settled(self) -> Tally:
        """What attempts cost that are over."""
        return self.tally + self.deleted

    def spent(self, days: Iterable[str], now: datetime) -> int:
        """What was paid on these days, the last of which is today, by what runs included."""
        return sum(self.days[one] + self.deleted_days[one] for one in days) + self.runs.until(now)


class Ledger:
    """The accounts of all queues' shares and of all environments."""

    def __init__(self) -> None:
        self.tariffs = Tariffs()
        self.jobs: dict[str, JobCosts] = {}
        self.shares: dict[str, dict[str, Account]] = defaultdict(lambda: defaultdict(Account))
        """By queue and share identifier, which is empty for jobs without one."""
        self.queues: dict[str, Account] = defaultdict(Account)
        self.environments: dict[str, Account] = defaultdict(Account)
        self.spent: dict[str, tuple[Spent, ...]] = {}
        """By queue: how its budgets stand."""
        self._recalled: dict[tuple[str, str], str] = {}

    def recall_queue(self, queue: Queue) -> None:
        """Take in what the status of a queue says of deleted jobs, when it is first seen."""
        if not self._is_new("queue", queue.name, queue.uid):
            return
        whole, shares = self.queues[queue.name], self.shares[queue.name]
        for account in (whole, *shares.values()):
            account.deleted, account.deleted_days = NOTHING, Counter()
        for row in queue.status.cost.deleted_jobs if queue.status.cost else ():
            for account in (whole, shares[row.share_identifier]):
                account.deleted += tally_of(row)
                account.deleted_days.update(days_of(row.days))

    def recall_environment(self, environment: Environment) -> None:
        """The same for an environment."""
        if self._is_new("environment", environment.name, environment.uid):
            cost = environment.status.cost
            deleted = tally_of(cost.deleted_jobs) if cost else NOTHING
            self.environments[environment.name].deleted = deleted

    def _is_new(self, kind: str, name: str, uid: str) -> bool:
        is_new = self._recalled.get((kind, name)) != uid
        self._recalled[kind, name] = uid
        return is_new

    def set(self, uid: str, costs: JobCosts | None) -> bool:
        """Make this what the job has cost. Whether sums have changed by it."""
        before = self.jobs.pop(uid, None)
        if costs is not None:
            self.jobs[uid] = costs
        if _sums(before) == _sums(costs):
            return False
        if before is not None:
            self._add(before, -1)
        if costs is not None:
            self._add(costs, 1)
        return True

    def _add(self, costs: JobCosts, sign: int) -> None:
        accounts = self._accounts(costs)
        for name, tally in costs.environments.items():
            for account in (*accounts, self.environments[name]):
                account.tally += tally.times(sign)
        for name, runs in costs.running.items():
            for account in (*accounts, self.environments[name]):
                account.runs += runs.times(sign)
        for day, cost in costs.days.items():
            for account in accounts:
                account.days[day] += sign * cost

    def _accounts(self, costs: JobCosts) -> tuple[Account, Account]:
        return self.queues[costs.queue], self.shares[costs.queue][costs.share]

    def delete(self, uid: str, now: datetime) -> JobCosts | None:
        """A job exists no more: what it has cost, in vain what still runs of it, is kept."""
        costs = self.jobs.get(uid)
        self.set(uid, None)
        if costs is None:
            return None
        environments, days = dict(costs.environments), Counter(costs.days)
        for name, runs in costs.running.items():
            cost = runs.until(now)
            environments[name] = environments.get(name, NOTHING) + Tally(cost, cost)
            days[day_of(now)] += cost
        accounts = self._accounts(costs)
        for account in accounts:
            account.deleted_days.update(days)
        for name, tally in environments.items():
            for account in (*accounts, self.environments[name]):
                account.deleted += tally
        return costs

    def account(self, queue: str, share: str | None) -> Account:
        """Of one share of a queue, or of all of it."""
        return self.queues[queue] if share is None else self.shares[queue][share]

    def running_costs(self) -> dict[str, float]:
        """What attempts that run cost in an hour, by queue."""
        return {name: one.runs.rate / NANOS for name, one in self.queues.items()}

    def sum_up(self, queue: str, named: Collection[str]) -> None:
        """Keep no account of shares that are nobody's any more.

        Of more than `ACCOUNTS_MAX` with deleted jobs, what those cost that cost least is no share's
        from now on, but for the `named`, which have budgets.
        """
        accounts = self.shares[queue]
        deleted = [name for name, one in accounts.items() if name and one.deleted.total]
        if len(deleted) > ACCOUNTS_MAX:
            deleted.sort(key=lambda name: (name not in named, -accounts[name].deleted.total, name))
        for name in deleted[ACCOUNTS_MAX:]:
            one, rest = accounts[name], accounts[""]
            rest.deleted += one.deleted
            rest.deleted_days.update(one.deleted_days)
            one.deleted, one.deleted_days = NOTHING, Counter()
        nothing = Account()
        left = [name for name, one in accounts.items() if not one.deleted.total and one == nothing]
        for name in left:
            del accounts[name]

    def queue_cost(self, queue: str) -> QueueCost | None:
        """As a queue's status shows it: what is over, for what runs changes all the time."""
        accounts = self.shares[queue]
        settled = {name: one.settled for name, one in accounts.items() if one.settled.total}
        deleted = {name: one for name, one in accounts.items() if one.deleted.total}
        if not settled:
            return None
        largest = sorted(settled, key=lambda name: (-settled[name].total, name))[:SHARES_MAX]
        shown = fitting(largest, cost_bytes, COSTS_BYTES_MAX)
        return QueueCost(
            **texts(self.queues[queue].settled),
            shares=[
                ShareCosts(share_identifier=name, **texts(settled[name]))
                for name in sorted(shown)
                if name
            ],
            deleted_jobs=_deleted_rows(deleted),
        )


def _sums(costs: JobCosts | None) -> tuple[object, ...]:
    return (costs.environments, costs.days, costs.running) if costs is not None else ()


def _deleted_rows(deleted: Mapping[str, Account]) -> list[DeletedCosts]:
    """A row for each share; beyond the bound those that cost least are summed up as no share's."""
    largest = sorted(deleted, key=lambda name: (name != "", -deleted[name].deleted.total, name))
    kept = fitting(
        largest[: SHARES_MAX - 1],
        lambda name: cost_bytes(name, min(DAYS_MAX, len(deleted[name].deleted_days))),
        DELETED_BYTES_MAX,
    )
    beyond = largest[len(kept) :]
    tallies = {name: deleted[name].deleted for name in kept}
    days = {name: Counter(deleted[name].deleted_days) for name in kept}
    for name in beyond:
        tallies[""] = tallies.get("", NOTHING) + deleted[name].deleted
        days.setdefault("", Counter()).update(deleted[name].deleted_days)
    return [
        DeletedCosts(share_identifier=name, **texts(tallies[name]), days=days_to(days[name]))
        for name in sorted(tallies)
    ]


def deleted_of(account: Account) -> Costs | None:
    return Costs(**texts(account.deleted)) if account.deleted.total else None


def recall(snapshot: Snapshot, memo: Memo) -> None:
    """Take in what is new of prices, nodes, and costs of deleted jobs."""
    ledger, changes = memo.ledger, snapshot.changes
    ledger.tariffs.see(snapshot.environments, snapshot.nodes, snapshot.catalogues)
    memo.touched_environments |= dict.fromkeys(sorted(changes.nodes))
    for name in snapshot.queues if memo.is_empty else changes.queues:
        if queue := snapshot.queues.get(name):
            ledger.recall_queue(queue)
    for name in snapshot.environments if memo.is_empty else changes.environments:
        if environment := snapshot.environments.get(name):
            ledger.recall_environment(environment)


def enter(memo: Memo, look: Evaluation) -> None:
    """Put what a job has cost into the ledger."""
    uid = look.job.uid
    before = memo.ledger.jobs.get(uid)
    costs = costs_of(look, memo.ledger.tariffs, before)
    if memo.ledger.set(uid, costs):
        _touch(memo, before, costs)


def forget_deleted(memo: Memo, uid: str, now: datetime) -> None:
    """A job exists no more: what it has cost is not forgotten with it."""
    _touch(memo, memo.ledger.delete(uid, now))


def _touch(memo: Memo, *changed: JobCosts | None) -> None:
    for one in changed:
        if one is not None:
            memo.touched_queues[one.queue] = None
            memo.touched_environments |= dict.fromkeys((*one.environments, *one.running))
