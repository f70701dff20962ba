"""What several kinds share: the base of all models, conditions, retry and timeout."""

from __future__ import annotations

from datetime import UTC, datetime  # pydantic reads the annotations at run time
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

DNS_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?$"


_NOT_KEPT: set[str] = set()


class Model(BaseModel):
    """Frozen, camelCase on the wire.

    Unknown fields are ignored: the API server has refused or pruned what no version knows, and
    what a newer version wrote must not stop an older one.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )

    def model_post_init(self, _context: Any, /) -> None:
        """Forget which fields were given: nobody asks, and a set of them is as large as all else.

        One set stands for all. Nothing adds to it: models are frozen, and a copy has its own.
        """
        object.__setattr__(self, "__pydantic_fields_set__", _NOT_KEPT)

    def to_wire(self) -> dict[str, Any]:
        """The JSON form, without what is absent or, where that means the same, empty."""
        full = self.model_dump(by_alias=True, exclude_none=True, mode="json")
        fields = type(self).model_fields.values()
        optional = {field.alias for field in fields if field.default is None}
        return {
            name: value for name, value in full.items() if value not in ([], {}) or name in optional
        }


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """`x-kubernetes-validations` from pairs of (CEL rule, message that says what to write)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": text} for rule, text in pairs]}


def _rfc3339(value: datetime) -> str:
    """Kubernetes' own form: UTC, whole seconds."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str)]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_NAME)]
Quantity = Annotated[int | str, Field(json_schema_extra={"pattern": QUANTITY})]


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One aspect of the object's state, as Kubernetes' conventions describe conditions."""

    type: str = Field(max_length=63, description="What the condition is about, e.g. Ready.")
    status: ConditionStatus = Field(description="Whether it holds: True, False or Unknown.")
    reason: str = Field(
        max_length=64,
        pattern=r"^[A-Za-z]([A-Za-z0-9]*)$",
        description="Why, as one CamelCase word that scripts can rely on.",
    )
    message: str = Field(default="", max_length=1024, description="Why, as a sentence for people.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that this was found for."
    )
    last_transition_time: Time = Field(description="When the status last changed.")


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        description="The object's conditions, one per type.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    ),
]
ObservedGeneration = Annotated[
    int,
    Field(
        ge=-1,
        description="The metadata.generation that this status was computed from; -1 before the "
        "operator has looked at the object.",
    ),
]


class RetryAction(StrEnum):
    RETRY = "RETRY"
    EXIT = "EXIT"


def _pattern(what: str, alphabet: str) -> Any:
    return Field(
        default=None,
        min_length=1,
        max_length=512,
        pattern=rf"^({alphabet}+\*?|\*)$",
        description=f"Compared with the attempt's {what}: equal, or a prefix when it ends in *.",
    )


class EvaluateOnExit(Model):
    """A rule for a failed attempt. All conditions that are given must match."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.onExitCode) || has(self.onReason) || has(self.onStatusReason)",
                "give at least one of onExitCode, onReason and onStatusReason; "
                'onReason: "*" matches every failure',
            )
        )
    )

    action: RetryAction = Field(description="What happens when the rule matches: RETRY or EXIT.")
    on_exit_code: str | None = _pattern("exit code", "[0-9]")
    on_reason: str | None = _pattern("container reason", r"[A-Za-z0-9.:\s]")
    on_status_reason: str | None = _pattern("statusReason", r"[A-Za-z0-9.:()\s-]")


class OnOutOfMemory(Model):
    """Beyond AWS Batch: give the next attempt more memory after a container ran out of it."""

    factor: float = Field(gt=1, le=10, description="The memory is multiplied by this, e.g. 2.")
    max_memory: Quantity = Field(
        description="Never more than this quantity, e.g. 64Gi, nor than "
        "the queue's nodes give where their instance types are declared."
    )


class OnHostLost(Model):
    """Beyond AWS Batch: leave spot capacity after it was lost too often."""

    move_to_on_demand_after: int = Field(
        ge=1, le=10, description="Losses after which attempts run on on-demand capacity only."
    )


class RetryStrategy(Model):
    """How often a job is tried. A cancelled or terminated job is never retried."""

    attempts: int = Field(
        default=1, ge=1, le=10, description="Tries in total, the first included: 1 to 10."
    )
    evaluate_on_exit: list[EvaluateOnExit] = Field(
        default=[],
        max_length=5,
        description="Rules tried in order on a failed attempt; the first that matches decides. "
        "When none matches, the job is retried.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    on_out_of_memory: OnOutOfMemory | None = Field(
        default=None, description="Beyond AWS Batch: more memory for the next attempt."
    )
    on_host_lost: OnHostLost | None = Field(
        default=None, description="Beyond AWS Batch: from spot to on-demand after losses."
    )


class Timeout(Model):
    """A limit on the time that one attempt may run."""

    attempt_duration_seconds: int = Field(
        ge=60,
        le=315_360_000,
        description="Seconds from when an attempt is RUNNING; at least 60. Counted per array "
        "child, and for a multi-node job as a whole.",
    )


class ConsumableRequest(Model):
    """A number of units of one ConsumableResource that each job instance holds while it runs."""

    name: Name = Field(description="The ConsumableResource.")
    quantity: int = Field(ge=1, le=1_000_000_000, description="Units held.")


ConsumableRequests = Annotated[
    list[ConsumableRequest],
    Field(
        max_length=5,
        description="Licences, tokens and the like that must be free before the job starts.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    ),
]


class ShareUsage(Model):
    """Use of capacity that counts against a share, as it was worth at a time; it decays."""

    vcpu_seconds: float = Field(
        ge=0, le=1e15, description="vCPU-seconds, the older ones counting less."
    )
    at: Time = Field(description="The time at which they were worth that.")
