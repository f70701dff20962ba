"""Why a Pod that has a node does not start, where only Events tell: volumes, and its network.

A volume whose ConfigMap is missing, or that another node still holds, leaves no trace in a Pod's
status. So once a Pod has had its node for a while and its sandbox is not ready, the Events of its
namespace are read, and what kubelet says there counts as an error of its start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.lifecycle.attempt import Phase, StartError
from batch_operator.lifecycle.clocks import later
from batch_operator.lifecycle.outcomes import CANNOT_CREATE, REASON_LENGTH_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.stops import Policy

REASONS = frozenset(
    {"FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume", "FailedMount"}
)
"""Of kubelet's and the attach controller's Events."""
READ_EVERY = timedelta(minutes=1)
"""Of one namespace."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """What was read in one namespace: by Pod uid, reason and message of the latest such Event."""

    read_at: datetime
    by_pod: Mapping[str, str] = field(default_factory=dict)


def explained(attempt: PodAttempt, troubles: Troubles) -> PodAttempt:
    """The attempt with what Events say of its start, if it has come no further since."""
    told = troubles.by_pod.get(attempt.pod_uid)
    if told is None or not _is_unexplained(attempt):
        return attempt
    reason = f"{CANNOT_CREATE}: {told}"[:REASON_LENGTH_MAX]
    return replace(attempt, start_error=StartError(reason, told, hopeless=False, is_slow=True))


def read_at(
    attempts: Iterable[PodAttempt], troubles: Troubles | None, policy: Policy
) -> datetime | None:
    """When Events are to be read for these attempts of one job; None if nothing is to be asked."""
    grace = timedelta(seconds=policy.start_failure_grace_s)
    times = [
        later(one.bound_at, grace)
        for one in attempts
        if one.phase is Phase.STARTING and one.bound_at is not None and _is_unexplained(one)
    ]
    if not times:
        return None
    first = min(times)
    return first if troubles is None else max(first, troubles.read_at + READ_EVERY)


def _is_unexplained(attempt: PodAttempt) -> bool:
    return (
        attempt.phase is Phase.STARTING
        and not (attempt.is_set_up or attempt.deleting or attempt.stopping)
        and attempt.start_error is None
    )
