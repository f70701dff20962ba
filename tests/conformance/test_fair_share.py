"""Fair-share scheduling: who is served next, and what is kept for those still to come."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from conformance.rules import rule
from support.play import Played, batch_job, later, play, refusal, written

FAIR = {"schedulingPolicy": "fair"}
SLOW = [{"job": "*", "runtime": "1h"}]


def policy(weights: dict[str, float] | None = None, **fields: int) -> dict[str, Any]:
    listed = [{"shareIdentifier": one, "weightFactor": w} for one, w in (weights or {}).items()]
    fairshare = {"shareDistribution": listed, **fields}
    return written("SchedulingPolicy", "fair", {"fairsharePolicy": fairshare})


def share(name: str, size: int | None = None, **spec: Any) -> dict[str, Any]:
    array = {"arrayProperties": {"size": size}} if size else {}
    return {"shareIdentifier": name, **array, **spec}


def at(seconds: float, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An event: a job is submitted."""
    return {"at": f"{seconds}s", "apply": batch_job(name, **spec)}


def fair(jobs: dict[str, Any], one: dict[str, Any] | None = None, **more: Any) -> Played:
    """Play jobs in a queue with a policy."""
    return play(jobs, queue=FAIR, others=[one or policy(), *more.pop("others", [])], **more)


def begun(played: Played, until_s: float = 1e9) -> Counter[str]:
    """How many children, or jobs, had been given a node by a time, by job."""
    changes = played.outcome.transitions
    return Counter(one.job for one in changes if one.after == "STARTING" and one.at_s < until_s)


def order(played: Played) -> list[str]:
    """Jobs in the order in which they, or children of theirs, were given a node."""
    return [job for job, index in played.order("STARTING")]


@rule("fair.bounds")
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"shareDecaySeconds": 604_800}, {"shareDecaySeconds": 604_801}),
        ({"shareDecaySeconds": 0}, {"shareDecaySeconds": -1}),
        ({"computeReservation": 99}, {"computeReservation": 100}),
        ({"computeReservation": 0}, {"computeReservation": -1}),
        *(
            (
                {"shareDistribution": [{"shareIdentifier": "a", "weightFactor": good}]},
                {"shareDistribution": [{"shareIdentifier": "a", "weightFactor": bad}]},
            )
            for good, bad in ((0.0001, 0.00009), (999.9999, 1000))
        ),
    ],
)
def test_bounds_of_a_policy(good: Any, bad: Any) -> None:
    """Fair-share scheduling: FairsharePolicy and ShareAttributes."""
    assert refusal("SchedulingPolicy", {"fairsharePolicy": good}) is None
    assert refusal("SchedulingPolicy", {"fairsharePolicy": bad}) is not None


@rule("fair.overlap")
def test_a_queue_whose_policy_contradicts_itself_starts_nothing_and_says_why() -> None:
    """Fair-share scheduling: shareIdentifier of ShareAttributes."""
    played = fair({"a": share("UserA1")}, policy({"UserA*": 1, "UserA1": 2}), until="1h")

    assert played.waits_for("a") == "JobQueueNotReady"
    assert "UserA* and UserA1" in played.final("a")["pending"]["message"]
    status = played.outcome.statuses["SchedulingPolicy", "", "fair"]
    assert "UserA* and UserA1" in status["conditions"][-1]["message"]


@rule("fair.lower-weight")
def test_an_eighth_of_the_weight_gets_eight_times_as_much() -> None:
    """Fair-share scheduling: weightFactor."""
    jobs = {"heavy": share("a", 20), "light": share("b", 20)}
    played = fair(jobs, policy({"a": 1, "b": 0.125}), max_vcpus=9, behaviors=SLOW, until="30m")

    assert begun(played) == {"heavy": 1, "light": 8}


@rule("fair.unlisted")
def test_who_is_not_listed_weighs_one() -> None:
    """Fair-share scheduling: share identifiers without a weight."""
    jobs = {"listed": share("a", 20), "not": share("b", 20), "half": share("c", 20)}
    weights = policy({"a": 1, "c": 0.5})
    played = fair(jobs, weights, max_vcpus=8, behaviors=SLOW, until="30m")

    assert begun(played) == {"listed": 2, "not": 2, "half": 4}


