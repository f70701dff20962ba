"""What may be asked of a job after its submission: its end; and rules against all other changes."""

from __future__ import annotations

from pydantic import Field

from batch_operator.api.array import NamedIndexes
from batch_operator.api.common import Model


class StopRequest(Model):
    """A request to end the job, or some children of an array."""

    reason: str = Field(
        min_length=1, max_length=1024, description="Why; it becomes the statusReason."
    )
    indexes: NamedIndexes | None = Field(
        default=None,
        description="Only these children of an array, as intervals such as 0-9,15; the others go "
        "on. More may be added later. Omitted: the whole job.",
    )


def fixed(field: str, *, required: bool = False) -> tuple[str, str]:
    """A rule that a field of spec can be neither changed, nor added, nor removed."""
    same = f"self.{field} == oldSelf.{field}"
    rule = (
        same
        if required
        else f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || {same})"
    )
    return rule, f"{field} cannot be changed once the job is submitted: submit a new job"


def of_array(field: str) -> tuple[str, str]:
    """Only children of an array can be named in a request."""
    return (
        f"!has(self.{field}) || !has(self.{field}.indexes) || has(self.arrayProperties)",
        f"{field}.indexes names children of an array, and this job is none: leave it out",
    )


def one_way(field: str) -> tuple[str, str]:
    """A request stays."""
    return (
        f"!has(oldSelf.{field}) || has(self.{field})",
        f"a {field} request cannot be taken back: submit a new job",
    )
