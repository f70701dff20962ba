"""Why a job is not running: the closed list of reasons, and the sentence that goes with one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
"""AWS's code for a job that blocks its queue because there is no room for it."""
AWS_CODES = frozenset(
    {
        CAPACITY,
        "ACTION_REQUIRED",
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
    }
)
"""The codes that a statusReason of a RUNNABLE job can begin with. AWS's time limits can ask for one
more, MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED, which no job has here."""
REQUIREMENT_REASON = (
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is "
    "higher than that can be met by the CE(s) attached to the job queue."
)
"""AWS's statusReason for a job that none of its queue's environments has nodes for."""


def capacity_reason(what: str) -> str:
    """AWS's statusReason for such a job; AWS names an instance type, we what is asked for where."""
    return f"{CAPACITY} - Service cannot fulfill the capacity requested for instance type [{what}]"


class Reason(StrEnum):
    """PascalCase tokens for `.status.pending.reason` and condition reasons; stable for scripts."""

    ARRAY_IN_PROGRESS = "ArrayInProgress"
    BEHIND_OTHERS = "BehindOthers"
    BUDGET_SPENT = "BudgetSpent"
    COMPUTE_ENVIRONMENT_MAX_RESOURCE = "ComputeEnvironmentMaxResource"
    COMPUTE_RESERVATION = "ComputeReservation"
    CONTAINERS_STARTING = "ContainersStarting"
    CIRCULAR_DEPENDENCY = "CircularDependency"
    CONSUMABLE_RESOURCE_BUSY = "ConsumableResourceBusy"
    CONSUMABLE_RESOURCE_NOT_FOUND = "ConsumableResourceNotFound"
    CONSUMABLE_RESOURCE_TOO_SMALL = "ConsumableResourceTooSmall"
    DEPENDENCY_INVALID = "DependencyInvalid"
    DEPENDENCY_NOT_FOUND = "DependencyNotFound"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    INSUFFICIENT_CONSUMABLE_RESOURCE = "InsufficientConsumableResource"
    JOB_DEFINITION_INACTIVE = "JobDefinitionInactive"
    JOB_DEFINITION_NOT_FOUND = "JobDefinitionNotFound"
    JOB_DEFINITION_NOT_READY = "JobDefinitionNotReady"
    JOB_QUEUE_DISABLED = "JobQueueDisabled"
    JOB_QUEUE_NOT_FOUND = "JobQueueNotFound"
    JOB_QUEUE_NOT_READY = "JobQueueNotReady"
    JOB_RESOURCE_REQUIREMENT = "JobResourceRequirement"
    KEPT_FOR_OTHERS = "KeptForOthers"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    NO_COMPUTE_ENVIRONMENT = "NoComputeEnvironment"
    OPERATOR_ERROR = "OperatorError"
    PARAMETERS_BEING_RECORDED = "ParametersBeingRecorded"
    PARAMETERS_NOT_READY = "ParametersNotReady"
    POD_REFUSED = "PodRefused"
    SHARE_IDENTIFIER_MISSING = "ShareIdentifierMissing"
    SHARE_IDENTIFIER_NOT_USED = "ShareIdentifierNotUsed"
    STOPPING = "Stopping"
    SUSPENDED = "Suspended"
    UNSCHEDULABLE = "Unschedulable"
    WAITING_FOR_DEPENDENCIES = "WaitingForDependencies"
    WAITING_FOR_NODE = "WaitingForNode"


QUEUE_REASONS = frozenset(
    {
        Reason.BUDGET_SPENT,
        Reason.COMPUTE_ENVIRONMENT_MAX_RESOURCE,
        Reason.CONSUMABLE_RESOURCE_NOT_FOUND,
        Reason.CONSUMABLE_RESOURCE_TOO_SMALL,
        Reason.JOB_QUEUE_DISABLED,
        Reason.JOB_QUEUE_NOT_READY,
        Reason.JOB_RESOURCE_REQUIREMENT,
        Reason.NAMESPACE_NOT_ALLOWED,
        Reason.NO_COMPUTE_ENVIRONMENT,
        Reason.POD_REFUSED,
        Reason.SHARE_IDENTIFIER_MISSING,
        Reason.SHARE_IDENTIFIER_NOT_USED,
        Reason.SUSPENDED,
        Reason.UNSCHEDULABLE,
    }
)
"""Of jobs whose dependencies are met, which are RUNNABLE therefore."""
TURN_REASONS = frozenset(
    {
        Reason.BEHIND_OTHERS,
        Reason.COMPUTE_RESERVATION,
        Reason.CONSUMABLE_RESOURCE_BUSY,
        Reason.INSUFFICIENT_CAPACITY,
        Reason.INSUFFICIENT_CONSUMABLE_RESOURCE,
        Reason.KEPT_FOR_OTHERS,
        Reason.WAITING_FOR_NODE,
    }
)
"""Of RUNNABLE jobs, too: of those in the line of their queue, and those with a Pod."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a job does not run now.

    `stalled` marks what does not pass by waiting: somebody has to change something, and `message`
    says what. `status_reason` is AWS's own string where AWS has one for the case.
    """

    reason: Reason
    message: str
    blocked_by: tuple[str, ...] = ()
    position: int | None = None
    stalled: bool = False
    status_reason: str | None = None
    look_again_at: datetime | None = None
    """When it may pass by itself, if that is known."""
