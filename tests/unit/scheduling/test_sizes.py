"""Statuses that tenants can make large still fit into etcd."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from batch_operator.api.common import ShareUsage
from batch_operator.api.cost import micros
from batch_operator.api.job_queue import JobQueueStatus, QueuedJob, ShareStatus, StartTimes
from batch_operator.scheduling.costs import Tally
from batch_operator.scheduling.ledger import Account, Ledger
from batch_operator.scheduling.sizes import (
    COSTS_BYTES_MAX,
    DELETED_BYTES_MAX,
    SHARES_BYTES_MAX,
    fitting,
    share_bytes,
)
from support.builders import START
from support.sizes import ETCD_BYTES_MAX, stored_bytes

DAYS = [(START + timedelta(days=number)).date().isoformat() for number in range(31)]
PRICE = 123_456_789_123_456


def names(count: int, length: int) -> list[str]:
    return [f"s{number:04}".ljust(length, "x") for number in range(count)]


def ledger_of(shares: list[str]) -> Ledger:
    """Each share has cost somewhat more than the one before, all of it by jobs that are deleted."""
    ledger = Ledger()
    for number, share in enumerate(shares):
        tally = Tally(PRICE + number, PRICE, PRICE)
        ledger.shares["main"][share] = Account(
            deleted=tally, deleted_days=Counter(dict.fromkeys(DAYS, PRICE))
        )
        ledger.queues["main"].deleted += tally
    return ledger


def share_row(name: str) -> ShareStatus:
    usage = ShareUsage(vcpu_seconds=123_456_789.123, at=START)
    return ShareStatus(
        share_identifier=name,
        weight_factor=0.1234,
        vcpus="123.456",
        usage=usage,
        deleted_jobs_usage=usage,
    )


@pytest.mark.parametrize("length", [5, 80, 255])
def test_a_queue_with_a_thousand_shares_and_a_month_of_costs_fits_into_etcd(length: int) -> None:
    shares = names(1000, length)
    times = StartTimes(p50=START, p90=START)
    row = QueuedJob(
        namespace="n" * 63,
        job="j" * 253,
        position=1,
        reason="InsufficientConsumableResource",
        since=START,
        estimated_start=times,
    )
    cost = ledger_of(shares).queue_cost("main")
    status = JobQueueStatus(
        shares=[share_row(one) for one in fitting(shares, share_bytes, SHARES_BYTES_MAX)][:500],
        front=[row] * 100,
        cost=cost,
    )
    assert cost is not None

    assert stored_bytes(status) < 0.8 * ETCD_BYTES_MAX
    assert stored_bytes(cost.model_copy(update={"deleted_jobs": []})) < 1.1 * COSTS_BYTES_MAX
    assert stored_bytes(cost.model_copy(update={"shares": []})) < 1.1 * DELETED_BYTES_MAX
    bare = status.model_copy(update={"front": [], "cost": None})
    assert stored_bytes(bare) < 1.1 * SHARES_BYTES_MAX


def test_of_costs_the_largest_are_kept_and_nothing_is_lost() -> None:
    ledger = ledger_of(names(400, 255))
    cost = ledger.queue_cost("main")
    assert cost is not None
    rest, *kept = cost.deleted_jobs
    told = sum(micros(one.total) for one in cost.deleted_jobs)

    assert 100 < len(kept) < len(cost.shares) < 400
    assert kept[-1].share_identifier == cost.shares[-1].share_identifier == names(400, 255)[-1]
    assert rest.share_identifier == ""
    assert kept == sorted(kept, key=lambda one: one.share_identifier)
    assert told == ledger.queues["main"].deleted.total
