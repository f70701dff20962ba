"""Job retries: how often, and what evaluateOnExit decides."""

from __future__ import annotations

from typing import Any

import pytest

from batch_operator.lifecycle.attempt import Phase
from conformance.rules import rule
from support.builders import pod_template
from support.managed import LARGE, elastic, play_elastic
from support.play import batch_job, later, play, pods_of, refusal_of_job, world_of

Rules = list[dict[str, str]]
EXIT_ON_REST = {"action": "EXIT", "onReason": "*"}


def _tries(*cases: tuple[Rules, dict[str, Any]]) -> list[int]:
    """How often jobs of three attempts are tried, by rules and by what their containers do."""
    named = {f"job-{number}": case for number, case in enumerate(cases)}
    played = play(
        {
            name: {"retryStrategy": {"attempts": 3, "evaluateOnExit": rules}}
            for name, (rules, _) in named.items()
        },
        behaviors=[{"job": name, "exitCode": 1, **does} for name, (_, does) in named.items()],
    )

    assert {played.state(name) for name in named} == {"FAILED"}
    return [played.attempts(name) for name in named]


def _refusal(**strategy: Any) -> str | None:
    return refusal_of_job(retryStrategy=strategy)


def _pattern_is_taken(field: str, pattern: str) -> bool:
    rules = [{"action": "RETRY", field: pattern}]
    return _refusal(attempts=2, evaluateOnExit=rules) is None


@rule("retry.default-once")
def test_a_job_is_tried_once_unless_it_says_otherwise() -> None:
    """Job retries: no RetryStrategy."""
    played = play({"a": {}, "b": {"retryStrategy": {}}}, behaviors=[{"exitCode": 1}])

    assert (played.attempts("a"), played.attempts("b")) == (1, 1)


@rule("retry.attempts-total")
def test_attempts_are_tries_in_total() -> None:
    """Job retries: RetryStrategy.attempts."""
    jobs = {f"job-{total}": {"retryStrategy": {"attempts": total}} for total in (1, 2, 5)}
    played = play(jobs, behaviors=[{"exitCode": 1}])

    assert [played.attempts(name) for name in jobs] == [1, 2, 5]


@rule("retry.attempts-range")
def test_attempts_are_one_to_ten() -> None:
    """Job retries: bounds of RetryStrategy.attempts."""
    assert [number for number in range(-1, 13) if _refusal(attempts=number) is None] == [
        *range(1, 11)
    ]


@rule("retry.rules-max")
def test_there_are_at_most_five_rules() -> None:
    """Job retries: length of evaluateOnExit."""
    assert _refusal(attempts=2, evaluateOnExit=[EXIT_ON_REST] * 5) is None
    assert _refusal(attempts=2, evaluateOnExit=[EXIT_ON_REST] * 6) is not None


@rule("retry.rules-need-attempts")
def test_rules_without_attempts_grant_no_second_try() -> None:
    """Job retries: evaluateOnExit without attempts."""
    strategy = {"evaluateOnExit": [{"action": "RETRY", "onReason": "*"}]}
    played = play({"a": {"retryStrategy": strategy}}, behaviors=[{"exitCode": 1}])

    assert played.attempts("a") == 1


@rule("retry.action")
def test_actions_are_written_in_upper_case() -> None:
    """Job retries: EvaluateOnExit.action."""
    for action, is_taken in {"RETRY": True, "EXIT": True, "retry": False, "exit": False}.items():
        rules = [{"action": action, "onReason": "*"}]

        assert (_refusal(attempts=2, evaluateOnExit=rules) is None) == is_taken
    assert _refusal(attempts=2, evaluateOnExit=[{"onReason": "*"}]) is not None


@rule("retry.condition-optional")
def test_a_rule_needs_a_condition() -> None:
    """Job retries: an EvaluateOnExit without a condition."""
    wanted = "give at least one of onExitCode, onReason and onStatusReason"

    assert wanted in (_refusal(attempts=2, evaluateOnExit=[{"action": "EXIT"}]) or "")
    assert _refusal(attempts=2, evaluateOnExit=[EXIT_ON_REST]) is None


@rule("retry.conditions-anded")
def test_all_conditions_of_a_rule_must_match() -> None:
    """Job retries: several conditions in one EvaluateOnExit."""
    memory = {"action": "EXIT", "onExitCode": "137", "onReason": "OutOfMemoryError*"}

    both = {"exitCode": 137, "reason": "OOMKilled"}
    code, reason = {"exitCode": 137}, {"reason": "OOMKilled", "exitCode": 1}

    assert _tries(([memory], both), ([memory], code), ([memory], reason)) == [1, 3, 3]


@rule("retry.first-match")
def test_the_first_rule_that_matches_decides() -> None:
    """Job retries: the order of evaluateOnExit."""
    retry = {"action": "RETRY", "onExitCode": "1"}

    retry_first, exit_first = [retry, EXIT_ON_REST], [EXIT_ON_REST, retry]

    assert _tries((retry_first, {}), (exit_first, {}), (retry_first, {"exitCode": 2})) == [3, 1, 1]


