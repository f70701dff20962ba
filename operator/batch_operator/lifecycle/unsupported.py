"""Fields whose behaviour is not built yet: reported, never silently ignored.

Each finding is a sentence for the object's `Stalled` condition. A job or queue that uses such a
field waits; it goes on by itself once an operator that knows the field is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.api.compute_environment import ComputeEnvironmentType

if TYPE_CHECKING:
    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.api.job import BatchJobSpec
    from batch_operator.api.job_definition import JobDefinitionSpec
    from batch_operator.api.job_queue import JobQueueSpec


def unsupported_in_job(spec: BatchJobSpec) -> str | None:
    return _sentence(
        ("spec.consumableResources", bool(spec.consumable_resources)),
        ("spec.shareIdentifier", spec.share_identifier is not None),
    )


def unsupported_in_definition(spec: JobDefinitionSpec) -> str | None:
    return _sentence(
        ("the definition's consumableResources", bool(spec.consumable_resources)),
    )


def unsupported_in_queue(spec: JobQueueSpec) -> str | None:
    return _sentence(
        ("spec.schedulingPolicy", spec.scheduling_policy is not None),
        ("spec.jobStateTimeLimitActions", bool(spec.job_state_time_limit_actions)),
        ("spec.backfill", spec.backfill),
        ("spec.preemption", spec.preemption is not None),
        (
            "spec.allowedNamespaces.selector",
            spec.allowed_namespaces is not None and spec.allowed_namespaces.selector is not None,
        ),
    )


def unsupported_in_environment(spec: ComputeEnvironmentSpec) -> str | None:
    return _sentence(("type MANAGED", spec.type is not ComputeEnvironmentType.UNMANAGED))


POLICIES = "SchedulingPolicy is not supported by this version: its queues wait until one is"
CONSUMABLES = "ConsumableResource is not supported by this version: its jobs wait until one is"


def _sentence(*fields: tuple[str, bool]) -> str | None:
    used = [name for name, is_used in fields if is_used]
    if not used:
        return None
    verb = "is" if len(used) == 1 else "are"
    return f"{' and '.join(used)} {verb} not supported by this version: leave it out, or upgrade"
