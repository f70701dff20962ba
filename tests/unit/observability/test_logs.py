"""Logs as a collector reads them: line by line, each a JSON object."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from batch_operator.observability import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """`set_up` changes the whole process's logging."""
    root, kopf = logging.getLogger(), logging.getLogger("kopf")
    handlers, level, kopf_level = list(root.handlers), root.level, kopf.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    kopf.setLevel(kopf_level)


def entries(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged, read as a collector does; fails on a line that is no JSON object."""
    return [json.loads(line) for line in capsys.readouterr().err.split("\n")[:-1]]


HOSTILE = 'a"\n{"level": "error", "message": "forged"}\r\n\x1b[31m\t\\\u2028\u0085é☃'


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("plain", id="plain"),
        pytest.param("", id="empty"),
        pytest.param("two\nlines", id="a newline"),
        pytest.param(HOSTILE, id="something that would like to be a line of its own"),
    ],
)
def test_every_record_is_one_line(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(as_json=True, level="info")
    logging.getLogger("one").warning("%s", message)
    logging.getLogger("two").info("next")
    first, second = entries(capsys)

    assert first["message"] == message
    assert (first["level"], first["logger"]) == ("warning", "one")
    assert (second["level"], second["logger"], second["message"]) == ("info", "two", "next")


def test_a_traceback_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(as_json=True, level="info")
    try:
        int(HOSTILE)
    except ValueError:
        logging.getLogger("one").exception("it failed")
    [entry] = entries(capsys)

    assert entry["level"] == "error"
    assert entry["message"] == "it failed"
    assert entry["exception"].startswith("Traceback (most recent call last)")
    assert entry["exception"].endswith(f"with base 10: {HOSTILE!r}")


def test_an_exception_that_was_kept_can_be_logged_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The cycle hands its faults back instead of raising them."""
    logs.set_up(as_json=True, level="info")
    logging.getLogger("one").error("job %s", "j", exc_info=ValueError("kept"))
    [entry] = entries(capsys)

    assert entry["exception"].endswith("ValueError: kept")


def test_a_record_without_an_exception_says_nothing_of_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up(as_json=True, level="info")
    logging.getLogger("one").info("fine")
    [entry] = entries(capsys)

    assert sorted(entry) == ["level", "logger", "message", "time"]


def test_the_time_is_utc_to_the_millisecond() -> None:
    record = logging.LogRecord("one", logging.INFO, "", 0, "m", None, None)
    record.created = datetime.fromisoformat("2026-01-01T12:00:00.123456+00:00").timestamp()

    assert json.loads(logs.JsonFormatter().format(record))["time"] == "2026-01-01T12:00:00.123Z"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_the_least_that_is_logged(
    level: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up(as_json=True, level=level)
    for one in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("any"), one)("m")

    assert [one["level"] for one in entries(capsys)] == expected


def test_kopf_is_heard_only_when_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(as_json=True, level="info")
    logging.getLogger("kopf.objects").info("Handler 'cache-jobqueues' succeeded.")
    logging.getLogger("kopf.objects").warning("something is wrong")

    assert [one["message"] for one in entries(capsys)] == ["something is wrong"]


def test_setting_up_twice_logs_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(as_json=True, level="info")
    logs.set_up(as_json=True, level="info")
    logging.getLogger("one").info("m")

    assert len(entries(capsys)) == 1


def test_a_person_at_a_terminal_reads_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(as_json=False, level="info")
    logging.getLogger("one").warning("job %s", "j")

    assert capsys.readouterr().err.endswith(" WARNING job j\n")


def test_standard_output_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(as_json=True, level="info")
    logging.getLogger("one").warning("m")

    assert capsys.readouterr().out == ""
