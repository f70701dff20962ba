"""A what-if goes on from where the cluster was: as it would have gone on by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.api.job import JobState
from batch_operator.simulator.recorded import read_recorded
from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import Scenario, ScenarioSpec, manifest
from support.play import Played, written
from support.simulated import EXAMPLES, ROOT, WORKLOADS, scenario
from support.snapshots import busy, job_of, the_rest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_operator.simulator.report import Outcome
    from batch_operator.simulator.trace import Transition

PROMPT_S = 1.0
"""What scheduling and the operator may add to a time worked out by hand."""
HOUR_S = 3600.0
LATER = "2099-01-01T00:00:00Z"


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=PROMPT_S)


def went_on(snapshot: dict[str, Any], *behaviors: dict[str, Any], **world: Any) -> Played:
    """What becomes of a cluster as it was, all invariants having held."""
    spec = ScenarioSpec.model_validate({"behaviors": behaviors, **world})
    outcome = simulate(Scenario((), spec, recorded=read_recorded([snapshot], "snapshot")))

    assert outcome.violations == ()
    return Played(outcome)


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
    played = went_on(snapshot)

    assert played.at("STARTING", "frame-5") == near(HOUR_S)
    assert played.state("frame-5") == "SUCCEEDED"


# What has been used is not forgotten: frame-4 has run for 20 s


def test_what_a_running_attempt_has_used_counts_against_its_share() -> None:
    """Each has one vCPU, `a` for an hour and `b` for 20 s: the third is for `b`."""
    snapshot = busy()
    job_of(snapshot, "local")["spec"]["maxvCpus"] = 3
    snapshot["items"].append(
        {
            **written(
                "SchedulingPolicy", "fair", {"fairsharePolicy": {"shareDecaySeconds": 86_400}}
            ),
            "metadata": {
                "name": "fair",
                "uid": "0e0c0f6e-9999",
                "creationTimestamp": "2026-11-02T08:00:00Z",
            },
        }
    )
    job_of(snapshot, "main")["spec"]["schedulingPolicy"] = "fair"
    for number in range(1, 10):
        share = "a" if number % 2 == 0 else "b"
        job_of(snapshot, f"frame-{number}")["spec"]["shareIdentifier"] = share
    running = job_of(snapshot, "frame-4")
    job_of(snapshot, "frame-5")["status"] = json.loads(json.dumps(running["status"]))
    running["metadata"]["creationTimestamp"] = "2026-11-02T07:59:00Z"
    running["status"]["startedAt"] = "2026-11-02T08:00:00Z"
    running["status"]["attempts"][0]["startedAt"] = "2026-11-02T08:00:00Z"
    played = went_on(snapshot, {"job": "frame-4", "runtime": "2h"}, {"runtime": "1m"})

    assert [job for job, _ in played.order()] == ["frame-7", "frame-9", "frame-6", "frame-8"]


def test_a_timeout_goes_on_counting() -> None:
    snapshot = busy()
    job_of(snapshot, "frame-4")["spec"]["timeout"] = {"attemptDurationSeconds": 60}
    played = went_on(snapshot, {"job": "frame-4", "runtime": "1h"})

    assert played.state("frame-4") == "FAILED"
    assert played.final("frame-4")["stoppedAt"] == pytest.approx(40, abs=2)


def test_an_attempt_costs_what_it_cost_before_the_snapshot_too() -> None:
    """A minute at 1 a second; and so says the row of the attempt."""
    snapshot = busy()
    priced = {"name": "node", "vcpus": 1, "memory": "1Ti", "pricePerHour": "3600"}
    job_of(snapshot, "local")["spec"]["instanceTypes"] = [priced]
    played = went_on(snapshot, {"job": "frame-4", "runtime": "1m"})

    [row] = played.rows("frame-4")
    assert row["startedAt"] == "2026-11-02T08:59:40Z"
    assert float(row["cost"]) == pytest.approx(60, abs=2)
    assert played.final("frame-4")["cost"] == float(row["cost"])


def test_what_is_starting_goes_on_starting() -> None:
    """Of half a minute's pull 10 s are left."""
    snapshot = busy()
    status = job_of(snapshot, "frame-4")["status"]
    del status["startedAt"], status["attempts"][0]["startedAt"]
    status["state"] = "STARTING"
    status["pending"] = {
        "reason": "ContainersStarting",
        "message": "node local-1 pulls images",
        "since": "2026-11-02T08:59:40Z",
    }
    played = went_on(snapshot, {"job": "frame-4", "pullTime": "30s", "runtime": "1m"})

    assert played.at("RUNNING", "frame-4") == near(10)
    assert played.at("SUCCEEDED", "frame-4") == near(70)


