"""What an array's status says of sets of its children, as index intervals."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from batch_operator.api.common import Model

Intervals = Annotated[str, Field(max_length=262_144)]


class ArrayIndexes(Model):
    """Which children are in which state, as index intervals such as 0-4999,5003."""

    pending: Intervals | None = Field(default=None, description="Wait for dependencies.")
    runnable: Intervals | None = Field(default=None, description="Wait for capacity.")
    starting: Intervals | None = Field(default=None, description="Bound to a node.")
    running: Intervals | None = Field(default=None, description="Their containers run.")
    succeeded: Intervals | None = Field(default=None, description="Ended well.")
    failed: Intervals | None = Field(default=None, description="Ended in failure, no retry left.")


class IndexAttempts(Model):
    """Children that have used up attempts and are not over."""

    attempts: int = Field(ge=1, le=1000, description="Number of attempts used up.")
    indexes: Intervals = Field(description="The children, as index intervals.")


class IndexEvents(Model):
    """Children to which something happened equally often."""

    times: int = Field(ge=1, le=1000, description="How often.")
    indexes: Intervals = Field(description="The children, as index intervals.")


class IndexFailure(Model):
    """Children that failed alike."""

    exit_code: int | None = Field(
        default=None, ge=-2_147_483_648, le=4_294_967_295, description="Their exit code."
    )
    reason: str | None = Field(default=None, max_length=255, description="Runtime's detail.")
    status_reason: str | None = Field(default=None, max_length=1024, description="Why.")
    indexes: Intervals = Field(description="The children, as index intervals.")
