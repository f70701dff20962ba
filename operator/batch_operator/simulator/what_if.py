"""What would become of a cluster as it is, and what if something were changed: two runs, compared.

Both runs begin with the same snapshot and the same seed. The Scenario's nodes and behaviors say how
the world is and hold for both; its events, the manifests and `--set` are the change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from batch_operator.cluster.client import BATCH_JOBS
from batch_operator.simulator.recorded import definition_of
from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import Behavior

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from batch_operator.simulator.checkers import Violation
    from batch_operator.simulator.process import Crash
    from batch_operator.simulator.recorded import Recorded
    from batch_operator.simulator.report import Outcome
    from batch_operator.simulator.scenario import Manifest, Scenario

    Json = dict[str, Any]

UNTIL_S = 7 * 24 * 3600.0
"""How long a run goes on at most, when nobody says: real jobs take longer than made-up ones."""
_FIGURES = ("makespan", "jobs", "attempts", "waiting", "utilisation", "cost", "costs")
_ABOUT_THE_RUN = ("settled", "virtualSeconds", "violations")
_OVER = ("SUCCEEDED", "FAILED")
_WAITS = (("median", "p50"), ("90 %", "p90"), ("longest", "max"))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the run time of a definition's attempts is taken to be, and on what grounds."""

    definition: str
    seconds: float | None
    """None: the Scenario's behaviors say it, job by job."""
    observations: int

    @property
    def grounds(self) -> str:
        if self.seconds is None:
            return "the Scenario's behaviors"
        if not self.observations:
            return "nothing is known: the default"
        return f"median of {self.observations} attempt{'s' if self.observations > 1 else ''}"

    def to_json(self) -> Json:
        return {
            "definition": self.definition,
            "seconds": self.seconds,
            "observations": self.observations,
            "grounds": self.grounds,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """One run as it is and, where something was changed, one with the change."""

    before: Outcome
    after: Outcome | None
    estimates: tuple[Estimate, ...]

    @property
    def violations(self) -> tuple[Violation, ...]:
        return (*self.before.violations, *(self.after.violations if self.after else ()))

    @property
    def exit_code(self) -> int:
        return 3 if self.violations else 0

    def json_line(self) -> str:
        """One object on one line."""
        before = _figures(self.before)
        after = _figures(self.after) if self.after else None
        value = {
            "before": before,
            "after": after,
            "difference": _difference(before, after) if after else None,
            "runTimes": [one.to_json() for one in self.estimates],
        }
        return json.dumps(value, ensure_ascii=False) + "\n"

    def table(self) -> str:
        """For people."""
        before = _figures(self.before)
        after = _figures(self.after) if self.after else None
        heading = ["", "AS IT IS", *(["CHANGED", "DIFFERENCE"] if after else [])]
        rows = [heading, *(list(row) for row in _rows(before, after))]
        runs = [("as it is", self.before), *([("changed", self.after)] if self.after else [])]
        lines = [*_aligned(rows), *_unfinished(runs)]
        if self.estimates:
            known = [["DEFINITION", "RUNS", "ACCORDING TO"]]
            for one in self.estimates:
                seconds = "-" if one.seconds is None else _span(one.seconds)
                known.append([one.definition, seconds, one.grounds])
            lines += ["", *_aligned(known)]
        return "\n".join(lines) + "\n"


def what_if(
    scenario: Scenario, *, seed: int, until_s: float | None, faults: bool, crash: Crash | None
) -> Answer:
    """Run a recorded cluster as it is and, if the scenario changes anything, with the change.

    Raises:
        InvalidInputError: an event asks for what the API server refuses.
    """
    spec = scenario.spec
    end_s = until_s or spec.until or UNTIL_S

    def run(one: Scenario) -> Outcome:
        return simulate(one, seed=seed, until_s=end_s, faults=faults, crash=crash)

    unchanged = replace(
        scenario, manifests=(), applied={}, spec=spec.model_copy(update={"events": ()})
    )
    is_changed = bool(scenario.manifests or spec.events)
    return Answer(
        before=run(unchanged),
        after=run(scenario) if is_changed else None,
        estimates=tuple(_estimates(scenario)),
    )


def _estimates(scenario: Scenario) -> Iterator[Estimate]:
    """For each definition of which a job is still to run."""
    recorded = scenario.recorded
    assert recorded is not None  # what is compared begins with a snapshot
    jobs: dict[tuple[str, str], list[str]] = {}
    for one in _open_jobs(scenario, recorded):
        jobs.setdefault(definition_of(one.body), []).append(one.name)
    patterns = [one.job for one in scenario.spec.behaviors]
    for key, names in sorted(jobs.items()):
        known, title = recorded.run_times.get(key), "/".join(key)
        if all(any(fnmatchcase(name, one) for one in patterns) for name in names):
            yield Estimate(title, None, 0)
        elif known is not None:
            yield Estimate(title, known.seconds, known.count)
        else:
            yield Estimate(title, Behavior().runtime, 0)


def _open_jobs(scenario: Scenario, recorded: Recorded) -> Iterator[Manifest]:
    for one in (*recorded.objects, *scenario.manifests, *scenario.applied.values()):
        status = one.body.get("status") or {}
        if one.resource is BATCH_JOBS and status.get("state") not in _OVER:
            yield one


def _figures(outcome: Outcome) -> Json:
    figures = {name: outcome.summary[name] for name in (*_FIGURES, *_ABOUT_THE_RUN)}
    figures["jobs"] = {**dict.fromkeys(_OVER, 0), **figures["jobs"]}
    return figures


def _difference(before: Json, after: Json) -> Json:
    """After less before, figure by figure; null where either has none."""
    states = {**before["jobs"], **after["jobs"]}
    jobs = {one: after["jobs"].get(one, 0) - before["jobs"].get(one, 0) for one in states}
    return {name: _less(before[name], after[name]) for name in _FIGURES} | {"jobs": jobs}


def _less(before: Any, after: Any) -> Any:
    if isinstance(before, dict) and isinstance(after, dict):
        return {name: _less(before.get(name), after.get(name)) for name in {**before, **after}}
    if isinstance(before, dict | None) or isinstance(after, dict | None):
        return None
    return round(after - before, 6)


# The table


def _rows(before: Json, after: Json | None) -> Iterator[Sequence[str]]:
    def row(label: str, form: Callable[[float], str], *path: str) -> Sequence[str]:
        old = _at(before, path)
        if after is None:
            return label, _cell(old, form)
        new = _at(after, path)
        gap = None if old is None or new is None else new - old
        sign = "" if not gap else "+" if gap > 0 else "-"
        return label, _cell(old, form), _cell(new, form), sign + _cell(gap and abs(gap), form)

    both = [before, *([after] if after else [])]
    yield row("makespan", _span, "makespan")
    for state in _names(both, "jobs"):
        yield row(f"jobs {state}", _count, "jobs", state)
    for queue in _names(both, "waiting"):
        for title, key in _WAITS:
            yield row(f"waiting in {queue}, {title}", _span, "waiting", queue, key)
        if any(_at(one, ("waiting", queue, "left")) for one in both):
            yield row(f"waiting in {queue}, not started", _count, "waiting", queue, "left")
    for environment in _names(both, "utilisation"):
        yield row(f"utilisation of {environment}", _percent, "utilisation", environment)
    for environment in _names(both, "costs"):
        yield row(f"cost of {environment}", _money, "costs", environment)


def _names(both: Sequence[Json], figure: str) -> list[str]:
    """What the figure is there for in either run, in order of mention."""
    return list(dict.fromkeys(name for one in both for name in one[figure]))


def _at(figures: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = figures
    for step in path:
        value = (value or {}).get(step)
    if value is None and path[0] == "jobs":
        return 0
    number: float | None = value
    return number


def _cell(value: float | None, form: Callable[[float], str]) -> str:
    return "-" if value is None else form(value)


def _count(value: float) -> str:
    return str(int(value))


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _money(amount: float) -> str:
    return f"{amount:.4f}"


def _span(seconds: float) -> str:
    """A duration as durations are written: 4.5s, 12m30s, 1h05m00s."""
    if seconds < 60:
        return f"{round(seconds, 1):g}s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{left:02}s" if hours else f"{minutes}m{left:02}s"


def _unfinished(runs: Sequence[tuple[str, Outcome]]) -> Iterator[str]:
    for title, outcome in runs:
        if not outcome.summary["settled"]:
            end = _span(outcome.summary["virtualSeconds"])
            yield f"{title}: stopped at {end}, not everything had ended; --until gives it longer"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
