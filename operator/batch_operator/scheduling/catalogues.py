"""When the catalogues that environments take prices from are to be read (again)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_operator.scheduling.mutations import ReadCatalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from batch_operator.api.compute_environment import ComputeEnvironmentSpec
    from batch_operator.provisioning.catalogue import CatalogueKey
    from batch_operator.scheduling.snapshot import Environment, Snapshot


def catalogue_of(spec: ComputeEnvironmentSpec) -> CatalogueKey | None:
    """The ConfigMap that an environment takes prices from."""
    named = spec.price_catalogue
    return None if named is None else (named.namespace, named.name, named.key)


def read_catalogues(snapshot: Snapshot) -> tuple[list[ReadCatalogue], datetime | None]:
    """Those to read now, and when the next is due."""
    known = snapshot.catalogues
    named = dict(_named(snapshot.environments))
    due = {
        key: uid
        for key, uid in named.items()
        if key not in known or snapshot.now >= known[key].look_again_at
    }
    later = (known[key].look_again_at for key in named if key not in due)
    return [ReadCatalogue(key, uid) for key, uid in sorted(due.items())], min(later, default=None)


def _named(environments: Mapping[str, Environment]) -> Iterable[tuple[CatalogueKey, str]]:
    for name in sorted(environments):
        key = catalogue_of(environments[name].spec)
        if key is not None:
            yield key, environments[name].uid
