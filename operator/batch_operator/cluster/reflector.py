"""A kind's objects, mirrored: list, then watch, and start over whenever that is needed.

The mirror survives whatever the API server does: an expired or broken watch resumes or lists
again, a list replaces everything (so what vanished unseen is removed), and an object that cannot be
read is reported and skipped. Nothing here ends but by being cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from batch_operator.cluster.backoff import Backoff
from batch_operator.cluster.client import ApiError
from batch_operator.cluster.http_client import status_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_operator.cluster.client import ApiClient, Resource
    from batch_operator.cluster.clock import Clock

_LOG = logging.getLogger(__name__)
PAGE_SIZE = 500
RESTARTS_OF_A_LIST_MAX = 3
UNREACHED_MAX_S = 5.0
"""A server that cannot be reached is asked so often to go on with a watch: that costs it little,
unlike a list, and until it is heard all decisions rest on what was known before."""
WATCH_LIFE_MIN_S = 1.0
"""A watch that ends sooner is treated as failed, so that reconnecting cannot become a busy loop."""


class Mirrored(Protocol):
    """What the mirror needs to know of an object."""

    @property
    def uid(self) -> str: ...

    @property
    def resource_version(self) -> int: ...


T = TypeVar("T", bound=Mirrored)


class Store(Protocol[T]):
    """Where the mirror is kept."""

    def upsert(self, item: T) -> None: ...

    def remove(self, item: T) -> None: ...

    def drop(self, uid: str) -> None: ...

    def replace(self, items: list[T], resource_version: int) -> None: ...


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMetadata


class _BookmarkMetadata(msgspec.Struct, rename="camel"):
    resource_version: str


class _Identified(msgspec.Struct):
    metadata: _Identity


class _Identity(msgspec.Struct):
    uid: str


_IDENTIFIED = msgspec.json.Decoder(_Identified)
_BOOKMARK = msgspec.json.Decoder(_Bookmark)


class Reflector(Generic[T]):
    """Keeps `store` equal to what the API server has of one resource.

    `decode` raises when an object cannot be read; such an object is skipped. `wake` is called after
    every change.
    """

    def __init__(
        self,
        client: ApiClient,
        clock: Clock,
        resource: Resource,
        *,
        decode: Callable[[msgspec.Raw], T],
        store: Store[T],
        wake: Callable[[], None],
        label_selector: str | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.relists = 0
        self._client = client
        self._clock = clock
        self._decode = decode
        self._store = store
        self._wake = wake
        self._label_selector = label_selector
        self._backoff = backoff or Backoff()
        self._resource_version = ""
        self._has_expired = False
        """A version was too old, and no watch has told of anything since."""
        self._alive_at = clock.monotonic()

    @property
    def silence_s(self) -> float:
        """Seconds since the API server was last heard of: a list, an event or a bookmark."""
        return self._clock.monotonic() - self._alive_at

    async def run(self) -> None:
        """Mirror until cancelled."""
        while True:
            try:
                if not self._resource_version:
                    await self._list()
                await self._watch()
            except ApiError as error:
                # Whatever may pass by itself leaves the version as good as it was: to list anew
                # is the last thing that an API server in trouble (429) needs.
                if 400 <= error.status < 500 and not error.is_retryable:
                    self._resource_version = ""
                if error.is_gone and not self._has_expired:
                    self._has_expired = True  # list at once, but only the first time
                else:
                    await self._pause(error)

    async def _pause(self, error: ApiError) -> None:
        resumes = error.is_unreached and self._resource_version
        longest_s = UNREACHED_MAX_S if resumes else None
        delay_s = max(self._backoff.next_delay_s(longest_s), error.retry_after_s or 0)
        hint = (
            ": is its CustomResourceDefinition installed? (kubectl apply -f crds/)"
            if error.is_not_found
            else ""
        )
        _LOG.warning(
            "watching %s failed, trying again in %.1f s: %s%s",
            self.resource.plural, delay_s, error, hint,
        )  # fmt: skip
        await asyncio.sleep(delay_s)

    async def _list(self) -> None:
        """Read everything, page by page, and put it in the place of what was known."""
        restarts = 0
        items: list[T] = []
        token = ""
        while True:
            try:
                page = await self._client.list_page(
                    self.resource,
                    label_selector=self._label_selector,
                    # Pages that keep expiring mean a list longer than etcd's memory: ask at once.
                    limit=PAGE_SIZE if restarts < RESTARTS_OF_A_LIST_MAX else 0,
                    continue_token=token,
                )
            except ApiError as error:
                if not error.is_gone or not token:
                    raise
                restarts += 1
                items, token = [], ""
                continue
            items += [item for raw in page.items if (item := self._read(raw)) is not None]
            token = page.continue_token
            if not token:
                break
        self._store.replace(items, int(page.resource_version))
        self._resource_version = page.resource_version
        self._alive_at = self._clock.monotonic()
        self.relists += 1
        self.synced.set()
        self._wake()

    async def _watch(self) -> None:
        begun = self._clock.monotonic()
        events = self._client.watch(
            self.resource,
            label_selector=self._label_selector,
            resource_version=self._resource_version,
        )
        async for event in events:
            self._alive_at = self._clock.monotonic()
            match event.type:
                case "BOOKMARK":
                    self._resource_version = _bookmarked_version(event.object)
                case "ERROR":
                    raise status_error(event.object)
                case kind:
                    self._take(kind, event.object)
            self._backoff.reset()
            self._has_expired = False
        if self._clock.monotonic() - begun < WATCH_LIFE_MIN_S:
            raise ApiError(0, "WatchEnded", "the watch ended as soon as it began")

    def _take(self, kind: str, raw: msgspec.Raw) -> None:
        item = self._read(raw)
        if item is None:
            if kind == "DELETED":  # of what may have been readable once
                self._store.drop(_uid(raw))
                self._wake()
            return
        self._resource_version = str(item.resource_version)
        if kind == "DELETED":
            self._store.remove(item)
        else:
            self._store.upsert(item)
        self._wake()

    def _read(self, raw: msgspec.Raw) -> T | None:
        try:
            return self._decode(raw)
        except Exception as error:  # noqa: BLE001  # one object must not stop the mirror
            # Whoever may make such objects can make many of them: a line is enough.
            _LOG.warning("a %s cannot be read and is ignored: %r", self.resource.kind, error)
            return None


def _uid(raw: msgspec.Raw) -> str:
    try:
        return _IDENTIFIED.decode(raw).metadata.uid
    except msgspec.MsgspecError as error:
        # Only a list can tell now what is left.
        raise ApiError(410, "Unreadable", f"the deletion of an object: {error}") from error


def _bookmarked_version(raw: msgspec.Raw) -> str:
    try:
        return _BOOKMARK.decode(raw).metadata.resource_version
    except msgspec.MsgspecError as error:
        raise ApiError(0, "Unreadable", f"a bookmark: {error}") from error
