"""Money on the wire: what jobs, queues and compute environments cost, and budgets.

The currency is whatever the prices are in. In memory an amount is an integer, in millionths of its
unit; in a status it is a decimal string.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from batch_operator.api.common import Model, Name, Time

MICROS = 1_000_000
DAYS_MAX = 31
"""No window of a budget is longer."""
SHARES_MAX = 500
"""AWS: a queue has at most so many active share identifiers."""
ENVIRONMENTS_MAX = 50
_MONEY = r"^[0-9]{1,18}\.[0-9]{2,6}$"

Money = Annotated[str, Field(max_length=32, pattern=_MONEY)]
Day = Annotated[str, Field(max_length=10)]


def money(micros: int) -> str:
    """Millionths as a decimal with two places at least: 1500000 is `1.50`."""
    whole, rest = divmod(micros, MICROS)
    places = f"{rest:06}".rstrip("0").ljust(2, "0")
    return f"{whole}.{places}"


def micros(text: str) -> int:
    """What `money` has written."""
    whole, _, places = text.partition(".")
    return int(whole) * MICROS + int(places.ljust(6, "0"))


class Costs(Model):
    """What attempts cost that are over."""

    total: Money = Field(description="All of them, in the currency of the prices.")
    wasted: Money = Field(
        default="0.00",
        description="The part of those that did not succeed: they failed, timed out, were stopped "
        "or preempted, or lost their node.",
    )
    spot_savings: Money = Field(
        default="0.00",
        description="How much more those on spot capacity would have cost on demand.",
    )


class EnvironmentCosts(Costs):
    """Of those in one compute environment."""

    compute_environment: str = Field(max_length=63, description="The compute environment.")


Days = Annotated[
    dict[Day, Money],
    Field(
        max_length=DAYS_MAX,
        description="The cost by the day (UTC) on which attempts ended, the latest 31 such days.",
    ),
]


class JobCost(Costs):
    """What the job's attempts cost that are over; more while others run."""

    environments: list[EnvironmentCosts] = Field(
        default=[],
        max_length=ENVIRONMENTS_MAX,
        description="The same by compute environment.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["computeEnvironment"],
        },
    )
    days: Days = Field(default={})


class ShareCosts(Costs):
    """Of the jobs of one share identifier."""

    share_identifier: str = Field(
        max_length=255, description="The share identifier; empty for jobs without one."
    )


class DeletedCosts(ShareCosts):
    """Of jobs that exist no more."""

    days: Days = Field(default={})


class QueueCost(Costs):
    """What the queue's jobs cost, as far as their attempts are over."""

    shares: list[ShareCosts] = Field(
        default=[],
        max_length=SHARES_MAX,
        description="The same by share identifier, in a queue with a scheduling policy.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["shareIdentifier"],
        },
    )
    deleted_jobs: list[DeletedCosts] = Field(
        default=[],
        max_length=SHARES_MAX,
        description="The part of it that is of jobs which exist no more, by share identifier.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["shareIdentifier"],
        },
    )


class PoolCost(Model):
    """What the nodes of one pool cost."""

    instance_type: str = Field(max_length=63, description="The instance type.")
    capacity_type: str = Field(max_length=9, description="on-demand or spot.")
    nodes: int = Field(ge=0, le=10_000_000, description="How many there were at settledAt.")
    cost: Money = Field(description="Of all its nodes since `since`, until settledAt.")
    spot_savings: Money = Field(
        default="0.00", description="How much more they would have cost on demand."
    )


class EnvironmentCost(Model):
    """What the environment's nodes cost, and what of that attempts used."""

    since: Time = Field(description="From when on its nodes are reckoned.")
    settled_at: Time = Field(
        description="Until when they are reckoned; written when nodes come or go, or attempts end."
    )
    nodes: Money | None = Field(
        default=None,
        description="Of all nodes whose price is known; omitted where nodes are chosen by "
        "spec.nodeSelector, for others may use these, too, and of serverless capacity.",
    )
    used: Money = Field(description="Attempts' parts of their nodes, until settledAt.")
    idle: Money | None = Field(
        default=None, description="What nodes cost beyond that; omitted as nodes is."
    )
    wasted: Money = Field(description="The part of used of attempts that did not succeed.")
    spot_savings: Money = Field(
        description="How much more spot nodes would have cost on demand; where nodes is omitted, "
        "the attempts' parts of them."
    )
    pools: list[PoolCost] = Field(
        default=[],
        max_length=200,
        description="Its nodes by pool.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["instanceType", "capacityType"],
        },
    )
    deleted_jobs: Costs | None = Field(
        default=None, description="The part of used that is of jobs which exist no more."
    )


class BudgetWindow(StrEnum):
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"


class BudgetAction(StrEnum):
    NOTIFY = "NOTIFY"
    SPOT_ONLY = "SPOT_ONLY"
    HOLD = "HOLD"


class Budget(Model):
    """What the jobs of a queue, or of one share of it, may cost."""

    name: Name = Field(description="Its name, for messages.")
    share_identifier: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="It is for the jobs of this share identifier; omitted: for all of the queue.",
    )
    amount: float = Field(
        ge=0, le=1_000_000_000_000, description="How much, in the currency of the prices."
    )
    window: BudgetWindow = Field(
        description="In how long: a DAY, a WEEK (from Monday) or a MONTH of the calendar, in UTC."
    )
    action: BudgetAction = Field(
        description="What happens once it is spent, until the window ends. NOTIFY: a condition "
        "BudgetSpent on the queue. SPOT_ONLY: besides, jobs start on spot capacity only. HOLD: "
        "besides, none starts. What runs is never stopped."
    )


Budgets = Annotated[
    list[Budget],
    Field(
        max_length=20,
        description="Beyond AWS Batch: what the queue's jobs may cost, and what happens then.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    ),
]
SHARES_OF_BUDGETS = (
    "!has(self.budgets) || has(self.schedulingPolicy) || "
    "self.budgets.all(b, !has(b.shareIdentifier))",
    "only a queue with a schedulingPolicy has share identifiers: leave shareIdentifier out of "
    "budgets",
)


class BudgetStatus(Model):
    """How a budget stands."""

    name: str = Field(max_length=63, description="The budget.")
    amount: Money = Field(description="What may be spent in the window.")
    spent: Money = Field(
        description="What attempts that ended in the window cost, and those that run have until "
        "this was written."
    )
    window_ends_at: Time = Field(description="When the next window begins.")
    exceeded: bool = Field(default=False, description="Whether all of it is spent.")


class PriceCatalogue(Model):
    """A key of a ConfigMap with prices of instance types."""

    namespace: Name = Field(description="The ConfigMap's namespace.")
    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$",
        description="The ConfigMap. It may change, and is read again every five minutes.",
    )
    key: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[-._a-zA-Z0-9]+$",
        description="The key in its data: YAML or JSON that gives for each instance type "
        "{onDemand: PRICE, spot: PRICE} for an hour, either of which can be left out.",
    )