@rule("retry.no-match-retries")
def test_a_failure_that_no_rule_is_about_is_retried() -> None:
    """Job retries: no EvaluateOnExit matches."""
    rules = [[{"action": action, "onExitCode": "42"}] for action in ("EXIT", "RETRY")]

    assert _tries(*((one, {}) for one in rules)) == [3, 3]


@rule("retry.catch-all")
def test_the_catch_all_matches_where_there_is_no_reason() -> None:
    """Job retries: onReason "*"."""
    by_status = {"action": "EXIT", "onStatusReason": "*"}

    assert _tries(([EXIT_ON_REST], {}), ([by_status], {})) == [1, 1]


@rule("retry.pattern")
def test_a_pattern_is_a_word_or_a_prefix() -> None:
    """Job retries: patterns of EvaluateOnExit."""
    tries = {
        "Essential container in task exited": 1,
        "Essential container*": 1,
        "Essential container": 3,
        "essential container*": 3,
        "container in task exited*": 3,
    }
    rules: list[Rules] = [[{"action": "EXIT", "onStatusReason": pattern}] for pattern in tries]

    assert _tries(*((one, {}) for one in rules)) == list(tries.values())
    for field in ("onReason", "onStatusReason", "onExitCode"):
        for pattern in ("*1", "1*1", "1?", "**", "[1]", ""):
            assert not _pattern_is_taken(field, pattern)


@rule("retry.pattern-length")
def test_a_pattern_has_at_most_512_characters() -> None:
    """Job retries: length of patterns."""
    for field in ("onReason", "onStatusReason", "onExitCode"):
        assert _pattern_is_taken(field, "1" * 512)
        assert not _pattern_is_taken(field, "1" * 513)


@rule("retry.exit-code")
def test_exit_codes_are_compared_in_decimal() -> None:
    """Job retries: onExitCode."""
    rules = [[{"action": "EXIT", "onExitCode": pattern}] for pattern in ("137", "13*", "13")]

    assert _tries(*((one, {"exitCode": 137}) for one in rules)) == [1, 1, 3]
    assert not _pattern_is_taken("onExitCode", "x1")


@rule("retry.exit-code-missing")
def test_only_the_catch_all_matches_a_missing_exit_code() -> None:
    """Job retries: onExitCode without an exit code."""
    rules = [[{"action": "EXIT", "onExitCode": pattern}] for pattern in ("1*", "*")]

    assert _tries(*((one, {"reason": "CreateContainerError"}) for one in rules)) == [3, 1]


@rule("retry.reason-alphabet")
def test_patterns_have_an_alphabet() -> None:
    """Job retries: characters of onReason and onStatusReason."""
    for field in ("onReason", "onStatusReason"):
        assert _pattern_is_taken(field, "Host EC2: a.b\t1*")
        assert not _pattern_is_taken(field, "a/b")
    assert _pattern_is_taken("onStatusReason", "Host EC2 (instance my-node) terminated.")
    assert not _pattern_is_taken("onReason", "(a)")


@rule("retry.on-reason")
def test_on_reason_is_about_the_container() -> None:
    """Job retries: onReason."""
    pull = {"action": "EXIT", "onReason": "CannotPullContainerError*"}

    exited = {"action": "EXIT", "onReason": "Essential*"}
    cases = [
        ([pull], {"reason": "ErrImagePull"}),
        ([pull], {"reason": "OOMKilled"}),
        ([exited], {}),
    ]

    assert _tries(*cases) == [1, 3, 3]


@rule("retry.on-status-reason")
def test_on_status_reason_is_about_the_attempt() -> None:
    """Job retries: onStatusReason."""
    start = {"action": "EXIT", "onStatusReason": "Task failed to start"}

    assert _tries(([start], {"reason": "CreateContainerError"}), ([start], {})) == [1, 3]


@rule("retry.host-lost")
def test_a_lost_host_is_retried() -> None:
    """Job retries: host failures."""
    retry_on_host = {"action": "RETRY", "onStatusReason": "Host EC2*"}
    strategy = {"attempts": 2, "evaluateOnExit": [retry_on_host, EXIT_ON_REST]}
    local = {"computeEnvironment": "local", "vcpus": 4, "memory": "8Gi", "count": 2}
    played = play(
        {"a": {"retryStrategy": strategy}},
        behaviors=[{"attempt": 1, "runtime": "1h"}],
        events=[{"at": "60s", "interruptNodes": {"computeEnvironment": "local", "count": 1}}],
        nodes=[local],
    )

    assert (played.state("a"), played.attempts("a")) == ("SUCCEEDED", 2)


@rule("retry.not-on-request")
def test_a_job_that_was_ended_on_request_is_not_retried() -> None:
    """Job retries: cancelled and terminated jobs."""
    strategy = {"retryStrategy": {"attempts": 5}}
    fails = [{"runtime": "60s", "exitCode": 1}]
    played = play(
        {"a": strategy, "b": strategy},
        behaviors=fails,
        events=[
            later("30s", name="a", cancel={"reason": "no"}),
            later("30s", name="b", terminate={"reason": "no"}),
        ],
    )

    assert (played.attempts("a"), played.attempts("b")) == (1, 1)
    assert played.state("a") == played.state("b") == "FAILED"


