"""A cluster is read page by page, within bounds, and never written to."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from batch_operator.cluster.client import BY_KIND, ApiError, ListPage
from batch_operator.cluster.listing import PATIENCE_S, TRIES, Progress, read_cluster
from support.scripted_api import Late, ScriptedApi
from support.virtual_time import VirtualClock

EXPIRED = ApiError(410, "Expired", "The provided continue parameter is too old")
KINDS = [one.plural for one in BY_KIND.values()]


def page(*names: str, then: str = "") -> ListPage:
    metadata = [{"name": one, "managedFields": [{"manager": "kubectl"}]} for one in names]
    items = [msgspec.Raw(msgspec.json.encode({"metadata": one, "spec": {}})) for one in metadata]
    return ListPage(items, "7", then)


@pytest.fixture
def api() -> ScriptedApi:
    """A cluster with nothing in it but what a test lines up."""
    api = ScriptedApi()
    api.always["list"] = page()
    return api


async def names(api: ScriptedApi) -> list[tuple[str, str]]:
    taken = await read_cluster(api, VirtualClock(), lambda _: None)
    return [(one["kind"], one["metadata"]["name"]) for one in taken["items"]]


async def test_every_kind_is_listed_to_its_last_page_and_nothing_else(api: ScriptedApi) -> None:
    api.will("list", page("a", "b", then="next"), page("c"))

    assert await names(api) == [("BatchJob", "a"), ("BatchJob", "b"), ("BatchJob", "c")]
    asked = [(one.resource, one.label_selector, one.continue_token) for one in api.requests]
    assert asked == [
        ("batchjobs", None, ""),
        ("batchjobs", None, "next"),
        *((kind, None, "") for kind in KINDS[1:]),
        ("controllerrevisions", "app.kubernetes.io/managed-by=batch-operator", ""),
        ("namespaces", None, ""),
    ]
    assert {one.verb for one in api.requests} == {"list"}


async def test_it_is_a_list_as_kubectl_prints_it_with_its_moment(api: ScriptedApi) -> None:
    api.will("list", page("a"))
    taken = await read_cluster(api, VirtualClock(), lambda _: None)

    assert json.loads(json.dumps(taken)) == {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {
            "annotations": {
                "batch-operator.io/taken-at": VirtualClock().now().strftime("%Y-%m-%dT%H:%M:%SZ")
            }
        },
        "items": [
            {
                "apiVersion": "batch-operator.io/v1alpha1",
                "kind": "BatchJob",
                "metadata": {"name": "a"},
                "spec": {},
            }
        ],
    }


async def test_pages_that_have_grown_too_old_are_read_again(api: ScriptedApi) -> None:
    api.will("list", page("a", then="next"), EXPIRED, page("a", "b"))

    assert await names(api) == [("BatchJob", "a"), ("BatchJob", "b")]


async def test_a_list_that_always_grows_too_old_is_given_up(api: ScriptedApi) -> None:
    api.always["list"] = EXPIRED

    with pytest.raises(ApiError, match="too old"):
        await names(api)
    assert len(api.requests) == TRIES


async def test_a_refusal_is_told_at_once(api: ScriptedApi) -> None:
    api.always["list"] = ApiError(403, "Forbidden", "batchjobs is forbidden")

    with pytest.raises(ApiError, match="batchjobs is forbidden"):
        await names(api)
    assert len(api.requests) == 1


async def test_a_cluster_that_does_not_come_to_an_end_is_given_up(api: ScriptedApi) -> None:
    api.always["list"] = Late(20, page("a", then="more"))

    with pytest.raises(ApiError, match="took more than 300 s"):
        await names(api)
    assert asyncio.get_running_loop().time() == pytest.approx(PATIENCE_S)


async def test_whoever_waits_is_told_how_far_it_is(api: ScriptedApi) -> None:
    pages: list[Any] = [Late(1.5, page("x", then=str(number))) for number in range(4)]
    api.will("list", *pages)
    said: list[str] = []
    await read_cluster(api, VirtualClock(), Progress(VirtualClock(), said.append))

    assert said == [
        "reading the cluster: 2 objects so far\n",
        "reading the cluster: 4 objects so far\n",
    ]