def test_limits_on_the_time_in_a_state_go_on_counting() -> None:
    """Also of a Pod that waits for a node, and of one that cannot start on its own."""
    path = ROOT / "examples" / "scenarios" / "time-limits.yaml"
    whole = Played(simulate(scenario(path)))
    rest = Played(simulate(the_rest(scenario(path), 31)))

    assert rest.at("STARTING", "train") == near(whole.at("STARTING", "train") - 31)
    assert rest.at("FAILED", "stuck") == near(whole.at("FAILED", "stuck") - 31)


# Nothing changed: the rest of the run


GUESSED = {
    "array-parameters",  # a snapshot has no ConfigMap, so nobody has to look for it again
    "array-with-failures",
    "costs",
    "crowd",
    "elastic",  # nodes that are on order are ordered again
    "fallback",
    "licences",  # what somebody has just stopped is still on its way out
    "managed",
    "operator-restart",  # the operator is down, and the one that goes on is not
    "reruns",
    "shares",
    "stops",
    "time-limits",  # children with a Pod that waits for a node are placed anew
}
"""Where something decides that no status tells; of those without a word, when each child of an
array started of which others have ended. What becomes of the jobs is certain there, too."""
GUESSED_LATER = {"fair-share", "preemptions", "priorities", "requests", "steps"}
"""The same, once a first round of children has ended."""
WHOLE_S = 2.0
"""Times in statuses have whole seconds, and the operator that goes on has to read them first."""


def told(outcome: Outcome, after: JobState, since_s: float = 0.0) -> list[tuple[str, int | None]]:
    """Jobs and children in the order in which they came into a state, from a time on."""
    return [(one.job, one.index) for one in moves(outcome, since_s) if one.after is after]


def moves(outcome: Outcome, since_s: float) -> Iterator[Transition]:
    """What is told of jobs and children, but not of an array itself, nor of a node."""
    for one in outcome.transitions:
        if one.at_s > since_s and not one.is_parent and one.node is None:
            yield one


def ends(outcome: Outcome, since_s: float = 0.0) -> dict[tuple[str, int | None], float]:
    """When jobs and children ended, in seconds from then."""
    return {
        (one.job, one.index): one.at_s - since_s
        for one in moves(outcome, since_s)
        if one.after in {JobState.SUCCEEDED, JobState.FAILED}
    }


@pytest.mark.parametrize("at_s", [31.0, 65.0])
@pytest.mark.parametrize(
    "path", [*EXAMPLES, *sorted(WORKLOADS.glob("*.yaml"))], ids=lambda path: path.stem
)
def test_a_run_that_goes_on_from_a_snapshot_ends_as_the_whole_does(path: Path, at_s: float) -> None:
    """The same states; and where statuses tell all, in the same order and at the same times."""
    whole = simulate(scenario(path))
    states = {name: state for name, (state, _) in whole.states().items()}
    rest = simulate(the_rest(scenario(path), at_s))

    assert rest.violations == ()
    assert rest.summary["settled"]
    assert {name: state for name, (state, _) in rest.states().items()}.items() <= states.items()
    if path.stem not in GUESSED and (at_s < 60 or path.stem not in GUESSED_LATER):
        assert told(rest, JobState.RUNNING) == told(whole, JobState.RUNNING, at_s)
        assert ends(rest) == pytest.approx(ends(whole, at_s), abs=WHOLE_S)


@pytest.mark.parametrize("at_s", [65.0, 95.0])
def test_an_array_under_way_takes_the_time_that_it_takes(at_s: float) -> None:
    """When its children started is not known: started anew they would be late by a run time."""
    path, runs_s = ROOT / "examples" / "scenarios" / "array-with-failures.yaml", 30.0
    whole = simulate(scenario(path)).summary["makespan"]
    rest = simulate(the_rest(scenario(path), at_s)).summary["makespan"]

    assert rest == pytest.approx(whole - at_s, abs=runs_s / 3)


