"""Simulations for tests, and the command that replays one that failed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_operator.simulator.run import simulate
from batch_operator.simulator.scenario import read_scenario

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.pool import Pool

    from batch_operator.simulator.process import Crash
    from batch_operator.simulator.report import Outcome
    from batch_operator.simulator.scenario import Scenario

SEEDS = int(os.environ.get("BATCH_OPERATOR_SEEDS", "10"))
FIRST_SEED = int(os.environ.get("BATCH_OPERATOR_FIRST_SEED", "1"))
"""How many seeds are tried (nightly: hundreds), and where they begin."""
ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = sorted((ROOT / "examples" / "scenarios").glob("*.yaml"))
WORKLOADS = ROOT / "tests" / "simulation" / "workloads"
MIXED = WORKLOADS / "mixed.yaml"
UNTOLD = {
    "mixed": {"default/doomed"},
    "crowd": {"default/doomed"},
    "licences": {"default/deleted"},
}
"""By workload: jobs that are deleted while they run, of whose end more or less may be told."""
TIMING_DECIDES = {
    "stops": {"default/terminated"},  # a slower operator has started less of it by then
    "gangs": {"default/terminated"},
    "preemptions": {"default/report"},  # who loses least, and how often, is a matter of seconds
    "crowd": {
        "default/terminated",
        "default/gang-terminated",
        "default/gives-up",  # its children are stopped when others have failed
        "default/spot-array",  # what runs on a node that vanishes is tried again
    },
    "licences": {"default/terminated"},
    "managed": {
        "default/array",  # how many of its children a node takes with it
        "default/changed",  # whether an update finds it running
    },
    "interruptions": {"default/render"},  # a node that is idle by then takes nobody's try
    "time-limits": {"default/moved"},  # a child that starts late finds room in the second at once
}
"""By workload: jobs whose state is certain, and how far they came on the way is not."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A run in which something goes wrong, to be compared with one in which nothing does."""

    path: Path
    seed: int = 0
    faults: bool = False
    crash: Crash | None = None

    @property
    def command(self) -> str:
        """What to type to see the same run again."""
        words = ["batch-operator simulate", str(self.path.relative_to(ROOT))]
        words += [f"--seed {self.seed}"] if self.seed else []
        words += ["--faults"] if self.faults else []
        words += [f"--crash {self.crash}"] if self.crash else []
        return " ".join(words)


def ends(path: Path, outcome: Outcome) -> dict[str, tuple[Any, ...]]:
    """What must be the same whatever goes wrong: states, attempts, and an array's counts."""
    found: dict[str, tuple[Any, ...]] = {}
    for one in outcome.finals:
        job, counts = one["final"], {state: n for state, n in one["summary"].items() if n}
        if job in TIMING_DECIDES.get(path.stem, set()):
            found[job] = (one["state"],)
        elif job not in UNTOLD.get(path.stem, set()):
            found[job] = one["state"], one["attempts"], counts
    return found


@cache
def scenario(path: Path) -> Scenario:
    return read_scenario([path])


def run(path: Path, *, seed: int = 0, faults: bool = False, crash: Crash | None = None) -> Outcome:
    """Simulate, and insist that every invariant held and that everything came to rest."""
    outcome = simulate(scenario(path), seed=seed, faults=faults, crash=crash)
    replay = Trial(path, seed, faults, crash).command

    assert not outcome.violations, f"{outcome.violations[0]}; replay: {replay}"
    assert outcome.summary["settled"], f"nothing came to rest; replay: {replay}"
    return outcome


@lru_cache(maxsize=4)
def undisturbed(path: Path, seed: int = 0) -> Outcome:
    return run(path, seed=seed)


def problem(trial: Trial) -> str | None:
    """What came out otherwise than it does when nothing goes wrong, and how to see it again."""
    is_by_chance = any(one.failure_rate for one in scenario(trial.path).spec.behaviors)
    calm = undisturbed(trial.path, trial.seed if is_by_chance else 0)
    try:
        found = run(trial.path, seed=trial.seed, faults=trial.faults, crash=trial.crash)
    except AssertionError as error:
        return str(error)
    if trial.crash is not None:
        restarts = found.summary["operatorRestarts"] - calm.summary["operatorRestarts"]
        if restarts != 1:
            return f"the operator did not die there; replay: {trial.command}"
    ended = ends(trial.path, found)
    for job, end in ends(trial.path, calm).items():
        if ended.get(job) != end:
            return f"{job} ended as {ended.get(job)}, not as {end}; replay: {trial.command}"
    return None


def problems(pool: Pool, trials: Iterable[Trial]) -> list[str]:
    """What is wrong with these runs, which are shared out among processes."""
    return [one for one in pool.imap(problem, trials, chunksize=5) if one is not None]


def output(path: Path, arguments: list[str], hash_seed: str) -> bytes:
    """What the command prints as JSON lines, in a process whose hashes are seeded."""
    command = [sys.executable, "-m", "batch_operator", "simulate", str(path), "-o", "json"]
    done = subprocess.run(
        [*command, *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
