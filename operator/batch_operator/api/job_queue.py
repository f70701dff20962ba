"""JobQueue: where jobs wait, for which compute environments, and before or behind which others."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from batch_operator.api.common import (
    Conditions,
    Model,
    Name,
    ObservedGeneration,
    ShareUsage,
    Time,
    rules,
)
from batch_operator.api.cost import SHARES_OF_BUDGETS, Budgets, BudgetStatus, QueueCost
from batch_operator.api.job import JobState, StateCounts
from batch_operator.api.label_selector import LabelSelector


class QueueState(StrEnum):
    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


class EnvironmentOrder(Model):
    """One of the queue's compute environments."""

    order: int = Field(ge=0, le=1_000_000, description="Lower is tried first.")
    compute_environment: Name = Field(description="The ComputeEnvironment.")
    max_wait_seconds: int | None = Field(
        default=None,
        ge=10,
        le=31_536_000,
        description="Beyond AWS Batch: a Pod that no node took for so long moves on to the next "
        "environment that could run it. It has no effect in the last one.",
    )


class TimeLimitAction(StrEnum):
    CANCEL = "CANCEL"
    TERMINATE = "TERMINATE"
    NEXT_COMPUTE_ENVIRONMENT = "NEXT_COMPUTE_ENVIRONMENT"
    NOTIFY = "NOTIFY"


ANY_REASON = "*"


class JobStateTimeLimitAction(Model):
    """What happens to a job, or to a child of an array, that stays in a state for too long."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!(self.state in ['SUCCEEDED', 'FAILED'])",
                "a job that is over stays so: limit SUBMITTED, PENDING, RUNNABLE, STARTING or "
                "RUNNING, and use ttlSecondsAfterFinished to have it deleted",
            ),
            (
                "self.action != 'CANCEL' || self.state in ['SUBMITTED', 'PENDING', 'RUNNABLE']",
                "CANCEL ends what has not started: write TERMINATE for STARTING and RUNNING",
            ),
            (
                "self.action != 'NEXT_COMPUTE_ENVIRONMENT' || self.state in ['RUNNABLE', "
                "'STARTING']",
                "NEXT_COMPUTE_ENVIRONMENT is for RUNNABLE (a Pod that no node takes) and STARTING",
            ),
            (
                "self.state != 'RUNNING' || self.reason == '*'",
                "a RUNNING job waits for nothing: write reason '*'",
            ),
        )
    )

    reason: str = Field(
        max_length=64,
        pattern=r"^(\*|[A-Z][A-Z0-9_]*(:[A-Z][A-Z0-9_]*)?|[A-Z][A-Za-z]*)$",
        description="What it must wait for: the code that its statusReason begins with, e.g. "
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY, the token in its status.pending.reason, e.g. "
        "WaitingForDependencies, or * for whatever it is but Suspended and JobQueueDisabled, with "
        "which somebody holds it back.",
    )
    state: JobState = Field(description="The state that it must be in.")
    max_time_seconds: int = Field(
        ge=60,
        le=31_536_000,
        description="Longest time: without a Pod since it has had this reason, RUNNABLE with one "
        "since that was made, STARTING since a node has it, RUNNING since its containers run.",
    )
    action: TimeLimitAction = Field(
        description="CANCEL: what has not started fails, of an array all such children. TERMINATE: "
        "so does what has, but of what has a Pod only that child. NEXT_COMPUTE_ENVIRONMENT: its "
        "Pod is stopped and another tried in the next environment that is large enough, which is "
        "no try of retryStrategy. NOTIFY: a condition TimeLimitExceeded."
    )


class Preemption(Model):
    """Whether jobs of this queue may take capacity back from others."""

    enabled: bool = Field(default=False, description="Stop lower-priority jobs for this queue's.")
    min_run_seconds: int = Field(
        default=0, ge=0, le=31_536_000, description="Spare jobs that have run for less than this."
    )


class AllowedNamespaces(Model):
    """Which namespaces may submit: those in names, and those that selector chooses."""

    names: list[Name] = Field(
        default=[],
        max_length=1000,
        description="Namespaces by name.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    selector: LabelSelector | None = Field(
        default=None,
        description="Namespaces by label. Who may label a namespace lets it submit.",
    )


class JobQueueSpec(Model):
    """How the queue hands out work."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.schedulingPolicy) == has(oldSelf.schedulingPolicy)",
                "schedulingPolicy can be neither added nor removed, only replaced: make another "
                "queue",
            ),
            SHARES_OF_BUDGETS,
        )
    )

    state: QueueState = Field(
        default=QueueState.ENABLED,
        description="DISABLED: nothing new starts; what runs goes on.",
    )
    priority: int = Field(
        ge=0,
        le=1_000_000,
        description="Queues with a higher priority are served first where they share compute "
        "environments.",
    )
    compute_environment_order: list[EnvironmentOrder] = Field(
        min_length=1,
        max_length=20,
        description="Compute environments, tried in ascending order.",
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **rules(
                (
                    "self.all(a, self.exists_one(b, a.order == b.order))",
                    "give every compute environment an order of its own, e.g. 1, 2, 3",
                ),
                (
                    "self.all(a, self.exists_one(b, a.computeEnvironment == b.computeEnvironment))",
                    "name each compute environment once",
                ),
            ),
        },
    )
    scheduling_policy: Name | None = Field(
        default=None,
        description="The SchedulingPolicy for fair share; omitted: first in, first "
        "out. It cannot be removed once set, nor added later.",
    )
    job_state_time_limit_actions: list[JobStateTimeLimitAction] = Field(
        default=[],
        max_length=16,
        description="What happens to jobs that stay in a state for too long.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    backfill: bool = Field(
        default=False,
        description="Beyond AWS Batch: let smaller jobs pass a blocked one without delaying it.",
    )
    preemption: Preemption | None = Field(
        default=None, description="Beyond AWS Batch: take capacity back from other jobs."
    )
    budgets: Budgets = Field(default=[])
    allowed_namespaces: AllowedNamespaces | None = Field(
        default=None, description="Which namespaces may submit; omitted: all."
    )


