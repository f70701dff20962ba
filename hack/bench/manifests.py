"""Objects as the measurements write them."""

from __future__ import annotations

from typing import Any

from batch_operator.api import meta


def ours(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object of one of our kinds."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
