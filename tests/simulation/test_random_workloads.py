"""Scenarios that nobody has thought of, drawn by seed: everything is promised of them, too.

Each is played on a calm day, on a bad one, and with the API server away for ten minutes. Every
checker holds, every job ends or says what it waits for, nothing fails inside the operator, and the
world comes to rest; in steady worlds, where nothing hangs on timing, every job ends alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.drawn_runs import DrawnTrial, problem
from support.drawn_scenarios import drawn_documents, is_steady
from support.simulated import FIRST_SEED, SEEDS, output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.pool import Pool
    from pathlib import Path

DAYS: dict[str, dict[str, bool]] = {
    "calm": {},
    "bad": {"faults": True},
    "cut-off": {"is_cut_off": True},
}
EVERYTHING = {
    *("UNMANAGED", "MANAGED", "DISABLED", "spot", "on-demand", "kwok", "serverless", "minvCpus"),
    *("schedulingPolicy", "backfill", "preemption", "jobStateTimeLimitActions", "budgets"),
    *("maxWaitSeconds", "allowedNamespaces", "NON_REPLENISHABLE", "computeReservation"),
    *("evaluateOnExit", "onOutOfMemory", "onHostLost", "timeout", "consumableResources"),
    *("multinode", "numNodes", "initContainers", "INACTIVE", "ttlSecondsAfterFinished"),
    *("size", "indexes", "rerunFailedOf", "maxParallel", "maxFailedIndexes", "matrix", "configMap"),
    *("N_TO_N", "SEQUENTIAL", "AFTER_ANY", "AFTER_FAILED", "unknown", "64", "nowhere", "lost"),
    *("cancel", "terminate", "suspend", "delete", "patch", "apply", "interruptNodes"),
    *("refuseCapacity", "restartOperator", "OOMKilled", "OutOfcpu", "failureRate"),
}
"""Fields and values that the drawn scenarios are for."""


@pytest.mark.parametrize("day", DAYS.values(), ids=DAYS)
@pytest.mark.timeout(300 + 10 * SEEDS)
def test_whatever_is_drawn_every_promise_is_kept(day: dict[str, bool], pool: Pool) -> None:
    trials = [DrawnTrial(seed, **day) for seed in range(FIRST_SEED, FIRST_SEED + SEEDS)]
    found = [one for one in pool.imap(problem, trials) if one is not None]

    assert not found, f"{len(found)} of {len(trials)}; the first: {found[0]}"


@pytest.mark.parametrize("arguments", [[], ["--faults"]], ids=["calm", "bad"])
def test_a_drawn_scenario_comes_out_the_same_to_the_byte(
    arguments: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "drawn.yaml"
    path.write_text(DrawnTrial(FIRST_SEED, is_cut_off=True).text, encoding="utf-8")
    outputs = {output(path, [*arguments, "--seed", str(FIRST_SEED)], one) for one in ("1", "2")}

    assert len(outputs) == 1


def test_a_hundred_seeds_have_everything_in_them() -> None:
    seeds = range(1, 101)
    words = {word for seed in seeds for one in drawn_documents(seed) for word in _words(one)}

    assert EVERYTHING - words == set()
    assert {is_steady(seed) for seed in seeds} == {True, False}


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, field in value.items():
            yield str(key)
            yield from _words(field)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)
    else:
        yield str(value)