class ShareStatus(Model):
    """One share identifier of a queue with a scheduling policy."""

    share_identifier: str = Field(max_length=255, description="The share identifier.")
    weight_factor: float = Field(
        ge=0, le=1_000_000, description="Its weight, divided among those of one prefix."
    )
    vcpus: str = Field(max_length=32, description="vCPUs that its jobs hold.")
    usage: ShareUsage | None = Field(
        default=None, description="All that counts against it, as of the last change of this row."
    )
    deleted_jobs_usage: ShareUsage | None = Field(
        default=None, description="The part of it that is of jobs which exist no more."
    )


class StartTimes(Model):
    """When a job is expected to start."""

    p50: Time = Field(description="As likely before as after this.")
    p90: Time = Field(description="In nine of ten cases not after this.")


class QueuedJob(Model):
    """One of the jobs that start next."""

    namespace: str = Field(max_length=63, description="The BatchJob's namespace.")
    job: str = Field(max_length=253, description="The BatchJob.")
    position: int = Field(ge=1, le=100, description="Its place, from 1.")
    reason: str = Field(max_length=64, description="Why it waits, as in its status.pending.")
    since: Time = Field(description="Since when it is seen in this place.")
    estimated_start: StartTimes | None = Field(
        default=None,
        description="A forecast from learned run times; omitted where those in its way are not "
        "known.",
    )


class JobQueueStatus(Model):
    """What waits and runs in the queue."""

    observed_generation: ObservedGeneration = -1
    jobs: StateCounts = Field(
        default={},
        max_length=7,
        description="Open jobs by state, each array child counted as one.",
    )
    shares: list[ShareStatus] = Field(
        default=[],
        max_length=500,
        description="Fair share: who has used and holds how much, by share identifier.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["shareIdentifier"],
        },
    )
    front: list[QueuedJob] = Field(
        default=[],
        max_length=100,
        description="The jobs that start next, in order, as of frontUpdatedAt (AWS: "
        "GetJobQueueSnapshot).",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    front_updated_at: Time | None = Field(
        default=None, description="When front was written last; small moves are not written."
    )
    cost: QueueCost | None = Field(
        default=None, description="What its jobs have cost; omitted while nothing is known."
    )
    budgets: list[BudgetStatus] = Field(
        default=[],
        max_length=20,
        description="How its budgets stand.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    conditions: Conditions = Field(default=[])
