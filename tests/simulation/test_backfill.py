"""Backfill with real objects: what passes the head of a queue, and what does not."""

from __future__ import annotations

from typing import Any

from support.builders import pod_template
from support.play import Played, play, written
from support.simulated import ROOT, run

TIMEOUT_60 = {"timeout": {"attemptDurationSeconds": 60}}
LICENCE = {"consumableResources": [{"name": "licence", "quantity": 1}]}
PAIR = {"consumableResources": [{"name": "licence", "quantity": 2}]}
STARTING_S = 5.0
"""What it takes to see that an attempt is over and to have the next one running."""


def cpus(count: int) -> dict[str, Any]:
    return {"containerOverrides": [{"resources": {"requests": {"cpu": str(count)}}}]}


def filled(jobs: dict[str, Any], *, backfill: bool = True, **fields: Any) -> Played:
    return play(jobs, queue={"backfill": backfill}, max_vcpus=4, **fields)


def test_the_example_starts_what_is_over_before_the_large_job_can_start() -> None:
    outcome = run(ROOT / "examples" / "scenarios" / "backfill.yaml")
    starts = [one.job for one in outcome.transitions if one.after == "RUNNING"]

    assert starts == ["first", *["short"] * 4, "large", "too-long", "no-timeout"]


def test_the_head_starts_when_it_would_have_without_backfill() -> None:
    """Beside what is over by then, one vCPU is left over that others may hold for long."""
    jobs = {
        "runs": {**cpus(2), "timeout": {"attemptDurationSeconds": 120}},
        "head": {**cpus(3), **TIMEOUT_60},
        "short": {**TIMEOUT_60, "arrayProperties": {"size": 8}},
        "unbounded": {},
        "too-long": {**cpus(2), "timeout": {"attemptDurationSeconds": 600}},
    }
    behaviors = [
        {"job": "runs", "runtime": "118s"},
        {"job": "short", "runtime": "20s"},
        {"job": "unbounded", "runtime": "30m"},
    ]
    plain, passed = (
        filled(jobs, backfill=backfill, behaviors=behaviors) for backfill in (False, True)
    )

    assert passed.at("RUNNING", "head") <= plain.at("RUNNING", "head") + STARTING_S
    assert passed.at("RUNNING", "unbounded") < passed.at("RUNNING", "head")
    assert passed.at("RUNNING", "short", 0) < passed.at("RUNNING", "head")
    assert passed.at("RUNNING", "too-long") > passed.at("RUNNING", "head")


def test_where_no_run_time_is_known_nothing_that_could_be_in_the_way_passes() -> None:
    jobs: dict[str, Any] = {"runs": cpus(2), "head": cpus(4), "short": TIMEOUT_60}
    played = filled(jobs, behaviors=[{"job": "runs", "runtime": "10m"}])

    assert [job for job, _ in played.order()] == ["runs", "head", "short"]


def test_a_lower_queue_passes_the_head_of_a_higher_one_only_as_its_own_jobs_may() -> None:
    order = [{"order": 1, "computeEnvironment": "local"}]
    low = written("JobQueue", "low", {"priority": 0, "computeEnvironmentOrder": order})
    jobs: dict[str, Any] = {
        "runs": {**cpus(2), "timeout": {"attemptDurationSeconds": 120}},
        "head": cpus(4),
        "short": {"jobQueue": "low", **TIMEOUT_60},
        "long": {"jobQueue": "low"},
    }
    behaviors = [{"job": "runs", "runtime": "100s"}, {"job": "long", "runtime": "30m"}]
    kept = filled(jobs, others=[low], behaviors=behaviors)
    taken = filled(jobs, backfill=False, others=[low], behaviors=behaviors)

    assert [job for job, _ in kept.order()] == ["runs", "short", "head", "long"]
    assert [job for job, _ in taken.order()] == ["runs", "short", "long", "head"]
    assert taken.at("RUNNING", "head") >= taken.at("SUCCEEDED", "long")


def test_those_who_need_one_unit_do_not_starve_the_one_who_needs_two() -> None:
    """Each of the small ones is over soon, but there is always another."""
    licences = written("ConsumableResource", "licence", {"totalQuantity": 2})
    jobs: dict[str, Any] = {
        "first": {**LICENCE, **TIMEOUT_60},
        "head": {**PAIR, **TIMEOUT_60},
        "others": {**LICENCE, **TIMEOUT_60, "arrayProperties": {"size": 30}},
        "free": TIMEOUT_60,
    }
    played = filled(jobs, others=[licences], behaviors=[{"job": "first", "runtime": "40s"}])

    assert played.at("RUNNING", "free") < played.at("RUNNING", "head") < 50
    assert played.at("RUNNING", "others", 0) > played.at("RUNNING", "head")


def test_what_was_learned_lets_nobody_pass_whose_timeout_would_delay_the_head() -> None:
    """Once a job of definition `work` took 10 s; the next takes hours, as its timeout allows."""
    ten_hours = {"timeout": {"attemptDurationSeconds": 36000}}
    one_hour = {"timeout": {"attemptDurationSeconds": 3600}}
    jobs = {
        "long": {**cpus(4), **ten_hours},
        "hour": {"jobDefinition": "other", **cpus(2), **one_hour},
        "head": {"jobDefinition": "other", **cpus(4), **one_hour},
        "passer": {"jobDefinition": "other", **cpus(2), **ten_hours},
    }
    base = {"jobQueue": "main", "jobDefinition": "work"}
    played = play(
        {"first": ten_hours},
        definitions={"other": {"podTemplate": pod_template()}},
        queue={"backfill": True},
        max_vcpus=8,
        behaviors=[
            {"job": "first", "runtime": "10s"},
            {"job": "hour", "runtime": "59m"},
            {"job": "head", "runtime": "10m"},
            {"job": "*", "runtime": "9h"},
        ],
        events=[
            {"at": "60s", "apply": written("BatchJob", name, {**base, **spec})}
            for name, spec in jobs.items()
        ],
        until="20h",
    )

    assert played.at("RUNNING", "head") < 3700
    assert played.at("RUNNING", "passer") > played.at("RUNNING", "head")
