"""Whether a failed attempt is followed by another: the user guide's rules, one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_operator.api.common import RetryStrategy
from batch_operator.lifecycle.attempt import Phase
from batch_operator.lifecycle.retry import is_retried, memory_factor, with_grown_memory
from support.builders import attempt
from support.strategies import failures

EXITED = "Essential container in task exited"
LOST = "Host EC2 (instance node-1) terminated."
OOM = "OutOfMemoryError: Container killed due to memory usage"

Failure = tuple[int | None, str | None, str | None]


def retried(used: int, attempts: int, rules: list[dict[str, Any]], failure: Failure) -> bool:
    strategy = RetryStrategy.model_validate({"attempts": attempts, "evaluateOnExit": rules})
    exit_code, reason, status_reason = failure
    failed = attempt(Phase.FAILED, exit_code=exit_code, reason=reason, status_reason=status_reason)
    return is_retried(strategy, failed, attempts_used=used)


def test_a_job_is_tried_once_unless_it_says_otherwise() -> None:
    """AWS Batch, retry strategy: attempts counts the first try too and is 1 by default."""
    assert not is_retried(RetryStrategy(), attempt(Phase.FAILED), attempts_used=1)


@given(st.integers(1, 10), failures())
def test_what_was_stopped_on_purpose_is_never_retried(attempts: int, why: Failure) -> None:
    """AWS Batch, retry strategy: cancelled, terminated and timed-out jobs are not retried."""
    exit_code, reason, status_reason = why
    stopped = attempt(
        Phase.FAILED,
        exit_code=exit_code,
        reason=reason,
        status_reason=status_reason,
        retryable=False,
    )

    assert not is_retried(RetryStrategy(attempts=attempts), stopped, attempts_used=0)


@given(st.integers(1, 10), st.integers(1, 12), failures())
def test_attempts_is_the_number_of_tries_in_total(attempts: int, used: int, why: Failure) -> None:
    """AWS Batch, retry strategy: 1 to 10 times moved to RUNNABLE, the first included."""
    assert retried(used, attempts, [], why) == (used < attempts)


@given(st.integers(1, 10), failures())
def test_no_rule_grants_more_than_attempts(attempts: int, why: Failure) -> None:
    assert not retried(attempts, attempts, [{"action": "RETRY", "onReason": "*"}], why)


RETRY_ON_HOST = {"action": "RETRY", "onStatusReason": "Host EC2*"}
EXIT_ON_REST = {"action": "EXIT", "onReason": "*"}

RULES: dict[str, tuple[list[dict[str, Any]], Failure, bool]] = {
    "no rules: retry": ([], (1, None, EXITED), True),
    "an equal exit code": ([{"action": "EXIT", "onExitCode": "1"}], (1, None, EXITED), False),
    "an exit code that begins alike is another": (
        [{"action": "EXIT", "onExitCode": "1"}],
        (13, None, EXITED),
        True,
    ),
    "a prefix of the decimal exit code": (
        [{"action": "EXIT", "onExitCode": "13*"}],
        (137, None, EXITED),
        False,
    ),
    "a prefix is compared up to its end": (
        [{"action": "EXIT", "onExitCode": "13*"}],
        (127, None, EXITED),
        True,
    ),
    "a prefix that is the whole exit code": (
        [{"action": "EXIT", "onExitCode": "137*"}],
        (137, None, EXITED),
        False,
    ),
    "exit code 0 of a container that failed its Pod": (
        [{"action": "EXIT", "onExitCode": "0"}],
        (0, None, EXITED),
        False,
    ),
    "no exit code matches no code": (
        [{"action": "EXIT", "onExitCode": "1*"}],
        (None, None, LOST),
        True,
    ),
    "no exit code matches the catch-all": (
        [{"action": "EXIT", "onExitCode": "*"}],
        (None, None, LOST),
        False,
    ),
    "a prefix of the reason": (
        [{"action": "EXIT", "onReason": "CannotPullContainerError:*"}],
        (None, "CannotPullContainerError: no such image", "Task failed to start"),
        False,
    ),
    "a reason without its end is another": (
        [{"action": "EXIT", "onReason": "OutOfMemoryError"}],
        (137, OOM, EXITED),
        True,
    ),
    "an equal reason": ([{"action": "EXIT", "onReason": OOM}], (137, OOM, EXITED), False),
    "a reason in the wrong case is another": (
        [{"action": "EXIT", "onReason": OOM.lower()}],
        (137, OOM, EXITED),
        True,
    ),
    "an absent reason matches no prefix": (
        [{"action": "EXIT", "onReason": "Out*"}],
        (1, None, EXITED),
        True,
    ),
    "an absent reason matches the catch-all": ([EXIT_ON_REST], (1, None, EXITED), False),
    "a lost host": ([RETRY_ON_HOST, EXIT_ON_REST], (None, None, LOST), True),
    "a failure of the program, where only lost hosts are retried": (
        [RETRY_ON_HOST, EXIT_ON_REST],
        (1, None, EXITED),
        False,
    ),
    "conditions of one rule are all needed": (
        [{"action": "EXIT", "onExitCode": "137", "onReason": "OutOfMemoryError*"}],
        (137, None, EXITED),
        True,
    ),
    "conditions of one rule that all hold": (
        [
            {
                "action": "EXIT",
                "onExitCode": "137",
                "onReason": "OutOfMemoryError*",
                "onStatusReason": "Essential*",
            }
        ],
        (137, OOM, EXITED),
        False,
    ),
    "the first rule that matches decides: exit": (
        [{"action": "EXIT", "onExitCode": "1"}, {"action": "RETRY", "onReason": "*"}],
        (1, None, EXITED),
        False,
    ),
    "the first rule that matches decides: retry": (
        [{"action": "RETRY", "onExitCode": "1"}, {"action": "EXIT", "onReason": "*"}],
        (1, None, EXITED),
        True,
    ),
    "a rule that does not match is passed over": (
        [{"action": "EXIT", "onExitCode": "2"}, {"action": "RETRY", "onExitCode": "3"}],
        (3, None, EXITED),
        True,
    ),
    "no rule matches: retry": (
        [{"action": "EXIT", "onExitCode": "2"}, {"action": "EXIT", "onReason": "Docker*"}],
        (3, OOM, EXITED),
        True,
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_are_tried_in_order_and_the_first_match_decides(name: str) -> None:
    """AWS Batch, retry strategy: evaluateOnExit; conditions of an entry are ANDed."""
    rules, failure, expected = RULES[name]

    assert retried(1, 2, rules, failure) is expected


def test_after_an_out_of_memory_every_container_gets_more_up_to_the_cap_and_never_less() -> None:
    """Beyond AWS Batch: retryStrategy.onOutOfMemory; after two losses four times as much."""
    strategy = RetryStrategy.model_validate(
        {"attempts": 3, "onOutOfMemory": {"factor": 2, "maxMemory": "6Gi"}}
    )
    rule = strategy.on_out_of_memory
    both = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    large = {"limits": {"memory": "8192Mi"}}
    spec = {
        "containers": [{"name": "main", "resources": both}, {"name": "large", "resources": large}],
        "initContainers": [{"name": "init"}],
    }

    assert rule is not None
    assert with_grown_memory({"spec": spec}, memory_factor(strategy, 2), rule)["spec"] == {
        "containers": [
            {
                "name": "main",
                "resources": {
                    "requests": {"cpu": "1", "memory": "4096Mi"},
                    "limits": {"memory": "6144Mi"},
                },
            },
            {"name": "large", "resources": large},
        ],
        "initContainers": [{"name": "init"}],
    }
