"""Runs of drawn scenarios, and what must hold of each, whatever was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import read_scenario
from support.drawn_scenarios import drawn_documents, is_steady, written_documents
from support.simulated import ends

if TYPE_CHECKING:
    from batch_operator.simulator.report import Outcome

_OVER = frozenset({"SUCCEEDED", "FAILED"})
_FOR_TIME = frozenset({"ArrayInProgress", "BudgetSpent", "InsufficientCapacity", "Unschedulable"})
"""What passes in time, such as a budget's window, or may do so, such as a lack of nodes, for which
the operator looks now and then: a world in which a job waits so is not at rest."""


@dataclass(frozen=True, slots=True)
class DrawnTrial:
    """A run of a seed's scenario: on a calm day, on a bad one, or cut off from the API server."""

    seed: int
    faults: bool = False
    is_cut_off: bool = False

    @property
    def command(self) -> str:
        """What to type into bash to see the same run again."""
        drawn = f"PYTHONPATH=tests .venv/bin/python -m support.drawn_scenarios {self.seed}"
        drawn += " --cut-off" if self.is_cut_off else ""
        faults = " --faults" if self.faults else ""
        return f"batch-operator simulate <({drawn}) --seed {self.seed}{faults}"

    @property
    def text(self) -> str:
        """The scenario as the command prints it."""
        return written_documents(drawn_documents(self.seed, is_cut_off=self.is_cut_off))

    def run(self) -> Outcome:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "drawn.yaml"
            path.write_text(self.text, encoding="utf-8")
            return simulate(read_scenario([path]), seed=self.seed, faults=self.faults)


def problem(trial: DrawnTrial) -> str | None:
    """What was not as it must be in a run, and how to see it again."""
    outcome = trial.run()
    found = _broken(outcome)
    if found is None and is_steady(trial.seed):
        found = _difference(outcome, trial)
    return None if found is None else f"{found}; replay: {trial.command}"


def _broken(outcome: Outcome) -> str | None:
    if outcome.violations:
        return str(outcome.violations[0])
    reasons = set()
    for one in outcome.finals:
        if one["state"] in _OVER or one.get("deleted"):
            continue
        pending = one.get("pending")
        if not pending or not pending["message"]:
            return f"{one['final']} is {one['state']} and does not say why"
        reasons.add(pending["reason"])
    if not outcome.summary["settled"] and not reasons & _FOR_TIME:
        return f"nothing came to rest, although jobs wait for nothing but {sorted(reasons)}"
    return None


def _difference(outcome: Outcome, trial: DrawnTrial) -> str | None:
    """A job of a steady world that ended otherwise than on a calm day."""
    expected, found = _calm_ends(trial.seed), _ends(outcome)
    for job, end in expected.items():
        if found.get(job) != end:
            return f"{job} ended as {found.get(job)}, not as {end}"
    return None


@lru_cache(maxsize=4)
def _calm_ends(seed: int) -> dict[str, tuple[object, ...]]:
    return _ends(DrawnTrial(seed).run())


def _ends(outcome: Outcome) -> dict[str, tuple[object, ...]]:
    """Of a job that waits for ever nothing else is told: people may have moved it a little."""
    found = ends(Path("drawn"), outcome)
    return {job: end if end[0] in _OVER else ("waits",) for job, end in found.items()}
