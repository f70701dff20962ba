"""How good the forecasts are: what a queue's status said, against what came."""

from __future__ import annotations

import pytest

from support.forecasts import Calibration, calibration


@pytest.mark.timeout(600)
def test_nine_of_ten_jobs_start_no_later_than_was_said() -> None:
    """What is said rests on the p90 of every attempt before it, so it errs on the late side."""
    found: Calibration = calibration()

    assert found.said > 1000
    assert found.kept / found.said >= 0.9
    # One that always said "tomorrow" would be kept, too.
    assert found.early_by < 0.5