@rule("retry.not-on-timeout")
def test_a_job_that_timed_out_is_not_retried() -> None:
    """Job retries: timed-out jobs."""
    job = {"timeout": {"attemptDurationSeconds": 60}, "retryStrategy": {"attempts": 5}}
    played = play({"a": job}, behaviors=[{"runtime": "1h"}])

    assert (played.state("a"), played.attempts("a")) == ("FAILED", 1)


@rule("retry.not-when-invalid")
def test_a_job_that_is_invalid_is_not_tried_again() -> None:
    """Job retries: invalid job definitions."""
    job = {"containerOverrides": [{"name": "nobody"}], "retryStrategy": {"attempts": 5}}
    played = play({"a": job})

    assert played.path("a") == ["SUBMITTED", "FAILED"]


@rule("retry.front")
def test_a_retry_goes_to_the_front_of_the_queue() -> None:
    """Job retries: the place in the queue."""
    played = play(
        {"a": {}, "b": {"retryStrategy": {"attempts": 2}}, "c": {}, "d": {}},
        max_vcpus=1,
        behaviors=[{"job": "b", "attempt": 1, "exitCode": 1}],
        events=[{"at": "1s", "apply": batch_job("e")}],
    )

    assert [name for name, _ in played.order()] == ["a", "b", "b", "c", "d", "e"]


def test_a_retry_goes_before_what_was_submitted_earlier() -> None:
    """Job retries: the place in the queue. `old` has to wait for two vCPUs when `b` fails."""
    played = play(
        {
            "old": {"jobDefinition": "large", "dependsOn": [{"job": "gate"}]},
            "gate": {},
            "b": {"retryStrategy": {"attempts": 2}},
        },
        definitions={"large": {"podTemplate": pod_template("2")}},
        max_vcpus=2,
        behaviors=[
            {"job": "gate", "runtime": "30s"},
            {"job": "b", "attempt": 1, "exitCode": 1, "runtime": "60s"},
        ],
    )

    assert [name for name, _ in played.order()] == ["gate", "b", "b", "old"]


@rule("retry.same-resources")
def test_every_attempt_asks_for_the_same() -> None:
    """Job retries: resources of a retry."""
    world = world_of(retryStrategy={"attempts": 3})
    for reason in (None, "OutOfMemoryError: Container killed due to memory usage"):
        world.move(world.live()[0], Phase.FAILED, reason=reason)
        world.settle()
    resources = [pod["spec"]["containers"][0]["resources"] for pod in pods_of(world)]

    assert resources == [{"requests": {"cpu": "1"}}] * 3


@rule("retry.recorded")
def test_every_attempt_is_listed() -> None:
    """Job retries: JobDetail.attempts."""
    world = world_of(retryStrategy={"attempts": 2})
    for number in (1, 2):
        world.move(world.live()[0], Phase.RUNNING, node_name="node")
        world.tick(30)
        world.move(world.live()[0], Phase.FAILED, exit_code=number, reason=f"Because: {number}")
        world.settle()
    rows = world.jobs["uid-a"].status.attempts

    assert [(row.attempt, row.exit_code, row.reason) for row in rows] == [
        (1, 1, "Because: 1"),
        (2, 2, "Because: 2"),
    ]
    for row in rows:
        assert row.started_at is not None
        assert row.stopped_at is not None
        assert (row.stopped_at - row.started_at).total_seconds() == 30
        assert row.status_reason == "Essential container in task exited"


@rule("retry.per-child")
def test_each_child_has_attempts_of_its_own() -> None:
    """Job retries: array jobs."""
    played = play(
        {"a": {"arrayProperties": {"size": 3}, "retryStrategy": {"attempts": 2}}},
        behaviors=[{"index": 0, "exitCode": 1}, {"index": 1, "attempt": 1, "exitCode": 1}],
    )
    runs = [played.path("a", index).count("RUNNING") for index in range(3)]

    assert runs == [2, 2, 1]
    assert played.counts("a") == {"SUCCEEDED": 2, "FAILED": 1}


@rule("retry.infrastructure-update")
@pytest.mark.parametrize(("attempts", "state"), [(1, "FAILED"), (2, "SUCCEEDED")])
def test_a_job_that_an_update_ended_is_retried_by_its_strategy(attempts: int, state: str) -> None:
    """Job retries: infrastructure updates."""
    played = play_elastic(
        {"a": {"retryStrategy": {"attempts": attempts}}},
        elastic(updatePolicy={"terminateJobsOnUpdate": True}),
        events=[later("60s", "ComputeEnvironment", "elastic", instanceTypes=[LARGE])],
        runtime="10m",
    )

    assert (played.state("a"), played.attempts("a")) == (state, attempts)
    assert played.rows("a")[0]["statusReason"].startswith("Host EC2")
