"""The words for why a job does not run: those of AWS letter by letter, and our own tokens."""

from __future__ import annotations

import pytest

from batch_operator.api.job_queue import JobStateTimeLimitAction
from batch_operator.lifecycle.holds import REQUIREMENT_REASON, Hold, Reason, capacity_reason
from batch_operator.lifecycle.limits import unknown_reason


def test_a_token_is_the_name_of_its_reason() -> None:
    """Scripts compare them; PascalCase, as the reasons of Kubernetes' conditions are."""
    assert {one.value for one in Reason} == {one.name.title().replace("_", "") for one in Reason}


@pytest.mark.parametrize(
    "code",
    [
        "ACTION_REQUIRED",
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
    ],
)
def test_a_time_limit_may_ask_for_a_code_of_aws(code: str) -> None:
    """API, JobStateTimeLimitAction.reason; ACTION_REQUIRED beyond AWS Batch."""
    rule = JobStateTimeLimitAction(
        reason=code, state="RUNNABLE", max_time_seconds=600, action="CANCEL"
    )

    assert unknown_reason([rule]) is None


def test_a_blocked_job_is_told_in_the_words_of_aws() -> None:
    """User guide, "Troubleshooting", jobs that are stuck in RUNNABLE."""
    assert capacity_reason("local") == (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested "
        "for instance type [local]"
    )
    assert REQUIREMENT_REASON == (
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement "
        "(vCPU/memory/GPU) is higher than that can be met by the CE(s) attached to the job queue."
    )


def test_what_holds_a_job_passes_by_waiting_unless_something_else_is_said() -> None:
    assert not Hold(Reason.BEHIND_OTHERS, "number 2").stalled
