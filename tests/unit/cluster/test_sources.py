"""Reading the ConfigMaps that arrays take parameters from: each answer, and how often."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from batch_operator.api.job import BatchJobStatus, JobState
from batch_operator.cluster.cache import Cache
from batch_operator.cluster.client import ApiError
from batch_operator.cluster.sources import AGAIN_MAX_S, AGAIN_S, ParameterSources
from batch_operator.lifecycle.array_parameters import Source
from support.builders import job
from support.scripted_api import ScriptedApi
from support.virtual_time import VirtualClock

KEY = ("default", "samples", "lines")
CONFIG_MAP = {"name": "samples", "key": "lines", "parameters": ["sample"]}
NOT_FOUND = ApiError(404, "NotFound", "gone")
BROKEN = ApiError(500, "InternalError", "etcd")
FORBIDDEN = ApiError(403, "Forbidden", "the role lacks configmaps")


def config_map(*, immutable: bool = True, **data: str) -> bytes:
    metadata = {"name": "samples", "namespace": "default"}
    return msgspec.json.encode({"metadata": metadata, "immutable": immutable, "data": data})


def user(name: str = "job") -> Any:
    return job(name, arrayProperties={"size": 2, "parameters": {"configMap": CONFIG_MAP}})


class Reader:
    """A cache with one job that takes parameters from the ConfigMap, and who reads it."""

    def __init__(self, *answers: Any) -> None:
        self.api = ScriptedApi()
        self.api.will("get", *answers)
        self.cache = Cache()
        self.cache.jobs.upsert(user())
        self.sources = ParameterSources(self.api, VirtualClock(), self.cache)

    async def read(self) -> Source:
        self.cache._changed_jobs.clear()
        await self.sources.read(KEY)
        return self.cache.parameter_sources[KEY]

    def again_in_s(self) -> float:
        again_at = self.cache.parameter_sources[KEY].look_again_at
        return (again_at - VirtualClock().now()).total_seconds()


async def test_the_lines_come_into_the_cache_and_the_jobs_are_looked_at_again() -> None:
    reader = Reader(config_map(lines="a\nb\n", other="c"))
    reader.cache.jobs.upsert(user("second"))
    found = await reader.read()
    [request] = reader.api.requests

    assert (request.resource, request.namespace, request.name) == (
        "configmaps",
        "default",
        "samples",
    )
    assert (found.lines, found.problem) == (("a", "b"), "")
    assert reader.cache._changed_jobs == {"uid-job", "uid-second"}


ANSWERS: dict[str, tuple[Any, str, bool]] = {
    "it does not exist": (
        NOT_FOUND,
        "there is no ConfigMap samples in namespace default: create it, with immutable: true",
        True,
    ),
    "it may change": (
        config_map(immutable=False, lines="a\nb"),
        "ConfigMap samples may change: set immutable: true on it, so that a retry gets what the "
        "first attempt got",
        True,
    ),
    "it lacks the key": (
        config_map(**dict.fromkeys("gfedcba", "1")),
        "ConfigMap samples has no key lines in its data (it has: a, b, c, d, e and 2 more): delete "
        "it and create it again with that key",
        True,
    ),
    "it has no data": (
        msgspec.json.encode({"immutable": True}),
        "ConfigMap samples has no key lines in its data (it has: none): delete it and create it "
        "again with that key",
        True,
    ),
    "the operator may not read it": (
        FORBIDDEN,
        "ConfigMap samples cannot be read: the role lacks configmaps",
        True,
    ),
    "the API server is ill": (BROKEN, "ConfigMap samples cannot be read: etcd", False),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_why_there_are_no_lines_comes_into_the_cache_too(name: str) -> None:
    answer, problem, stalled = ANSWERS[name]
    reader = Reader(answer)
    found = await reader.read()

    assert (found.lines, found.problem, found.stalled) == (None, problem, stalled)
    assert reader.cache._changed_jobs == {"uid-job"}


async def test_it_is_looked_for_again_after_longer_and_longer() -> None:
    reader = Reader(*[NOT_FOUND] * 9)
    waits = []
    for _ in range(9):
        await reader.read()
        waits.append(reader.again_in_s())

    assert waits[:4] == [AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S, 8 * AGAIN_S]
    assert waits[-1] == AGAIN_MAX_S


async def test_the_api_server_says_when_to_come_back() -> None:
    reader = Reader(ApiError(429, "TooManyRequests", "busy", 42.0))
    await reader.read()

    assert reader.again_in_s() == 42


async def test_an_ill_api_server_takes_no_lines_away() -> None:
    reader = Reader(config_map(lines="a\nb"), BROKEN)
    before = await reader.read()
    after = await reader.read()

    assert after.lines is before.lines


async def test_one_that_was_deleted_has_no_lines_any_more() -> None:
    reader = Reader(config_map(lines="a\nb"), NOT_FOUND)
    await reader.read()
    found = await reader.read()

    assert found.lines is None


async def test_the_same_lines_stay_the_same_object() -> None:
    """So that no plan is made again."""
    reader = Reader(config_map(lines="a\nb"), config_map(lines="a\nb"), config_map(lines="c\nd"))
    first = await reader.read()
    second = await reader.read()
    third = await reader.read()

    assert second.lines is first.lines
    assert third.lines == ("c", "d")


async def test_nothing_is_kept_that_no_open_job_uses() -> None:
    reader = Reader(config_map(lines="a\nb"))
    reader.cache.jobs.upsert(user("second"))
    await reader.read()
    reader.cache.jobs.remove(user())
    kept = set(reader.cache.parameter_sources)
    reader.cache.jobs.remove(user("second"))

    assert kept == {KEY}
    assert reader.cache.parameter_sources == {}


async def test_an_answer_that_comes_after_the_last_job_has_gone_is_dropped() -> None:
    reader = Reader(config_map(lines="a\nb"))
    reading = asyncio.ensure_future(reader.sources.read(KEY))
    reader.cache.jobs.remove(user())
    await reading

    assert reader.cache.parameter_sources == {}


async def test_a_job_that_is_over_uses_no_config_map() -> None:
    reader = Reader()
    reader.cache.keep_source(KEY, Source(("a",), VirtualClock().now() + timedelta(seconds=1)))
    over = BatchJobStatus(state=JobState.SUCCEEDED)
    reader.cache.jobs.upsert(replace(user(), status=over, resource_version=2))

    assert reader.cache.parameter_sources == {}
