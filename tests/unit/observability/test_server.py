"""What kubelet and Prometheus are told, over real sockets."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from batch_operator.observability.metrics import Metrics
from batch_operator.observability.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(slots=True)
class Probed:
    """A served operator; what is wrong with it can be set at any time."""

    metrics: Metrics
    url: str = ""
    not_alive: str | None = None
    not_ready: str | None = None
    refreshed: int = 0

    def refresh(self) -> None:
        self.refreshed += 1
        self.metrics.set_cached({"pods": self.refreshed})

    async def get(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        """Status, content type and text."""
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self.url + path) as reply,
        ):
            return reply.status, reply.headers["Content-Type"], await reply.text()


@asynccontextmanager
async def served() -> AsyncIterator[Probed]:
    probed = Probed(Metrics())
    runner = await serve(
        0,
        probed.metrics,
        alive=lambda: probed.not_alive,
        ready=lambda: probed.not_ready,
        refresh=probed.refresh,
    )
    # Each address family has a port of its own; those of IPv4 are pairs.
    [port] = [address[1] for address in runner.addresses if len(address) == 2]
    probed.url = f"http://127.0.0.1:{port}"
    try:
        yield probed
    finally:
        await runner.cleanup()


@pytest.fixture
async def probed() -> AsyncIterator[Probed]:
    async with served() as one:
        yield one


@pytest.mark.parametrize(
    ("path", "not_alive", "not_ready", "status", "text"),
    [
        ("/healthz", None, None, 200, "ok"),
        ("/healthz", None, "not everything has been listed yet", 200, "ok"),
        ("/healthz", "the loop does not turn", None, 503, "the loop does not turn"),
        ("/readyz", None, None, 200, "ok"),
        ("/readyz", None, "not listed yet", 503, "not listed yet"),
        ("/readyz", "the loop does not turn", None, 200, "ok"),
    ],
)
async def test_a_probe_is_told_what_is_wrong(
    probed: Probed, path: str, not_alive: str | None, not_ready: str | None, status: int, text: str
) -> None:
    probed.not_alive, probed.not_ready = not_alive, not_ready
    told = await probed.get(path)

    assert (told[0], told[2]) == (status, text)


async def test_a_probe_is_told_of_the_moment(probed: Probed) -> None:
    statuses = []
    for problem in ("a", None, "b"):
        probed.not_alive = problem
        statuses.append((await probed.get("/healthz"))[0])

    assert statuses == [503, 200, 503]


async def test_a_head_request_is_a_probe_too(probed: Probed) -> None:
    assert (await probed.get("/healthz", "HEAD"))[0] == 200


async def test_metrics_are_fresh_with_every_scrape_and_can_be_parsed(probed: Probed) -> None:
    await probed.get("/metrics")
    probed.metrics.request_done("GET", "pods", 200, 0.1)
    status, content_type, text = await probed.get("/metrics")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    assert status == 200
    assert content_type.startswith("text/plain")
    assert samples["batch_operator_cached_objects", (("resource", "pods"),)] == 2
    labels = (("resource", "pods"), ("status", "200"), ("verb", "GET"))
    assert samples["batch_operator_api_requests_total", labels] == 1


async def test_nodes_that_are_gone_are_told_of_no_more(probed: Probed) -> None:
    probed.metrics.set_unowned({"gone": 3})
    _, _, before = await probed.get("/metrics")
    probed.metrics.set_unowned({})
    _, _, after = await probed.get("/metrics")

    assert 'batch_operator_unowned_nodes{environment="gone"} 3.0' in before
    assert "environment=" not in after


async def test_every_metric_is_ours_and_explained(probed: Probed) -> None:
    _, _, text = await probed.get("/metrics")
    families = list(text_string_to_metric_families(text))

    assert families
    assert [one.name for one in families if not one.name.startswith("batch_operator_")] == []
    assert [one.name for one in families if not one.documentation.endswith(".")] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/healthz/x", 404), ("POST", "/healthz", 405)],
)
async def test_nothing_else_is_served(probed: Probed, method: str, path: str, status: int) -> None:
    assert (await probed.get(path, method))[0] == status


async def test_two_operators_in_one_process_count_apart() -> None:
    async with served() as one, served() as other:
        one.metrics.looks.inc(5)
        _, _, text = await other.get("/metrics")

    assert "batch_operator_jobs_looked_at_total 0.0" in text
