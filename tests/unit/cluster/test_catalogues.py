"""Reading price catalogues: what comes of each answer, and for whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from batch_operator.cluster import catalogues
from batch_operator.cluster.cache import Cache
from batch_operator.cluster.catalogues import AGAIN_S, Catalogues
from batch_operator.cluster.client import ApiError
from batch_operator.lifecycle.stops import Policy
from batch_operator.scheduling.cycle import run_cycle
from batch_operator.scheduling.memo import Memo
from batch_operator.scheduling.mutations import ReadCatalogue, WriteStatus
from support.builders import environment
from support.scripted_api import ScriptedApi
from support.virtual_time import VirtualClock

KEY = ("batch", "prices", "table")
NAMED = {"namespace": "batch", "name": "prices", "key": "table"}
SIZE = {"name": "big", "vcpus": 4, "memory": "16Gi"}


def config_map(**data: str) -> bytes:
    return msgspec.json.encode({"metadata": {"name": "prices", "namespace": "batch"}, "data": data})


class Reader:
    """A cache with one environment that names a catalogue, and who reads it."""

    def __init__(self, *answers: Any) -> None:
        self.api, self.cache, self.memo = ScriptedApi(), Cache(), Memo()
        self.api.will("get", *answers)
        self.stored = environment(instanceTypes=[SIZE], priceCatalogue=NAMED)
        self.cache.environments.upsert(self.stored)
        self.clock = VirtualClock()
        self.catalogues = Catalogues(self.api, self.clock, self.cache)

    def snapshot(self, after_s: float = 0) -> Any:
        now = self.clock.now() + timedelta(seconds=after_s)
        return self.cache.snapshot(now, Policy(), 10)

    def price(self) -> float | None:
        found: float | None = (
            self.snapshot().environments["local"].spec.instance_types[0].price_per_hour
        )
        return found

    def said(self) -> list[tuple[str, str]]:
        for one in run_cycle(self.snapshot(), self.memo).mutations:
            if isinstance(one, WriteStatus) and one.kind == "ComputeEnvironment":
                return [(c.type, c.message) for c in one.status.conditions if c.type == "Priced"]
        return []


def reads(reader: Reader, after_s: float = 0) -> list[Any]:
    found = run_cycle(reader.snapshot(after_s), Memo()).mutations
    return [one.source for one in found if isinstance(one, ReadCatalogue)]


async def test_prices_come_from_the_catalogue_and_stay_when_the_status_is_written() -> None:
    reader = Reader(config_map(table="big: {onDemand: 0.5}"))
    await reader.catalogues.read(KEY)
    reader.cache.environments.upsert(replace(reader.stored, resource_version=9))

    assert reader.price() == 0.5
    assert reader.said() == []


async def test_a_table_that_has_not_changed_is_not_parsed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = "big: {onDemand: 0.5}\nsmall: dear"
    reader = Reader(*(config_map(table=text) for text in (bad, bad, "big: {onDemand: 0.6}")))
    await reader.catalogues.read(KEY)
    before = reader.said()
    with monkeypatch.context() as patched:
        patched.setattr(catalogues, "listed_prices", None)
        await reader.catalogues.read(KEY)
    same = reader.price(), reader.cache.catalogues[KEY].problem
    await reader.catalogues.read(KEY)

    assert same == (0.5, before[0][1])
    assert (reader.price(), reader.cache.catalogues[KEY].problem) == (0.6, "")


async def test_it_is_read_at_once_and_then_every_few_minutes() -> None:
    reader = Reader(config_map(table="big: {onDemand: 0.5}"))
    before = reads(reader)
    await reader.catalogues.read(KEY)

    assert before == [KEY]
    assert reads(reader, AGAIN_S - 1) == []
    assert reads(reader, AGAIN_S) == [KEY]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            ApiError(404, "NotFound", "gone"),
            "there is no ConfigMap batch/prices: create it, or correct spec.priceCatalogue",
        ),
        (
            ApiError(403, "Forbidden", "the role lacks configmaps"),
            "ConfigMap batch/prices cannot be read: the role lacks configmaps",
        ),
        (config_map(other="x"), "ConfigMap batch/prices has no key table in its data: add it"),
        (
            config_map(table="big: {onDemand: dear}"),
            "key table of ConfigMap batch/prices: big: onDemand is 'dear': write a number from 0 "
            "to 1000000",
        ),
        (
            config_map(table="other: {onDemand: 1}"),
            "what nodes of big cost is not known: give them a pricePerHour",
        ),
    ],
)
async def test_what_is_wrong_is_a_condition_of_the_environment(answer: Any, said: str) -> None:
    reader = Reader(answer)
    await reader.catalogues.read(KEY)

    assert reader.price() is None
    assert reader.said() == [("Priced", said)]


async def test_prices_stay_while_the_catalogue_cannot_be_read() -> None:
    reader = Reader(config_map(table="big: {onDemand: 0.5}"), ApiError(500, "Broken", "etcd"))
    await reader.catalogues.read(KEY)
    await reader.catalogues.read(KEY)

    assert reader.price() == 0.5


async def test_an_environment_that_is_made_anew_under_its_name_is_seen_and_priced() -> None:
    """Kopf may tell of the new one before it tells that the old one is gone."""
    reader = Reader(config_map(table="big: {onDemand: 0.5}"))
    await reader.catalogues.read(KEY)
    reader.cache.environments.upsert(replace(reader.stored, uid="new", resource_version=9))
    reader.cache.environments.remove(replace(reader.stored, resource_version=8))
    [seen] = reader.snapshot().environments.values()

    assert seen.uid == "new"
    assert reader.price() == 0.5


async def test_what_nobody_names_is_not_kept() -> None:
    reader = Reader(config_map(table="big: {onDemand: 0.5}"))
    reader.cache.environments.remove(reader.stored)
    await reader.catalogues.read(KEY)

    assert reader.cache.catalogues == {}
