"""dependsOn of a BatchJob: what has to come before it, or before which of its children."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from batch_operator.api.common import Model, Name, rules


class DependencyType(StrEnum):
    N_TO_N = "N_TO_N"
    SEQUENTIAL = "SEQUENTIAL"
    AFTER_ANY = "AFTER_ANY"
    AFTER_FAILED = "AFTER_FAILED"


class Dependency(Model):
    """A job that has to come first."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.job) || (has(self.type) && self.type == 'SEQUENTIAL')",
                "name the job to wait for in job; only type SEQUENTIAL goes without one",
            ),
            (
                "!has(self.type) || self.type != 'SEQUENTIAL' || !(has(self.job) || "
                "has(self.index))",
                "SEQUENTIAL orders this job's own children: leave job and index out, or take "
                "N_TO_N to wait for those of another array",
            ),
            (
                "!has(self.type) || self.type != 'N_TO_N' || !has(self.index)",
                "with N_TO_N child i waits for child i: leave index out, or leave type out to wait "
                "for that one child",
            ),
        )
    )

    job: Name | None = Field(
        default=None, description="A BatchJob in the same namespace. Omitted for SEQUENTIAL."
    )
    index: int | None = Field(
        default=None, ge=0, le=99_999, description="One child of that array instead of all."
    )
    type: DependencyType | None = Field(
        default=None,
        description="Omitted: wait until the job has SUCCEEDED. N_TO_N: child i waits for child i. "
        "SEQUENTIAL: child i waits for child i-1 of this job. AFTER_ANY and AFTER_FAILED (beyond "
        "AWS Batch): run whatever the outcome, or only after a failure.",
    )
