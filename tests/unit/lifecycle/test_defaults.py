"""What is not said of something is not so: nobody may have to say it everywhere."""

from __future__ import annotations

from dataclasses import MISSING, fields
from datetime import timedelta

from batch_operator.api import meta
from batch_operator.api.job import BatchJobStatus, JobState
from batch_operator.lifecycle.attempt import Phase, PodAttempt, observed_attempt
from batch_operator.lifecycle.dependencies import Gate
from batch_operator.lifecycle.evaluate import Refusal, evaluate, evaluate_final
from batch_operator.lifecycle.members import members_of
from batch_operator.lifecycle.stops import Policy
from support.builders import START, attempt, job, plan, pod


def test_of_an_attempt_that_was_only_asked_for_nothing_is_known_but_that_it_counts() -> None:
    """Cancelled, marked, gated, bound to a kind of node: all that shows when there is a Pod."""
    asked = PodAttempt(
        namespace="default",
        pod_name="job-1",
        pod_uid="",
        resource_version=0,
        job_uid="uid-job",
        index=0,
        number=1,
        revision=1,
        environment="local",
        milli_cpu=1000,
        phase=Phase.ASSUMED,
    )
    unsaid = [one.name for one in fields(PodAttempt) if one.default is not MISSING]

    assert [name for name in unsaid if getattr(asked, name)] == ["retryable"]
    assert not asked.is_job
    assert asked.is_on_its_way


def test_a_job_begins_anew_with_one_pod_after_a_refusal() -> None:
    refused = Refusal("exceeded quota", START, final=False)
    one = job(arrayProperties={"size": 9})
    look = evaluate(
        one, [], plan(), Gate(members_of(one)), policy=Policy(), now=START, refusal=refused
    )

    assert look.start_limit == 1


def test_a_job_that_is_over_starts_nothing() -> None:
    """Nor is it deleted, if nobody said after which time."""
    over = job(status=BatchJobStatus(state=JobState.FAILED))
    look = evaluate_final(over, [attempt(Phase.RUNNING)], START + timedelta(days=900))

    assert (look.start_limit, look.expired) == (0, False)


def test_a_mark_that_somebody_has_written_is_cut_to_the_length_of_a_status_reason() -> None:
    mark = "Preempted: " + "x" * 2000
    found = observed_attempt(pod(annotations={meta.ANNOTATION_REQUEUED: mark})).requeued

    assert found == mark[:1024]
