"""Events of compute environments: what `kubectl describe` shows of their last hour.

They are told of statuses that have been written. At most once in `INTERVAL_S` it is told what has
happened to an environment, kind by kind, and what came and went meanwhile is not told at all. The
same again becomes the series of the Event before. An Event that cannot be written is lost: whatever
matters is in the status.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.cluster.client import (
    COMPUTE_ENVIRONMENTS,
    MERGE_PATCH,
    ApiError,
    Resource,
)
from batch_operator.provisioning.happenings import happenings

if TYPE_CHECKING:
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentStatus
    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock
    from batch_operator.provisioning.happenings import Happening
    from batch_operator.scheduling.snapshot import Environment

_LOG = logging.getLogger(__name__)
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
NAMESPACE = "default"
"""Where Events about objects without a namespace belong."""
INTERVAL_S = 30.0
SERIES_S = 1800.0
"""An Event that has not happened again for so long is over. API servers keep Events for an hour."""


@dataclass(slots=True)
class _Watched:
    """An environment of which has been told lately."""

    told: ComputeEnvironmentStatus
    latest: Environment


@dataclass(slots=True)
class _Series:
    """The last Event of one kind about one environment."""

    name: str
    note: str
    count: int
    last_s: float


class EventWriter:
    """Tells of environments; it decides nothing, and nothing waits for it."""

    def __init__(self, client: ApiClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._series: dict[tuple[str, str], _Series] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, before: Environment, after: Environment) -> None:
        """A status of an environment was written: tell of it, now or when it may be told."""
        if (watched := self._watched.get(after.uid)) is not None:
            watched.latest = after
            return
        self._watched[after.uid] = _Watched(before.status, after)
        self._flush(after.uid)

    def _flush(self, uid: str) -> None:
        watched = self._watched[uid]
        found = happenings(watched.told, watched.latest.status)
        if not found:
            del self._watched[uid]
            return
        watched.told = watched.latest.status
        task = asyncio.create_task(self._send(watched.latest, found))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        asyncio.get_running_loop().call_later(INTERVAL_S, self._flush, uid)

    async def _send(self, environment: Environment, found: list[Happening]) -> None:
        since_s = self._clock.monotonic() - SERIES_S
        self._series = {key: one for key, one in self._series.items() if one.last_s > since_s}
        for one in found:
            try:
                await self._write(environment, one)
            except ApiError as error:
                self._series.pop((environment.uid, one.reason), None)
                _LOG.warning(
                    "no Event %s of compute environment %s: %s",
                    one.reason, environment.name, error,
                )  # fmt: skip

    async def _write(self, environment: Environment, one: Happening) -> None:
        now, now_s = self._clock.now(), self._clock.monotonic()
        series = self._series.get((environment.uid, one.reason))
        if series is not None and series.note == one.note:
            series.count, series.last_s = series.count + 1, now_s
            body = {"series": {"count": series.count, "lastObservedTime": _time(now)}}
            await self._client.patch(EVENTS, NAMESPACE, series.name, body, content_type=MERGE_PATCH)
            return
        name = f"{environment.name}.{environment.resource_version:x}.{one.reason.lower()}"
        self._series[environment.uid, one.reason] = _Series(name, one.note, 1, now_s)
        await self._client.create(EVENTS, NAMESPACE, _event(environment, one, name, now))


def _event(environment: Environment, one: Happening, name: str, now: datetime) -> dict[str, Any]:
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "eventTime": _time(now),
        "type": "Warning" if one.is_warning else "Normal",
        "reason": one.reason,
        "note": one.note,
        "action": "Provision",
        "regarding": {
            "apiVersion": COMPUTE_ENVIRONMENTS.api_version,
            "kind": COMPUTE_ENVIRONMENTS.kind,
            "name": environment.name,
            "uid": environment.uid,
            "resourceVersion": str(environment.resource_version),
        },
        "reportingController": meta.MANAGED_BY,
        "reportingInstance": meta.MANAGED_BY,
    }


def _time(at: datetime) -> str:
    """Kubernetes' MicroTime."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
