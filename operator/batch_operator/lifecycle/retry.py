"""Whether a failed attempt is followed by another: AWS Batch's retry strategy.

`attempts` is the total number of tries, the first included. `evaluateOnExit` entries are tried in
order; the first whose conditions all match decides; when none matches, the job is retried.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from batch_operator.api.common import RetryAction
from batch_operator.api.quantity import memory_bytes, memory_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.common import EvaluateOnExit, OnOutOfMemory, RetryStrategy
    from batch_operator.lifecycle.attempt import PodAttempt


def is_retried(strategy: RetryStrategy, failed: PodAttempt, *, attempts_used: int) -> bool:
    """Whether another attempt follows, `attempts_used` including the one that just failed."""
    if not failed.retryable or attempts_used >= strategy.attempts:
        return False
    for rule in strategy.evaluate_on_exit:
        if _matches(rule, failed.exit_code, failed.reason, failed.status_reason):
            return rule.action is RetryAction.RETRY
    return True


def memory_factor(strategy: RetryStrategy, times_out_of_memory: int) -> float:
    """What the memory of the next attempt is multiplied by (beyond AWS Batch).

    It compounds: with factor 2 the third attempt that follows two losses has four times the memory.
    """
    rule = strategy.on_out_of_memory
    return rule.factor**times_out_of_memory if rule else 1.0


def grown(resources: Mapping[str, Any], factor: float, rule: OnOutOfMemory) -> dict[str, Any]:
    """Requests and limits with more memory, up to the rule's cap but never less than before."""
    cap = memory_bytes(rule.max_memory)
    found = dict(resources)
    for part in ("requests", "limits"):
        amounts = resources.get(part) or {}
        if "memory" in amounts:
            before = memory_bytes(amounts["memory"])
            after = max(before, min(cap, ceil(before * factor)))
            found[part] = {**amounts, "memory": memory_text(after)}
    return found


def with_grown_memory(
    template: Mapping[str, Any], factor: float, rule: OnOutOfMemory
) -> dict[str, Any]:
    """A Pod's template whose containers have more memory."""
    spec = dict(template["spec"])
    for part in ("containers", "initContainers"):
        spec[part] = [
            {**one, "resources": grown(one["resources"], factor, rule)}
            if "resources" in one
            else one
            for one in spec[part]
        ]
    return {**template, "spec": spec}


def needs_on_demand(strategy: RetryStrategy, times_host_lost: int) -> bool:
    """Whether the next attempt keeps away from spot capacity (beyond AWS Batch)."""
    rule = strategy.on_host_lost
    return rule is not None and times_host_lost >= rule.move_to_on_demand_after


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
