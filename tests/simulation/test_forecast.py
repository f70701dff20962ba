"""How good the forecasts are: what a queue's status said, against what came."""

from __future__ import annotations

import pytest

from batch_operator.simulator.virtual_time import EPOCH
from support.builders import pod_template
from support.forecasts import Calibration, calibration, overheard
from support.play import play, written


@pytest.mark.timeout(600)
def test_nine_of_ten_jobs_start_no_later_than_was_said() -> None:
    """What is said rests on the p90 of every attempt before it, so it errs on the late side."""
    found: Calibration = calibration()

    assert found.said > 1000
    assert found.kept / found.said >= 0.9
    # One that always said "tomorrow" would be kept, too.
    assert found.early_by < 0.5


def test_what_backfill_keeps_for_the_head_of_a_queue_is_kept_in_a_forecast_too() -> None:
    """Nothing of a lower queue can start before the large job that waits for all vCPUs."""
    order = [{"order": 1, "computeEnvironment": "local"}]
    low = written("JobQueue", "low", {"priority": 0, "computeEnvironmentOrder": order})
    hour = {"timeout": {"attemptDurationSeconds": 3600}}
    two_hours = {"timeout": {"attemptDurationSeconds": 7200}}
    waits = {
        "head": {"jobQueue": "main", "jobDefinition": "large", **hour},
        "behind": {"jobQueue": "low", "jobDefinition": "work", **two_hours},
    }
    with overheard() as made:
        played = play(
            {"half": hour, "whole": two_hours},
            definitions={"large": {"podTemplate": pod_template("2")}},
            queue={"backfill": True},
            others=[low],
            max_vcpus=2,
            behaviors=[{"job": "whole", "runtime": "119m"}, {"job": "*", "runtime": "59m"}],
            events=[
                {"at": "10s", "apply": written("BatchJob", name, spec)}
                for name, spec in waits.items()
            ],
        )
    said = {job: (one.p90 - EPOCH).total_seconds() for job, one, _ in reversed(made)}

    assert played.at("RUNNING", "head") < played.at("RUNNING", "behind")
    assert said["head"] == pytest.approx(played.at("RUNNING", "head"), abs=300)
    assert said["behind"] == pytest.approx(played.at("RUNNING", "behind"), abs=300)
