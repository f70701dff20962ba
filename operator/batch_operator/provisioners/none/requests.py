"""The ProvisioningRequest (autoscaling.x-k8s.io/v1) of one attempt of a multi-node job.

It refers to a PodTemplate for each group of nodes. Both follow from the attempt's Jobs and go with
them; its Pods say that they use what the request has got.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_operator.api import meta
from batch_operator.manifests.gangs import ANNOTATION_REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_operator.api.autoscalers import PodFollowingProvisioner

    Json = Mapping[str, Any]

API_VERSION = "autoscaling.x-k8s.io/v1"
_ENDS = ("Failed", "CapacityRevoked", "BookingExpired")
"""Conditions after which the autoscaler does no more for a request."""


class Key(NamedTuple):
    """Of a request, and of the gang that it is for."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class End(NamedTuple):
    """Why and since when nothing more comes of a request."""

    condition: str
    at: datetime
    message: str


def waiting_gangs(jobs: Iterable[Json]) -> dict[Key, list[Json]]:
    """Attempts that want a request, with all of their Jobs, of which no Pod has begun to run.

    These are Jobs of ours; but their namespace's owner may have changed their annotations.
    """
    found: dict[Key, list[Json]] = defaultdict(list)
    for job in jobs:
        annotations = job["spec"]["template"].get("metadata", {}).get("annotations", {})
        if request := annotations.get(ANNOTATION_REQUEST):
            found[Key(job["metadata"]["namespace"], request)].append(job)
    return {
        key: sorted(gang, key=lambda one: str(one["metadata"]["name"]))
        for key, gang in sorted(found.items())
        if str(len(gang)) == gang[0]["metadata"].get("annotations", {}).get(meta.ANNOTATION_GROUPS)
        and not any(_has_begun(one) for one in gang)
    }


def _has_begun(job: Json) -> bool:
    status = job.get("status", {})
    is_over = bool(status.get("succeeded") or status.get("failed"))
    return bool(is_over or status.get("ready") or job["spec"].get("suspend"))


def pod_template(job: Json) -> dict[str, Any]:
    """What one group's Pods look like to the autoscaler: as they are, but for the gate."""
    template = job["spec"]["template"]
    spec = {name: one for name, one in template["spec"].items() if name != "schedulingGates"}
    metadata = {name: template["metadata"].get(name, {}) for name in ("labels", "annotations")}
    return {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": _owned_by(job, str(job["metadata"]["name"])),
        "template": {"metadata": metadata, "spec": spec},
    }


def provisioning_request(
    key: Key, gang: list[Json], asked: PodFollowingProvisioner
) -> dict[str, Any]:
    """The request for all nodes of an attempt."""
    spec: dict[str, Any] = {
        "provisioningClassName": asked.provisioning_class_name.value,
        "podSets": [
            {
                "podTemplateRef": {"name": job["metadata"]["name"]},
                "count": job["spec"]["completions"],
            }
            for job in gang
        ],
    }
    if asked.valid_until_seconds is not None:
        spec["parameters"] = {"ValidUntilSeconds": str(asked.valid_until_seconds)}
    return {
        "apiVersion": API_VERSION,
        "kind": "ProvisioningRequest",
        "metadata": _owned_by(gang[0], key.name),
        "spec": spec,
    }


def _owned_by(job: Json, name: str) -> dict[str, Any]:
    metadata = job["metadata"]
    return {
        "name": name,
        "namespace": metadata["namespace"],
        "labels": {
            meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
            meta.LABEL_COMPUTE_ENVIRONMENT: metadata["labels"][meta.LABEL_COMPUTE_ENVIRONMENT],
        },
        "ownerReferences": [
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": metadata["name"],
                "uid": metadata["uid"],
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def end_of(request: Json) -> End | None:
    """What has ended a request, if something has."""
    conditions = {
        one["type"]: one
        for one in request.get("status", {}).get("conditions") or ()
        if one["status"] == "True"
    }
    for kind in _ENDS:
        if one := conditions.get(kind):
            at = datetime.fromisoformat(one["lastTransitionTime"])
            return End(kind, at, f"{kind}: {one.get('message') or one.get('reason', '')}")
    return None
