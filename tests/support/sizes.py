"""How large an object is in etcd, which takes none above 1.5 MiB."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch_operator.api.common import Model

ETCD_BYTES_MAX = 1_572_864
KEYS = {
    "grants": "jobUid",
    "shares": "shareIdentifier",
    "deletedJobs": "shareIdentifier",
    "budgets": "name",
    "conditions": "type",
}
"""Of the lists that are maps; the others are one field to metadata.managedFields."""


def stored_bytes(status: Model) -> int:
    """Of a status as the API server stores it, with what managedFields repeats of it."""
    wire = status.to_wire()
    return len(_text(wire)) + len(_text(_managed(wire)))


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _managed(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {".": {}, **{f"f:{key}": _managed(one, key) for key, one in value.items()}}
    if isinstance(value, list) and name in KEYS:
        key = KEYS[name]
        rows = {"k:" + _text({key: one[key]}): _managed(one) for one in value}
        return {".": {}, **rows}
    return {}
