"""What a what-if begins with: all of ours that a cluster holds, and its namespaces, as one List.

Only lists are asked for, page by page; nothing is watched and nothing is ever written.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.cluster.client import BY_KIND, CONTROLLER_REVISIONS, NAMESPACES, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_operator.cluster.client import ApiClient, Resource
    from batch_operator.cluster.clock import Clock

    Json = dict[str, Any]

PATIENCE_S = 300.0
"""For all of it: 100,000 jobs take a minute."""
SILENCE_MAX_S = 2.0
TRIES = 3
"""Of one list that grows too old while its pages are read."""
_REVISIONS = f"{meta.LABEL_MANAGED_BY}={meta.MANAGED_BY}"


class Progress:
    """Says how much has been read, once that takes longer than anybody waits without a word."""

    def __init__(self, clock: Clock, say: Callable[[str], object]) -> None:
        self._clock = clock
        self._say = say
        self._said_at = clock.monotonic()

    def __call__(self, count: int) -> None:
        now = self._clock.monotonic()
        if now - self._said_at >= SILENCE_MAX_S:
            self._said_at = now
            self._say(f"reading the cluster: {count} objects so far\n")


async def read_cluster(client: ApiClient, clock: Clock, told: Callable[[int], None]) -> Json:
    """The cluster as a List with the moment at which it was read; `told` hears how much there is.

    Raises:
        ApiError: a list was refused, or all of it took too long.
    """
    taken_at = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    items: list[Json] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            for resource in (*BY_KIND.values(), CONTROLLER_REVISIONS, NAMESPACES):
                selector = _REVISIONS if resource is CONTROLLER_REVISIONS else None
                items += await _listed(client, resource, selector, len(items), told)
    except TimeoutError:
        message = f"reading the cluster took more than {PATIENCE_S:.0f} s"
        raise ApiError(0, "Timeout", message) from None
    return {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"annotations": {meta.ANNOTATION_TAKEN_AT: taken_at}},
        "items": items,
    }


async def _listed(
    client: ApiClient,
    resource: Resource,
    selector: str | None,
    before: int,
    told: Callable[[int], None],
) -> list[Json]:
    """One kind's objects, from the beginning again if the pages have grown too old."""
    for left in reversed(range(TRIES)):
        items: list[Json] = []
        token = ""
        try:
            while True:
                page = await client.list_page(
                    resource, label_selector=selector, continue_token=token
                )
                items += [_object(resource, bytes(one)) for one in page.items]
                told(before + len(items))
                token = page.continue_token
                if not token:
                    return items
        except ApiError as error:
            if not (error.is_gone and left):
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def _object(resource: Resource, raw: bytes) -> Json:
    """An item with its kind, which lists leave out, and without the record of who wrote what."""
    value: Json = json.loads(raw)
    metadata = {name: one for name, one in value["metadata"].items() if name != "managedFields"}
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        **value,
        "metadata": metadata,
    }
