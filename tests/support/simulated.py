"""Simulations for tests, and the command that replays one that failed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import read_scenario

if TYPE_CHECKING:
    from batch_operator.simulator.process import Crash
    from batch_operator.simulator.report import Outcome
    from batch_operator.simulator.scenario import Scenario

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = sorted((ROOT / "examples" / "scenarios").glob("*.yaml"))
WORKLOADS = ROOT / "tests" / "simulation" / "workloads"
MIXED = WORKLOADS / "mixed.yaml"
TIMING_DECIDES = {
    "mixed": {"default/doomed"},  # deleted while it runs: how much of that is told may differ
    "stops": {"default/terminated"},  # a slower operator has started less of it by then
    "gangs": {"default/terminated"},
    "preemptions": {"default/report"},  # who loses least, and how often, is a matter of seconds
}
"""By workload: jobs whose end depends on how fast the operator is. The invariants bind them too."""


def ends(path: Path, outcome: Outcome) -> dict[str, tuple[str, int]]:
    """State and attempts of every job whose end must be the same whatever goes wrong."""
    loose = TIMING_DECIDES.get(path.stem, set())
    return {job: end for job, end in outcome.states().items() if job not in loose}


def command(path: Path, *, seed: int = 0, faults: bool = False, crash: Crash | None = None) -> str:
    """What to type to see the same run again."""
    words = ["batch-operator simulate", str(path.relative_to(ROOT))]
    words += [f"--seed {seed}"] if seed else []
    words += ["--faults"] if faults else []
    words += [f"--crash {crash}"] if crash else []
    return " ".join(words)


@cache
def scenario(path: Path) -> Scenario:
    return read_scenario([path])


def run(path: Path, *, seed: int = 0, faults: bool = False, crash: Crash | None = None) -> Outcome:
    """Simulate, and insist that every invariant held and that everything came to rest."""
    outcome = simulate(scenario(path), seed=seed, faults=faults, crash=crash)
    replay = command(path, seed=seed, faults=faults, crash=crash)

    assert not outcome.violations, f"{outcome.violations[0]}; replay: {replay}"
    assert outcome.summary["settled"], f"nothing came to rest; replay: {replay}"
    return outcome
