"""A what-if goes on from where the cluster was: as it would have gone on by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.simulator.recorded import read_recorded
from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import read_scenario
from support.simulated import EXAMPLES, ROOT, WORKLOADS, scenario
from support.snapshots import busy, job_of, the_rest

if TYPE_CHECKING:
    from pathlib import Path

    from batch_operator.simulator.report import Outcome

PROMPT_S = 1.0
"""What scheduling and the operator may add to a time worked out by hand."""
HOUR_S = 3600.0
LATER = "2099-01-01T00:00:00Z"


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=PROMPT_S)


def went_on(snapshot: dict[str, Any], **how: Any) -> Outcome:
    """What becomes of a cluster as it was, all invariants having held."""
    outcome = simulate(read_scenario([], read_recorded([snapshot], "snapshot")), **how)

    assert outcome.violations == ()
    return outcome


@pytest.mark.parametrize("says_so", [True, False], ids=["as it says", "by what has happened"])
@pytest.mark.parametrize(
    ("name", "status"),
    [
        (
            "local",
            {"pools": [{"instanceType": "a", "capacityType": "spot", "refusedUntil": LATER}]},
        ),
        (
            "frame-9",
            {
                "pending": {
                    "reason": "BehindOthers",
                    "message": "2 jobs are ahead",
                    "since": "2026-11-02T08:50:09Z",
                    "estimatedStart": {"p50": LATER, "p90": LATER, "basis": "run times"},
                    "nextLookAt": LATER,
                }
            },
        ),
        (
            "main",
            {
                "front": [
                    {
                        "namespace": "default",
                        "job": "frame-5",
                        "position": 1,
                        "reason": "BehindOthers",
                        "since": "2026-11-02T08:50:09Z",
                        "estimatedStart": {"p50": LATER, "p90": LATER},
                    }
                ]
            },
        ),
        (
            "main",
            {
                "budgets": [
                    {
                        "name": "month",
                        "amount": "1.00",
                        "spent": "0.00",
                        "windowEndsAt": LATER,
                    }
                ]
            },
        ),
    ],
    ids=["refused capacity", "a job's forecast", "a queue's front", "a budget"],
)
def test_what_lies_in_the_future_does_not_say_when_a_snapshot_was_taken(
    name: str, status: dict[str, Any], *, says_so: bool
) -> None:
    plain, told = busy(), busy()
    if not says_so:
        del plain["metadata"], told["metadata"]
    job_of(told, name).setdefault("status", {}).update(status)
    before, after = (
        read_recorded([one], "snapshot").objects[-1].body["metadata"] for one in (plain, told)
    )

    assert after == before


@pytest.mark.parametrize(
    ("window", "today", "paid"),
    [("DAY", "2026-11-02", "2026-11-02"), ("MONTH", "2026-11-30", "2026-11-02")],
)
def test_money_that_is_spent_is_spent_until_its_window_ends(
    window: str, today: str, paid: str
) -> None:
    """Both windows end an hour after the snapshot, at midnight."""
    text = json.dumps(busy()).replace("2026-11-02T08", f"{today}T22")
    snapshot = json.loads(text.replace("2026-11-02T09", f"{today}T23"))
    budget = {"name": "all", "amount": "1.00", "window": window, "action": "HOLD"}
    job_of(snapshot, "main")["spec"]["budgets"] = [budget]
    priced = {"name": "node", "vcpus": 8, "memory": "4Ti", "pricePerHour": "0.10"}
    job_of(snapshot, "local")["spec"].update(maxvCpus=8, instanceTypes=[priced])
    cost = {"total": "1.00", "wasted": "0.00", "spotSavings": "0.00"}
    job_of(snapshot, "frame-1")["status"]["cost"] = {
        **cost,
        "environments": [{"computeEnvironment": "local", **cost}],
        "days": {paid: "1.00"},
    }
    outcome = went_on(snapshot)

    assert outcome.summary["waiting"]["main"]["p50"] == near(HOUR_S)
    assert outcome.summary["jobs"] == {"SUCCEEDED": 6}


@pytest.mark.parametrize("at_s", [31.0, 65.0])
@pytest.mark.parametrize(
    "path", [*EXAMPLES, *sorted(WORKLOADS.glob("*.yaml"))], ids=lambda path: path.stem
)
def test_a_run_that_goes_on_from_a_snapshot_ends_as_the_whole_does(path: Path, at_s: float) -> None:
    whole = scenario(path)
    ends = {name: state for name, (state, _) in simulate(whole).states().items()}
    outcome = simulate(the_rest(whole, at_s))

    assert outcome.violations == ()
    assert outcome.summary["settled"]
    assert {name: state for name, (state, _) in outcome.states().items()}.items() <= ends.items()


def test_a_first_round_that_runs_goes_on_to_the_second() -> None:
    """Children of which none has ended started with the first: nothing is run twice."""
    path = ROOT / "examples" / "scenarios" / "priorities.yaml"
    whole = simulate(scenario(path)).summary["makespan"]

    assert simulate(the_rest(scenario(path), 31)).summary["makespan"] == near(whole - 31)
