"""Reads the ConfigMaps that environments take prices from: by name, every few minutes.

They are neither watched nor listed, so that the operator's role stays small. While one cannot be
read the prices that it had are still good.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from batch_operator.cluster import decoding
from batch_operator.cluster.client import CONFIG_MAPS, ApiError
from batch_operator.provisioning.catalogue import Catalogue, listed_prices

if TYPE_CHECKING:
    from batch_operator.cluster.cache import Cache
    from batch_operator.cluster.client import ApiClient
    from batch_operator.cluster.clock import Clock
    from batch_operator.provisioning.catalogue import CatalogueKey

AGAIN_S = 300.0
_MESSAGE_MAX = 200


class Catalogues:
    """Gets price catalogues into the cache."""

    def __init__(self, client: ApiClient, clock: Clock, cache: Cache) -> None:
        self._client = client
        self._clock = clock
        self._cache = cache

    async def read(self, key: CatalogueKey) -> None:
        """Read one key of one ConfigMap."""
        namespace, name, wanted = key
        known = self._cache.catalogues.get(key)
        prices, what = known.prices if known else {}, f"ConfigMap {namespace}/{name}"
        text = ""
        try:
            found = decoding.config_map(await self._client.get(CONFIG_MAPS, namespace, name))
        except ApiError as error:
            if error.is_not_found:
                problem = f"there is no {what}: create it, or correct spec.priceCatalogue"
            else:
                problem = f"{what} cannot be read: {error.message[:_MESSAGE_MAX]}"
        else:
            text = found.data.get(wanted, "")
            if wanted not in found.data:
                problem = f"{what} has no key {wanted} in its data: add it"
            elif known is not None and known.text == text:
                problem = known.problem
            else:
                prices, problem = listed_prices(text)
                problem = problem and f"key {wanted} of {what}: {problem}"
        again_at = self._clock.now() + timedelta(seconds=AGAIN_S)
        self._cache.keep_catalogue(key, Catalogue(again_at, prices, problem, text))