@rule("fair.prefix")
def test_who_begins_alike_shares_a_weight() -> None:
    """Fair-share scheduling: share identifiers that end in an asterisk."""
    jobs = {"a1": share("UserA1", 20), "a2": share("UserA2", 20), "b": share("UserB", 20)}
    played = fair(jobs, policy({"UserA*": 1}), max_vcpus=8, behaviors=SLOW, until="30m")

    assert begun(played) == {"a1": 2, "a2": 2, "b": 4}
    factors = {one["shareIdentifier"]: one["weightFactor"] for one in played.queue()["shares"]}
    assert factors == {"UserA1": 2, "UserA2": 2, "UserB": 1}


@rule("fair.lowest-usage")
def test_who_has_used_less_goes_first() -> None:
    """Fair-share scheduling: usage is vCPUs over time, by weight."""
    jobs = {"before": share("a"), "runs": share("b"), "older": share("a")}
    played = fair(jobs, max_vcpus=1, events=[at(1, "newer", share("c"))])

    assert order(played) == ["before", "runs", "newer", "older"]


@rule("fair.per-queue")
def test_usage_in_another_queue_does_not_count() -> None:
    """Fair-share scheduling: share identifiers are a queue's own."""
    environments = [{"order": 1, "computeEnvironment": "local"}]
    queue = {"priority": 9, "computeEnvironmentOrder": environments, **FAIR}
    jobs = {"elsewhere": share("a", jobQueue="other")}
    events = [at(5, "first", share("a")), at(5, "second", share("b"))]
    other = written("JobQueue", "other", queue)
    played = fair(jobs, others=[other], max_vcpus=1, events=events)
    together = fair({"elsewhere": share("a")}, max_vcpus=1, events=events)

    assert order(played) == ["elsewhere", "first", "second"]
    assert order(together) == ["elsewhere", "second", "first"]


@rule("fair.priority")
def test_within_a_share_the_higher_priority_goes_first() -> None:
    """Fair-share scheduling: schedulingPriority."""
    jobs = {
        "runs": share("a"),
        "low": share("a"),
        "high": share("a", schedulingPriority=5),
        "high-too": share("a", schedulingPriority=5),
        "highest": share("a", schedulingPriority=9999),
    }
    played = fair(dict(sorted(jobs.items())), max_vcpus=1, events=[])

    assert order(played) == ["highest", "high", "high-too", "low", "runs"]


@rule("fair.priority-within")
def test_priority_does_not_cross_shares() -> None:
    """Fair-share scheduling: schedulingPriority orders jobs of one share."""
    jobs = {"a": share("a", 4, schedulingPriority=9999), "b": share("b", 4)}
    played = fair(jobs, max_vcpus=4, behaviors=SLOW, until="30m")

    assert begun(played) == {"a": 2, "b": 2}


@rule("fair.decay")
@pytest.mark.parametrize(
    ("window_s", "first"), [(0, "a-again"), (600, "a-again"), (604_800, "b-again")]
)
def test_what_was_used_long_ago_hardly_counts(window_s: int, first: str) -> None:
    """Fair-share scheduling: shareDecaySeconds."""
    events = [
        at(1300, "b", share("b")),
        at(1350, "a-again", share("a")),
        at(1350, "b-again", share("b")),
    ]
    played = fair(
        {"a": share("a")},
        policy(shareDecaySeconds=window_s),
        max_vcpus=1,
        behaviors=[{"job": "a", "runtime": "300s"}, {"job": "b", "runtime": "100s"}],
        events=events,
    )

    assert order(played)[:3] == ["a", "b", first]


@rule("fair.active")
@pytest.mark.parametrize(("since_s", "usable"), [(100, 6), (1000, 4)])
def test_a_share_is_active_for_a_window_after_its_last_job(since_s: int, usable: int) -> None:
    """Fair-share scheduling: active share identifiers."""
    played = fair(
        {"past": share("b")},
        policy(computeReservation=50),
        max_vcpus=8,
        behaviors=[{"job": "a", "runtime": "1h"}],
        events=[at(since_s, "a", share("a", 20))],
        until="30m",
    )

    assert begun(played)["a"] == usable


@rule("fair.active-limit")
def test_more_shares_than_aws_takes_are_served_alike() -> None:
    """Fair-share scheduling: quotas."""
    played = fair({f"j{one}": share(f"s{one}") for one in range(501)}, max_vcpus=501)

    assert set(played.outcome.states().values()) == {("SUCCEEDED", 1)}
    assert len(played.queue()["shares"]) == 500


