"""The same input and seed give the same bytes, whatever the interpreter's own randomness."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.simulated import MIXED, ROOT, output

if TYPE_CHECKING:
    from pathlib import Path

FAIR = ROOT / "examples" / "scenarios" / "fair-share.yaml"
ARGUMENTS = {"plain": [], "faults": ["--faults", "--seed", "7"]}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("path", [MIXED, FAIR], ids=lambda path: path.stem)
def test_output_is_the_same_to_the_byte(path: Path, arguments: list[str]) -> None:
    outputs = {output(path, arguments, hash_seed) for hash_seed in ("1", "2")}

    assert len(outputs) == 1


def test_another_seed_is_another_run() -> None:
    assert output(MIXED, ["--seed", "1"], "1") != output(MIXED, ["--seed", "2"], "1")


def test_lines_are_as_the_contract_has_them() -> None:
    lines = [json.loads(line) for line in output(MIXED, [], "1").splitlines()]
    changes = [line for line in lines if "t" in line]
    finals = [line for line in lines if "final" in line]

    assert [*changes, *finals] == lines[:-1]
    assert list(lines[-1]) == ["summary"]
    assert list(changes[0]) == [
        "t", "namespace", "job", "index", "node", "attempt", "from", "to", "reason",
        "computeEnvironment",
    ]  # fmt: skip
    assert [one["t"] for one in changes] == sorted(one["t"] for one in changes)
    for final in finals:
        own = [one for one in changes if f"{one['namespace']}/{one['job']}" == final["final"]]
        assert (own[0]["from"], own[0]["to"], own[0]["t"]) == (None, "SUBMITTED", own[0]["t"])
