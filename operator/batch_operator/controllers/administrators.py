"""The administrators' kinds, watched by kopf.

kopf brings login, discovery and watches; its handlers here only put objects into the cache and
write nothing. Two things are added around it. kopf never reports an object that vanished while it
was listing anew, so the kinds are also listed by ourselves: before the first cycle, after every
restart of kopf, and now and then. And kopf ends when a watch fails in certain ways; the operator
does not end with it but starts it again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import kopf
import msgspec

from batch_operator.cluster.backoff import Backoff
from batch_operator.cluster.client import ApiError

if TYPE_CHECKING:
    from batch_operator.cluster import decoding
    from batch_operator.cluster.cache import Table
    from batch_operator.cluster.client import ApiClient, Resource
    from batch_operator.cluster.credentials import Credentials
    from batch_operator.cluster.engine import Engine

_LOG = logging.getLogger(__name__)
SWEEP_S = 300.0


class Administrators:
    """Keeps JobDefinitions, JobQueues and ComputeEnvironments of the cache up to date."""

    def __init__(self, client: ApiClient, credentials: Credentials, engine: Engine) -> None:
        self._client = client
        self._credentials = credentials
        self._kinds = engine.administrators
        self._wake = engine.wake.set
        self.synced = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set."""
        sweeps = asyncio.create_task(self._sweep_for_ever())
        backoff = Backoff()
        try:
            # kopf never serves a kind whose CRD was missing when it started.
            await self.synced.wait()
            while not stop.is_set():
                try:
                    await self._watch(stop)
                    stop.set()  # kopf returns without an error when the process is asked to end
                except Exception as error:  # noqa: BLE001  # whatever ends kopf must not end us
                    _LOG.warning("kopf's watches ended and are started again: %s", error)
                    await asyncio.sleep(backoff.next_delay_s())
        finally:
            sweeps.cancel()

    async def _watch(self, stop: asyncio.Event) -> None:
        await kopf.operator(
            registry=self._registry(),
            settings=_settings(),
            clusterwide=True,
            standalone=True,
            stop_flag=stop,
        )

    async def _sweep_for_ever(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._sweep_once()
            except ApiError as error:
                hint = " (kubectl apply -f crds/)" if error.is_not_found else ""
                _LOG.warning("the administrators' kinds cannot be listed: %s%s", error, hint)
                await asyncio.sleep(backoff.next_delay_s())
                continue
            backoff.reset()
            await asyncio.sleep(SWEEP_S)

    async def _sweep_once(self) -> None:
        """Replace what is known by a complete list."""
        for resource, (table, decode) in self._kinds.items():
            page = await self._client.list_page(resource, limit=0)
            items = [item for raw in page.items if (item := _read(decode, raw)) is not None]
            table.replace(items, int(page.resource_version))
        self.synced.set()
        self._wake()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            return await asyncio.to_thread(self._credentials.for_kopf)

        for resource, (table, decode) in self._kinds.items():
            self._handle(registry, resource, table, decode)
        return registry

    def _handle(
        self,
        registry: kopf.OperatorRegistry,
        resource: Resource,
        table: Table[Any],
        decode: decoding.Decoder[Any, Any],
    ) -> None:
        @kopf.on.event(
            resource.group,
            resource.version,
            resource.plural,
            id=f"cache-{resource.plural}",
            registry=registry,
        )
        async def cache_event(event: Any, **_: Any) -> None:
            item = _read(decode, msgspec.json.encode(event["object"]))
            if item is None:
                return
            if event["type"] == "DELETED":
                table.remove(item)
            else:
                table.upsert(item)
            self._wake()


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # our kinds are known: no watch of all CRDs is needed
    settings.peering.standalone = True
    settings.networking.request_timeout = 45
    settings.watching.inactivity_timeout = 75
    return settings


def _read(decode: decoding.Decoder[Any, Any], raw: bytes) -> Any | None:
    try:
        return decode(raw)
    except Exception:  # noqa: BLE001  # whatever is wrong with one object must not stop the others
        _LOG.exception("an object cannot be read and is ignored")
        return None
