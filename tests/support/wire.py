"""Objects as they come from the API server: JSON, with everything that it adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batch_operator.api import meta
from support.builders import labels, pod_template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.stored import Stored

CREATED = "2026-01-01T00:00:00Z"


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def stored(body: Mapping[str, Any], *, uid: str, version: int) -> bytes:
    """What the API server answers to a create of `body`."""
    metadata = {
        "creationTimestamp": CREATED,
        **body["metadata"],
        "uid": uid,
        "resourceVersion": str(version),
    }
    return msgspec.json.encode({**body, "metadata": metadata})


def pod_object(
    name: str = "job-uid-job-1", *, uid: str = "pod-1", version: int = 5, **metadata: Any
) -> bytes:
    """A Pod of job `job`, in the state in which it is created."""
    owner = {"apiVersion": meta.API_VERSION, "kind": "BatchJob", "name": "job", "uid": "uid-job"}
    body = {
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": labels(),
            "finalizers": [meta.FINALIZER_TRACKING],
            "ownerReferences": [{**owner, "controller": True}],
            **metadata,
        },
        "spec": pod_template()["spec"],
        "status": {"phase": "Pending"},
    }
    return stored(body, uid=uid, version=version)


def with_status(known: Stored[Any, Any], status: Mapping[str, Any], *, version: int) -> bytes:
    """What the API server answers to a write of `known`'s status."""
    metadata = {
        "name": known.name,
        "namespace": known.namespace,
        "generation": known.generation,
    }
    body = {"metadata": metadata, "spec": known.spec.to_wire(), "status": status}
    return stored(body, uid=known.uid, version=version)
