"""The published budget of the operator's own writes: few and small, whatever the size."""

from __future__ import annotations

import pytest

from support.managed import elastic, play_elastic
from support.play import batch_job, play
from support.simulated import ROOT, run

SINGLES, CHILDREN = 60, 500
ARRAY_BYTES_MAX = 100_000
LARGE = ROOT / "tests" / "simulation" / "array-of-10000.yaml"


def test_a_single_job_costs_five_writes_at_most() -> None:
    """A create, a release, and up to three statuses."""
    played = play({f"j{n}": {} for n in range(SINGLES)})

    assert played.outcome.writes <= 5 * SINGLES + 20  # those of queue, environment, definition


def test_an_array_child_costs_little_more_than_its_create_and_release() -> None:
    """One status tells of many children."""
    played = play({"a": {"arrayProperties": {"size": CHILDREN}}}, max_vcpus=50)

    assert played.outcome.writes <= 2.4 * CHILDREN


@pytest.mark.timeout(600)
def test_a_large_array_with_failures_stays_small_and_cheap() -> None:
    """10,000 children, of whose attempts a tenth fails, in an object that fits into etcd easily."""
    outcome = run(LARGE)
    array, attempts = outcome.finals[0], outcome.summary["attempts"]

    assert array["summary"]["SUCCEEDED"] + array["summary"]["FAILED"] == 10_000
    assert attempts > 11_000
    assert outcome.writes <= 2.4 * attempts
    assert array["bytes"] <= outcome.summary["largestObjectBytes"] < ARRAY_BYTES_MAX
    assert outcome.summary["writes"]["Pod"] == {"create": attempts, "patch": attempts}


def test_events_of_an_environment_are_few_however_often_its_nodes_change() -> None:
    """At most one of a kind in half a minute; orders are of 20 nodes one by one, and all go."""
    events = [{"at": f"{10 * n}s", "apply": batch_job(f"j{n}")} for n in range(20)]
    one_by_one = elastic(instanceTypes=[{"name": "one", "vcpus": 1, "memory": "4Gi"}])
    played = play_elastic({}, one_by_one, events=events, runtime="1m", until="1h")
    writes = played.outcome.summary["writes"]

    assert writes["Node"]["create"] == writes["Node"]["delete"] > 3
    assert 2 <= writes["Event"]["create"] <= 20
    assert 2 * writes["Event"]["create"] < writes["ComputeEnvironment"]["status"]


def test_of_an_environment_whose_nodes_are_there_already_there_are_no_events() -> None:
    played = play({f"j{n}": {} for n in range(5)})

    assert "Event" not in played.outcome.summary["writes"]
