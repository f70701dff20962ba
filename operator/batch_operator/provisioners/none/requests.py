"""The ProvisioningRequest (autoscaling.x-k8s.io/v1) of one attempt of a multi-node job.

It refers to a PodTemplate for each group of nodes. Both follow from the attempt's Jobs and go with
them; its Pods say that they use what the request has got.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_operator.api import meta
from batch_operator.lifecycle.gang import MAIN_GROUP
from batch_operator.manifests.gangs import ANNOTATION_REQUEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.autoscalers import PodFollowingProvisioner
    from batch_operator.lifecycle.attempt import PodAttempt
    from batch_operator.lifecycle.gang import Gang

    Json = Mapping[str, Any]

API_VERSION = "autoscaling.x-k8s.io/v1"
_ENDS = ("Failed", "CapacityRevoked", "BookingExpired")
"""Conditions after which the autoscaler does no more for a request."""
_MESSAGE_MAX = 256


class Key(NamedTuple):
    """Of a request."""

    namespace: str
    name: str


class End(NamedTuple):
    """Why and since when nothing more comes of a request."""

    condition: str
    at: datetime
    message: str

    @property
    def is_refusal(self) -> bool:
        """One that expired was served."""
        return self.condition != "BookingExpired"


def key_of(gang: Gang) -> Key:
    """The request's name is that of the main node's Job: the gang's Pods say that they use it."""
    main = gang.jobs[MAIN_GROUP]
    return Key(main.namespace, main.pod_name)


def uses(job: Json, key: Key) -> bool:
    """Whether a Job's Pods say so: those of a gang that began without the class do not."""
    annotations = job["spec"]["template"]["metadata"].get("annotations") or {}
    return bool(annotations.get(ANNOTATION_REQUEST) == key.name)


def pod_template(job: PodAttempt, template: Json, environment: str) -> dict[str, Any]:
    """What one group's Pods look like to the autoscaler: as they are, but for the gate."""
    spec = {name: one for name, one in template["spec"].items() if name != "schedulingGates"}
    metadata = {name: template["metadata"].get(name, {}) for name in ("labels", "annotations")}
    return {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": _owned_by(job, environment),
        "template": {"metadata": metadata, "spec": spec},
    }


def provisioning_request(
    gang: Gang, asked: PodFollowingProvisioner, environment: str
) -> dict[str, Any]:
    """The request for all nodes of an attempt."""
    spec: dict[str, Any] = {
        "provisioningClassName": asked.provisioning_class_name.value,
        "podSets": [
            {"podTemplateRef": {"name": job.pod_name}, "count": job.members}
            for _, job in sorted(gang.jobs.items())
        ],
    }
    if asked.valid_until_seconds is not None:
        spec["parameters"] = {"ValidUntilSeconds": str(asked.valid_until_seconds)}
    return {
        "apiVersion": API_VERSION,
        "kind": "ProvisioningRequest",
        "metadata": _owned_by(gang.jobs[MAIN_GROUP], environment),
        "spec": spec,
    }


def _owned_by(job: PodAttempt, environment: str) -> dict[str, Any]:
    """It has the name of its Job, and goes with it."""
    return {
        "name": job.pod_name,
        "namespace": job.namespace,
        "labels": {
            meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
            meta.LABEL_COMPUTE_ENVIRONMENT: environment,
        },
        "ownerReferences": [
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": job.pod_name,
                "uid": job.pod_uid,
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
            message = f"{kind}: {one.get('message') or one.get('reason', '')}"
            return End(kind, at, message[:_MESSAGE_MAX])
    return None
