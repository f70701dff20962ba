"""Whether a failed attempt is followed by another: AWS Batch's retry strategy.

`attempts` is the total number of tries, the first included. `evaluateOnExit` entries are tried in
order; the first whose conditions all match decides; when none matches, the job is retried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.common import RetryAction

if TYPE_CHECKING:
    from batch_operator.api.common import EvaluateOnExit, RetryStrategy


def is_retried(
    strategy: RetryStrategy,
    attempts_used: int,
    *,
    exit_code: int | None,
    reason: str | None,
    status_reason: str | None,
) -> bool:
    """Whether another attempt follows, `attempts_used` including the one that just failed."""
    if attempts_used >= strategy.attempts:
        return False
    for rule in strategy.evaluate_on_exit:
        if _matches(rule, exit_code, reason, status_reason):
            return rule.action is RetryAction.RETRY
    return True


def _matches(
    rule: EvaluateOnExit, exit_code: int | None, reason: str | None, status_reason: str | None
) -> bool:
    conditions = (
        (rule.on_exit_code, None if exit_code is None else str(exit_code)),
        (rule.on_reason, reason),
        (rule.on_status_reason, status_reason),
    )
    return all(
        _pattern_matches(pattern, value) for pattern, value in conditions if pattern is not None
    )


def _pattern_matches(pattern: str, value: str | None) -> bool:
    """Equality, or a prefix when the pattern ends in `*`; AWS knows no other wildcard.

    A bare `*` also matches an absent value: the documented catch-all `{onReason: "*"}` would miss
    the failures that carry no reason otherwise.
    """
    if pattern.endswith("*"):
        return pattern == "*" or (value is not None and value.startswith(pattern[:-1]))
    return value == pattern
