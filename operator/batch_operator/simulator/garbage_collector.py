"""Kubernetes' garbage collector: what is owned goes when its owner has gone."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from batch_operator.cluster.client import tolerating

if TYPE_CHECKING:
    import asyncio

    from batch_operator.cluster.client import Resource
    from batch_operator.simulator.api_server import ApiServer, Write

DELAY_S = 0.5
ACTOR = "garbage-collector"

_Owned = tuple["Resource", str, str, str]
"""Resource, namespace, name and uid."""


class GarbageCollector:
    """Deletes in the background, as the default propagation policy says.

    An object whose owner had gone before it was created is deleted too.
    """

    def __init__(self, server: ApiServer, loop: asyncio.AbstractEventLoop) -> None:
        self.waiting = 0
        self._server = server
        self._loop = loop
        self._alive: set[str] = set()
        self._owned: dict[str, dict[_Owned, None]] = defaultdict(dict)
        server.subscribe(self._see)

    def _see(self, write: Write) -> None:
        metadata = write.object["metadata"]
        if write.is_creation:
            self._alive.add(metadata["uid"])
        elif not write.is_removal:
            return  # owners do not change here
        owners = [one["uid"] for one in metadata.get("ownerReferences", ())]
        owned = (write.resource, metadata.get("namespace", ""), metadata["name"], metadata["uid"])
        if write.is_removal:
            self._alive.discard(metadata["uid"])
            for owner in owners:
                self._owned[owner].pop(owned, None)
            for dependent in self._owned.pop(metadata["uid"], ()):
                self._delete_later(dependent)
            return
        for owner in owners:
            self._owned[owner][owned] = None
        if owners and not any(owner in self._alive for owner in owners):
            self._delete_later(owned)

    def _delete_later(self, owned: _Owned) -> None:
        self.waiting += 1
        self._loop.call_later(DELAY_S, self._delete, owned)

    def _delete(self, owned: _Owned) -> None:
        self.waiting -= 1
        resource, namespace, name, uid = owned
        with tolerating(404, 409):
            self._server.delete(resource, namespace, name, ACTOR, uid=uid)
