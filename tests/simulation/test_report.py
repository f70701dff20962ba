"""What the table and the lines of a simulation say of how jobs ended."""

from __future__ import annotations

from typing import Any

import pytest

from support.play import play

FAILS = {"job": "*", "exitCode": 42}
OUT_OF_MEMORY = {"job": "*", "reason": "OOMKilled"}
ARRAY = {"arrayProperties": {"size": 3}}


@pytest.mark.parametrize(
    ("job", "behavior", "said"),
    [
        ({}, FAILS, "Essential container in task exited (exit code 42)"),
        ({}, OUT_OF_MEMORY, "(exit code 137, OutOfMemoryError: Container killed due to memory"),
        (ARRAY, FAILS, "Array Child Job failed (0-2: exit code 42)"),
    ],
)
def test_the_table_says_how_a_job_failed(
    job: dict[str, Any], behavior: dict[str, Any], said: str
) -> None:
    assert said in play({"a": job}, behaviors=[behavior]).outcome.table()


def test_scattered_indexes_do_not_fill_the_table() -> None:
    failing = [{"job": "a", "index": index, "exitCode": 2} for index in range(0, 100, 2)]
    played = play({"a": {"arrayProperties": {"size": 100}}}, behaviors=failing)

    assert "(0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,…: exit code 2)" in played.outcome.table()
    assert played.final("a")["failures"][0]["indexes"].endswith(",96,98")


def test_a_line_has_the_last_exit_code_and_the_containers_word() -> None:
    played = play({"good": {}, "bad": {}}, behaviors=[{**OUT_OF_MEMORY, "job": "bad"}])

    assert (played.final("good")["exitCode"], played.final("good")["reason"]) == (0, None)
    assert played.final("bad")["exitCode"] == 137
    assert played.final("bad")["reason"].startswith("OutOfMemoryError")