@rule("fair.reservation")
def test_something_is_kept_for_shares_that_are_not_active() -> None:
    """Fair-share scheduling: computeReservation."""
    played = fair(
        {"a": share("a", 20)},
        policy(computeReservation=50),
        max_vcpus=8,
        behaviors=SLOW,
        events=[at(100, "b", share("b", 20)), at(200, "c", share("c", 20))],
        until="30m",
    )

    assert [begun(played, until_s).total() for until_s in (100, 200, 1800)] == [4, 6, 7]


def test_a_job_that_needs_what_is_kept_does_not_stop_the_others() -> None:
    """It starts once so many shares are active that there is room for it."""
    large = share("a", containerOverrides=[{"resources": {"requests": {"cpu": "3"}}}])
    jobs = {"large": large, "small": share("a")}
    half = policy(computeReservation=50)
    alone = fair(jobs, half, max_vcpus=4, until="1h")
    busy = fair({"large": large, "a": share("a", 9)}, half, max_vcpus=4, behaviors=SLOW, until="1h")
    joined = fair(jobs, half, max_vcpus=4, events=[at(1000, "other", share("b"))])

    assert alone.state("small") == "SUCCEEDED"
    assert alone.waits_for("large") == busy.waits_for("large") == "ComputeReservation"
    assert joined.state("large") == "SUCCEEDED"
    assert joined.at("STARTING", "large") >= 1000


@rule("fair.reservation-of-what")
def test_it_is_a_part_of_max_vcpus() -> None:
    """Fair-share scheduling: computeReservation of an UNMANAGED environment."""
    one = policy(computeReservation=90)
    played = fair({"a": share("a", 20)}, one, max_vcpus=10, behaviors=SLOW, until="30m")

    assert begun(played) == {"a": 1}


@rule("fair.not-preemptive")
def test_what_runs_is_left_alone() -> None:
    """Fair-share scheduling: jobs that run are not stopped for others."""
    played = fair(
        {"a": share("a", 4)},
        max_vcpus=4,
        behaviors=[{"job": "a", "runtime": "10m"}],
        events=[at(60, "b", share("b"))],
    )

    assert played.at("STARTING", "b") >= 600
    assert played.attempts("a") == 4


@rule("fair.policy-in-use")
def test_without_its_policy_a_queue_starts_nothing_until_it_is_applied_again() -> None:
    """Fair-share scheduling: DeleteSchedulingPolicy."""
    policies = {"kind": "SchedulingPolicy", "name": "fair"}
    events = [
        {"at": "10s", "delete": policies},
        at(20, "older", share("a")),
        at(20, "newer", share("b")),
        {"at": "500s", "apply": policy()},
    ]
    played = fair({"runs": share("a")}, max_vcpus=1, events=events, behaviors=[
        {"job": "runs", "runtime": "100s"}
    ])  # fmt: skip
    stopped = fair({"runs": share("a")}, max_vcpus=1, events=events[:2], until="1h")

    assert played.state("runs") == "SUCCEEDED"
    assert played.at("STARTING", "newer") >= 500
    assert order(played) == ["runs", "newer", "older"]
    assert stopped.waits_for("older") == "JobQueueNotReady"


@rule("fair.update")
def test_new_weights_count_at_once() -> None:
    """Fair-share scheduling: UpdateSchedulingPolicy."""
    jobs = {"a": share("a", 60), "b": share("b", 60)}
    weights = policy({"a": 0.001})["spec"]
    played = fair(
        jobs,
        max_vcpus=6,
        behaviors=[{"job": "*", "runtime": "60s"}],
        events=[later("30s", "SchedulingPolicy", "fair", **weights)],
        until="100s",
    )

    assert begun(played, 30) == {"a": 3, "b": 3}
    assert begun(played)["a"] == 3 + 6


@rule("fair.replace")
def test_a_queues_policy_can_only_be_replaced() -> None:
    """Fair-share scheduling: schedulingPolicyArn of UpdateJobQueue."""
    sentence = "schedulingPolicy can be neither added nor removed, only replaced"

    fifo = {"priority": 1, "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "a"}]}

    assert sentence in (refusal("JobQueue", {**fifo, **FAIR}, fifo) or "")
    assert sentence in (refusal("JobQueue", fifo, {**fifo, **FAIR}) or "")
    assert refusal("JobQueue", {**fifo, "schedulingPolicy": "new"}, {**fifo, **FAIR}) is None
