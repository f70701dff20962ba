"""What of a change is news: not the echo of our own write, nor what comes too late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch_operator.api.job_definition import JobDefinitionSpec, JobDefinitionStatus
    from batch_operator.api.stored import Stored


def is_echo(before: Stored[Any, Any] | None, after: Stored[Any, Any] | None) -> bool:
    """Whether only the status has changed, which is our own."""
    if before is None or after is None:
        return False
    return _written_by_others(before) == _written_by_others(after)


def _written_by_others(one: Stored[Any, Any]) -> tuple[object, ...]:
    """All but the status. Of a finalizer of our own we want to hear too: it is waited for."""
    return one.generation, one.deleting, one.finalizers


def offered(
    definition: Stored[JobDefinitionSpec, JobDefinitionStatus] | None,
) -> tuple[int | None, int] | None:
    """What jobs read of a definition's status: the revision that they get, and of what spec."""
    if definition is None:
        return None
    return definition.status.latest_revision, definition.status.observed_generation


def succeeded(known: Stored[Any, Any], current: Stored[Any, Any] | None) -> bool:
    """Whether this is late news of one that was deleted and applied again under its name.

    kopf keeps the order of one uid's events, not that of different ones.
    """
    return (
        current is not None
        and current.uid != known.uid
        and current.resource_version > known.resource_version
    )
