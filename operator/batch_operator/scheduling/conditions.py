"""What administrators' statuses have in common: kstatus' conditions, and the write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api.common import Condition, ConditionStatus
from batch_operator.scheduling.mutations import Urgency, WriteStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from batch_operator.api.stored import Stored
    from batch_operator.scheduling.mutations import Status

_NOT_READY = "NotReady"
_READY = "Ready"

Wanted = tuple[str, ConditionStatus, str, str]
"""A condition's type, status, reason and message."""


def write_status(
    kind: str, stored: Stored[Any, Any], status: Status, urgency: Urgency = Urgency.NORMAL
) -> WriteStatus:
    """The write that makes an object's status read so, or that withdraws one where it does."""
    return WriteStatus(
        kind=kind,
        namespace=stored.namespace,
        name=stored.name,
        uid=stored.uid,
        decided_on=stored.resource_version,
        status=None if status == stored.status else status,
        urgency=urgency,
    )


def urgency_of(before: Sequence[Condition], after: Sequence[Condition]) -> Urgency:
    return Urgency.LAZY if list(before) == list(after) else Urgency.NORMAL


def conditions_of(
    problem: str | None,
    message: str,
    before: Sequence[Condition],
    generation: int,
    now: datetime,
) -> list[Condition]:
    """`Ready`, and `Stalled` beside it when somebody has to change something (kstatus)."""
    ready = ConditionStatus.FALSE if problem else ConditionStatus.TRUE
    wanted = [("Ready", ready, _NOT_READY if problem else _READY, problem or message)]
    if problem:
        wanted.append(("Stalled", ConditionStatus.TRUE, _NOT_READY, problem))
    return dated(wanted, before, generation, now)


def dated(
    wanted: Sequence[Wanted], before: Sequence[Condition], generation: int, now: datetime
) -> list[Condition]:
    """The conditions; one that reads as before keeps the time of its last transition."""
    known = {one.type: one for one in before}
    return [_dated(one, generation, known.get(one[0]), now) for one in wanted]


def _dated(wanted: Wanted, generation: int, before: Condition | None, now: datetime) -> Condition:
    kind, status, reason, message = wanted
    if before is not None:
        told = (before.type, before.status, before.reason, before.message)
        if told == wanted and before.observed_generation == generation:
            return before
    since = before.last_transition_time if before and before.status is status else None
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=since or now.replace(microsecond=0),
    )
