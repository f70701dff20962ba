"""Reads ConfigMaps that arrays take parameters from: by name, when a job waits for one.

They are neither watched nor listed: one that may be used cannot change. Whatever comes of a read,
lines or a reason why there are none, goes into the cache, which has the jobs looked at again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.api.sentences import listed
from batch_operator.cluster import decoding
from batch_operator.cluster.client import CONFIG_MAPS, ApiError
from batch_operator.lifecycle.array_parameters import Source, lines_of

if TYPE_CHECKING:
    from batch_operator.api.objects import ConfigMap
    from batch_operator.cluster.cache import Cache
    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock
    from batch_operator.lifecycle.array_parameters import SourceKey

AGAIN_S, AGAIN_MAX_S = 5.0, 300.0
_KEYS_NAMED_MAX = 5


class ParameterSources:
    """Gets ConfigMaps; one that does not do is asked for again after a while, longer each time."""

    def __init__(self, client: ApiClient, clock: Clock, cache: Cache) -> None:
        self._client = client
        self._clock = clock
        self._cache = cache

    async def read(self, key: SourceKey) -> None:
        """Read one key of one ConfigMap into the cache."""
        namespace, name, _ = key
        known = self._cache.parameter_sources.get(key)
        times = known.times + 1 if known else 1
        delay_s = min(AGAIN_MAX_S, AGAIN_S * 2 ** min(times - 1, 8))
        lines, problem, stalled = None, "", True
        try:
            found = decoding.config_map(await self._client.get(CONFIG_MAPS, namespace, name))
        except ApiError as error:
            if error.is_not_found:
                problem = (
                    f"there is no ConfigMap {name} in namespace {namespace}: create it, with "
                    f"immutable: true"
                )
            else:
                stalled = not error.is_retryable
                problem = f"ConfigMap {name} cannot be read: {error.message}"
                delay_s = error.retry_after_s or delay_s
                lines = known.lines if known and error.is_retryable else None
        else:
            problem = _problem(found, key)
            lines = None if problem else lines_of(found.data[key[2]])
        self._cache.keep_source(
            key,
            Source(
                lines=lines,
                look_again_at=self._clock.now() + timedelta(seconds=delay_s),
                problem=problem,
                stalled=stalled,
                times=times,
            ),
        )


def _problem(found: ConfigMap, key: SourceKey) -> str:
    _, name, wanted = key
    if not found.immutable:
        return (
            f"ConfigMap {name} may change: set immutable: true on it, so that a retry gets what "
            f"the first attempt got"
        )
    if wanted not in found.data:
        keys = listed(sorted(found.data), _KEYS_NAMED_MAX) or "none"
        return (
            f"ConfigMap {name} has no key {wanted} in its data (it has: {keys}): delete it and "
            f"create it again with that key"
        )
    return ""