def test_children_are_in_the_environments_in_front_of_the_latests_too() -> None:
    """Of two that run the latest is known to run in the second of two environments."""
    snapshot = busy()
    first = json.loads(json.dumps(job_of(snapshot, "local")))
    first["metadata"].update(name="first", uid="0e0c0f6e-9999")
    first["spec"]["maxvCpus"] = 1
    snapshot["items"].append(first)
    job_of(snapshot, "main")["spec"]["computeEnvironmentOrder"].append(
        {"order": 0, "computeEnvironment": "first"}
    )
    array = job_of(snapshot, "frame-4")
    array["spec"]["arrayProperties"] = {"size": 2}
    array["status"] = {
        **array["status"],
        "state": "PENDING",
        "attempts": [],
        "array": {
            "size": 2,
            "statusSummary": {"RUNNING": 2},
            "indexes": {"running": "0-1"},
        },
    }
    played = went_on(snapshot, {"job": "frame-4", "runtime": "2m"}, {"runtime": "1s"})

    where = {job: one for job, one in started_in(played).items() if job != "frame-4"}
    assert set(where.values()) == {"local"}  # the only one with room, as long as both run
    assert len(where) == 5


def started_in(played: Played) -> dict[str, str | None]:
    """Where jobs started."""
    return {
        one.job: one.environment
        for one in played.outcome.transitions
        if one.after is JobState.STARTING
    }


def test_kubelets_of_nodes_that_are_there_keep_what_others_keep() -> None:
    """Of eight vCPUs two are left: the five that wait do not start at once."""
    snapshot = busy()
    job_of(snapshot, "local")["spec"] = {
        "type": "MANAGED",
        "maxvCpus": 8,
        "instanceTypes": [{"name": "a", "vcpus": 8, "memory": "64Gi"}],
        "provisioner": {"type": "kwok", "kwok": {}},
    }
    pool = {"instanceType": "a", "capacityType": "on-demand", "desired": 1, "ready": 1}
    job_of(snapshot, "local")["status"] = {"observedGeneration": 1, "pools": [pool]}
    kept = {"systemReserved": {"cpu": "6", "memory": "1Gi"}}
    played = went_on(snapshot, {"runtime": "1m"}, pools=[kept])

    assert played.at("STARTING", "frame-5") == near(0)
    assert played.at("STARTING", "frame-6") == near(40)
    assert played.at("STARTING", "frame-7") == near(61)


def test_what_runs_on_serverless_capacity_holds_its_size() -> None:
    """A Pod of 1 vCPU with 9 GiB holds 2 vCPUs: with one running, five have room for one more."""
    snapshot = busy()
    section = {"nodeSelector": {"type": "virtual-kubelet"}}
    job_of(snapshot, "local")["spec"] = {
        "type": "MANAGED",
        "maxvCpus": 5,
        "provisioner": {"type": "serverless", "serverless": section},
    }
    template = job_of(snapshot, "render-1")["data"]["podTemplate"]["spec"]
    template["containers"][0]["resources"]["requests"]["memory"] = "9Gi"
    job_of(snapshot, "render")["spec"] = job_of(snapshot, "render-1")["data"]
    played = went_on(snapshot, {"runtime": "1m"})

    assert played.at("STARTING", "frame-5") == near(0)
    assert played.at("STARTING", "frame-6") == near(40)


def test_values_that_are_on_their_way_are_waited_for() -> None:
    """A ConfigMap that comes after the snapshot is no change of one that was made up."""
    path = ROOT / "examples" / "scenarios" / "array-parameters.yaml"
    whole = Played(simulate(scenario(path)))
    rest = Played(simulate(the_rest(scenario(path), 20)))

    assert rest.at("STARTING", "align", 0) == near(whole.at("STARTING", "align", 0) - 20)
    assert rest.state("align-again") == whole.state("align-again")


def test_values_may_be_given_with_a_snapshot() -> None:
    snapshot = busy()
    source = {"name": "samples", "key": "lines", "parameters": ["sample"]}
    array = {"size": 2, "parameters": {"configMap": source}}
    job_of(snapshot, "frame-9")["spec"]["arrayProperties"] = array
    job_of(snapshot, "frame-9")["status"] = {"observedGeneration": -1, "state": "SUBMITTED"}
    values = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "samples"},
        "data": {"lines": "a\nb\n"},
        "immutable": True,
    }
    recorded = read_recorded([snapshot], "snapshot")
    played = Played(simulate(Scenario((manifest(values, "values"),), recorded=recorded)))

    assert played.state("frame-9") == "SUCCEEDED"
    assert played.outcome.violations == ()


def test_a_first_round_that_runs_goes_on_to_the_second() -> None:
    """Children of which none has ended started with the first: nothing is run twice."""
    path = ROOT / "examples" / "scenarios" / "priorities.yaml"
    whole = simulate(scenario(path)).summary["makespan"]

    assert simulate(the_rest(scenario(path), 31)).summary["makespan"] == near(whole - 31)
