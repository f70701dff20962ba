"""The example scenarios: every one holds every invariant, and ends as its comment says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.simulated import EXAMPLES, ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

ENDS = {
    "array-parameters": {
        "sweep": ("SUCCEEDED", 6),
        "align": ("FAILED", 3),
        "align-again": ("SUCCEEDED", 1),
    },
    "array-with-failures": {"render": ("FAILED", 52)},
    "backfill": {
        "first": ("SUCCEEDED", 1),
        "large": ("SUCCEEDED", 1),
        "too-long": ("SUCCEEDED", 1),
        "no-timeout": ("SUCCEEDED", 1),
        "short": ("SUCCEEDED", 4),
    },
    "deletion": {"unwanted": ("PENDING", 2), "next": ("SUCCEEDED", 1)},
    "elastic": {"film": ("SUCCEEDED", 68)},
    "fair-share": {
        "survey": ("SUCCEEDED", 12),
        "pages": ("SUCCEEDED", 8),
        "outage": ("SUCCEEDED", 1),
    },
    "fallback": {"sweep": ("SUCCEEDED", 40)},
    "head-of-line": {
        "first": ("SUCCEEDED", 1),
        "large": ("SUCCEEDED", 1),
        "behind": ("SUCCEEDED", 3),
    },
    "multi-node": {
        "before": ("SUCCEEDED", 1),
        "train": ("SUCCEEDED", 2),
        "after": ("SUCCEEDED", 1),
    },
    "operator-restart": {"array": ("SUCCEEDED", 13), "meanwhile": ("SUCCEEDED", 1)},
    "pipeline": {
        "prepare": ("SUCCEEDED", 1),
        "train": ("SUCCEEDED", 1),
        "evaluate": ("SUCCEEDED", 3),
        "report": ("SUCCEEDED", 1),
        "sign": ("FAILED", 1),
        "publish": ("FAILED", 0),
    },
    "preemption": {"report": ("SUCCEEDED", 8), "hotfix": ("SUCCEEDED", 2)},
    "priorities": {"nightly": ("SUCCEEDED", 6), "hotfix": ("SUCCEEDED", 1)},
    "requests": {
        "sweep": ("FAILED", 9),
        "later": ("SUCCEEDED", 1),
        "report": ("FAILED", 0),
        "before": ("SUCCEEDED", 1),
        "now": ("SUCCEEDED", 1),
    },
    "retry": {"third-time-lucky": ("SUCCEEDED", 3), "bad-input": ("FAILED", 1)},
    "spot-loss": {"train": ("SUCCEEDED", 10)},
    "start-failures": {
        "no-image": ("SUCCEEDED", 2),
        "bad-image-name": ("FAILED", 2),
        "no-volume": ("SUCCEEDED", 2),
        "slow-registry": ("SUCCEEDED", 1),
        "out-of-memory": ("FAILED", 1),
    },
    "steps": {
        "align": ("FAILED", 9),
        "sort": ("FAILED", 7),
        "merge": ("FAILED", 0),
        "clean": ("SUCCEEDED", 1),
        "alarm": ("SUCCEEDED", 1),
        "align-again": ("SUCCEEDED", 1),
        "sort-again": ("SUCCEEDED", 1),
        "upload": ("SUCCEEDED", 3),
    },
    "time-limits": {
        "train": ("SUCCEEDED", 2),
        "stuck": ("FAILED", 1),
        "long": ("SUCCEEDED", 1),
        "huge": ("FAILED", 0),
        "behind": ("SUCCEEDED", 1),
    },
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_ends_as_it_says(path: Path) -> None:
    outcome = run(path)

    if path.stem in ENDS:
        expected = {f"default/{job}": end for job, end in ENDS[path.stem].items()}
        assert outcome.states() == expected


def test_every_described_example_exists() -> None:
    assert set(ENDS) <= {path.stem for path in EXAMPLES}


def test_the_urgent_job_starts_next() -> None:
    outcome = run(ROOT / "examples" / "scenarios" / "priorities.yaml")
    starts = [(one.job, one.index) for one in outcome.transitions if one.after == "RUNNING"]

    assert starts[:3] == [("nightly", 0), ("nightly", 1), ("hotfix", None)]


def test_it_is_told_how_long_was_waited_in_each_queue() -> None:
    """Two of six children run at a time, a minute each; the urgent job comes at 30 s."""
    waiting = run(ROOT / "examples" / "scenarios" / "priorities.yaml").summary["waiting"]

    assert waiting["urgent"]["max"] == pytest.approx(31, abs=1)
    assert (waiting["nightly"]["started"], waiting["nightly"]["left"]) == (6, 0)
    assert waiting["nightly"]["p50"] == pytest.approx(61, abs=1)


def test_a_deleted_job_waits_for_nothing() -> None:
    waiting = run(ROOT / "examples" / "scenarios" / "deletion.yaml").summary["waiting"]

    assert [one["left"] for one in waiting.values()] == [0] * len(waiting)


def test_the_share_with_half_the_weight_gets_two_of_three_starts() -> None:
    outcome = run(ROOT / "examples" / "scenarios" / "fair-share.yaml")
    starts = [one.job for one in outcome.transitions if one.after == "RUNNING"]

    assert starts[:4] == ["survey"] * 4
    assert starts[4:16] == ["pages", "outage", "survey", *["pages", "pages", "survey"] * 3]


def test_small_jobs_wait_behind_the_large_one() -> None:
    outcome = run(ROOT / "examples" / "scenarios" / "head-of-line.yaml")
    starts = [one.job for one in outcome.transitions if one.after == "RUNNING"]

    assert starts == ["first", "large", "behind", "behind", "behind"]


def test_a_lost_node_leads_back_to_runnable_with_its_reason() -> None:
    outcome = run(ROOT / "examples" / "scenarios" / "spot-loss.yaml")
    lost = [
        one for one in outcome.transitions if (one.before, one.after) == ("RUNNING", "RUNNABLE")
    ]

    assert sorted(one.index for one in lost if one.index is not None) == [0, 1, 3, 4]
    assert {one.reason for one in lost} == {"PodGC: node no longer exists"}


def test_what_no_node_takes_is_tried_in_the_next_environment() -> None:
    outcome = run(ROOT / "examples" / "scenarios" / "time-limits.yaml")
    starts = [
        (one.at_s // 60, one.environment)
        for one in outcome.transitions
        if (one.job, one.after) == ("train", "RUNNING")
    ]

    assert starts == [(5, "on-demand")]


def test_each_child_passes_through_every_state() -> None:
    outcome = run(ROOT / "examples" / "scenarios" / "array-with-failures.yaml")
    retried = [one.after.value for one in outcome.transitions if one.index == 7]

    first = ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNING"]
    second = ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
    assert retried == first + second
