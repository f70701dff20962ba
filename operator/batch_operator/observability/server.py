"""The HTTP endpoints `/healthz`, `/readyz` and `/metrics`.

Health is progress, not a live socket: the operator is alive when cycles come round and the API
server has been heard of lately, and ready when everything has been listed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_operator.observability.metrics import Metrics


async def serve(
    port: int,
    metrics: Metrics,
    *,
    alive: Callable[[], str | None],
    ready: Callable[[], str | None],
    refresh: Callable[[], None],
) -> web.AppRunner:
    """Start serving on all addresses; the caller cleans the runner up."""

    async def healthz(_: web.Request) -> web.Response:
        return _reply(alive())

    async def readyz(_: web.Request) -> web.Response:
        return _reply(ready())

    async def metrics_page(_: web.Request) -> web.Response:
        refresh()
        return web.Response(body=metrics.exposition(), content_type="text/plain", charset="utf-8")

    app = web.Application(client_max_size=1024)
    app.add_routes(
        [
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics_page),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner


def _reply(problem: str | None) -> web.Response:
    return web.Response(text=problem or "ok", status=503 if problem else 200)
