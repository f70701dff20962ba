"""Reads Events about Pods that do not start: one list for a namespace, only when one is waited for.

They are not watched: a namespace has many, and hardly any of them matters.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from batch_operator.api.objects import Event
from batch_operator.cluster.client import EVENTS
from batch_operator.lifecycle.start_troubles import REASONS, Troubles

if TYPE_CHECKING:
    from datetime import datetime

    from batch_operator.cluster.cache import Cache
    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock

SELECTOR = (
    "involvedObject.kind=Pod,type=Warning,reason!=BackOff,reason!=FailedScheduling,"
    "reason!=Unhealthy"
)
PAGE_SIZE, PAGES_MAX = 500, 10
RECENT = timedelta(minutes=10)
"""What kubelet cannot do it tries again every two minutes; it says so now and then."""
MESSAGE_LENGTH_MAX = 500
_EVENT = msgspec.json.Decoder(Event)


class PodEvents:
    """Gets what Events say of the Pods of a namespace into the cache."""

    def __init__(self, client: ApiClient, clock: Clock, cache: Cache) -> None:
        self._client = client
        self._clock = clock
        self._cache = cache

    async def read(self, namespace: str) -> None:
        """Read a namespace; if that fails nothing is known of it until it is read again.

        Raises:
            ApiError: the list was refused, or there was no reply.
        """
        now = self._clock.now()
        found: dict[str, tuple[datetime, str]] = {}
        try:
            for one in await self._events(namespace):
                at, uid = one.last_seen or now, one.involved_object.uid
                is_new = uid not in found or at > found[uid][0]
                if one.reason in REASONS and at > now - RECENT and is_new:
                    message = " ".join(one.message.split())
                    found[uid] = at, f"{one.reason}: {message}"[:MESSAGE_LENGTH_MAX]
        finally:
            told = {uid: text for uid, (_, text) in found.items()}
            self._cache.keep_troubles(namespace, Troubles(now, told))

    async def _events(self, namespace: str) -> list[Event]:
        events: list[Event] = []
        token = ""
        for _ in range(PAGES_MAX):
            page = await self._client.list_page(
                EVENTS,
                namespace=namespace,
                field_selector=SELECTOR,
                limit=PAGE_SIZE,
                continue_token=token,
            )
            for raw in page.items:
                try:
                    events.append(_EVENT.decode(raw))
                except msgspec.MsgspecError:
                    continue  # whoever may write Events may write anything
            token = page.continue_token
            if not token:
                break
        return events
