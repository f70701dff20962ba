"""The table of jobs that the demonstration shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLOURS = {
    "SUBMITTED": "grey62",
    "PENDING": "yellow",
    "RUNNABLE": "dark_orange",
    "STARTING": "cyan",
    "RUNNING": "bright_blue",
    "SUCCEEDED": "green",
    "FAILED": "red",
}
BAR_WIDTH = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One job as a line of the table. `counts` are an array's children by state."""

    name: str
    state: str
    why: str
    counts: Mapping[str, int]
    size: int

    @property
    def is_final(self) -> bool:
        return self.state in {"SUCCEEDED", "FAILED"}

    @property
    def summary(self) -> str:
        done = f" {self.counts.get('SUCCEEDED', 0)}/{self.size}" if self.size > 1 else ""
        return f"{self.state}{done} {self.why}".rstrip()


def rows_of(jobs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Jobs as rows, oldest first."""
    ordered = sorted(
        jobs, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"])
    )
    return [_row(one) for one in ordered]


def table(rows: Sequence[Row]) -> Table:
    out = Table(expand=True, header_style="bold")
    out.add_column("Job", no_wrap=True)
    out.add_column("State", no_wrap=True)
    out.add_column("Progress", no_wrap=True)
    out.add_column("Why", ratio=1, overflow="ellipsis", no_wrap=True)
    for row in rows:
        out.add_row(row.name, Text(row.state, COLOURS[row.state]), _bar(row), row.why)
    return out


def _row(job: Mapping[str, Any]) -> Row:
    status = job.get("status", {})
    array = status.get("array", {})
    pending = status.get("pending", {})
    return Row(
        name=job["metadata"]["name"],
        state=status.get("state", "SUBMITTED"),
        why=pending.get("message") or _last_word(status),
        counts=array.get("statusSummary", {}),
        size=array.get("size", 1),
    )


def _last_word(status: Mapping[str, Any]) -> str:
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    final = conditions.get("Complete") or conditions.get("Failed") or {}
    return str(final.get("message", ""))


def _bar(row: Row) -> Text:
    """A bar with a part for each state, for an array; its final part alone for a job."""
    counts = row.counts or {row.state: 1}
    bar = Text()
    for state in ("SUCCEEDED", "FAILED", "RUNNING", "STARTING", "RUNNABLE", "PENDING", "SUBMITTED"):
        if width := round(BAR_WIDTH * counts.get(state, 0) / row.size):
            bar.append("━" * width, COLOURS[state])
    if row.size > 1:
        bar.append(f" {counts.get('SUCCEEDED', 0)}/{row.size}")
    return bar
