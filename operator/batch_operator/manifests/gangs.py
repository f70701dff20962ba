"""The Indexed Jobs of one attempt of a multi-node job: one for each group of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.index_set import IndexSet
from batch_operator.api.names import gang_job_name
from batch_operator.lifecycle.gang import MAIN_GROUP
from batch_operator.manifests.pods import (
    environment_variables,
    labels,
    owner_reference,
    pod_template,
)

if TYPE_CHECKING:
    from batch_operator.scheduling.mutations import StartAttempt

ANNOTATION_REQUEST = "autoscaling.x-k8s.io/consume-provisioning-request"
"""cluster-autoscaler's, on Pods: the ProvisioningRequest that has got nodes for them."""
ANNOTATION_CLASS = "autoscaling.x-k8s.io/provisioning-class-name"
_NODE_INDEX = "AWS_BATCH_JOB_NODE_INDEX"


def gang_job(start: StartAttempt, group: int) -> dict[str, Any]:
    """The Job that makes the Pods of one group.

    Its Pods stand behind a scheduling gate. A Pod that has failed is not replaced: AWS runs each
    node once per attempt.
    """
    job, nodes = start.job, start.plan.groups[group].nodes
    template = pod_template(start, start.plan.groups[group].template, _variables(start, group))
    metadata, spec = template["metadata"], template["spec"]
    metadata["labels"][meta.LABEL_NODE_GROUP] = str(group)
    metadata["annotations"][meta.ANNOTATION_NODES] = str(IndexSet.of(nodes))
    if start.provisioning_class is not None:
        request = gang_job_name(job.name, job.uid, start.number, MAIN_GROUP)
        metadata["annotations"][ANNOTATION_REQUEST] = request
        metadata["annotations"][ANNOTATION_CLASS] = start.provisioning_class
    gates = spec.get("schedulingGates") or ()
    spec["schedulingGates"] = [*gates, {"name": meta.GATE_GANG}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": gang_job_name(job.name, job.uid, start.number, group),
            "namespace": job.namespace,
            "labels": {**labels(start), meta.LABEL_NODE_GROUP: str(group)},
            "annotations": {meta.ANNOTATION_GROUPS: str(len(start.plan.groups))},
            "ownerReferences": [owner_reference(job)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": len(nodes),
            "parallelism": len(nodes),
            "backoffLimitPerIndex": 0,
            "podReplacementPolicy": "Failed",
            "template": template,
        },
    }


def _variables(start: StartAttempt, group: int) -> list[dict[str, Any]]:
    """What AWS Batch sets on a node; what differs between nodes comes from annotations.

    The Pod gets the annotations when its gate is taken off, before any container is made.
    """
    plan = start.plan
    count = sum(len(one.nodes) for one in plan.groups)
    own = [
        _from_annotation(_NODE_INDEX, meta.ANNOTATION_NODE_INDEX),
        _literal("AWS_BATCH_JOB_ID", f"{start.job.uid}#$({_NODE_INDEX})"),
        _literal("AWS_BATCH_JOB_NUM_NODES", str(count)),
        _literal("AWS_BATCH_JOB_MAIN_NODE_INDEX", str(plan.groups[MAIN_GROUP].nodes[0])),
    ]
    if group != MAIN_GROUP:
        address = "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"
        own.append(_from_annotation(address, meta.ANNOTATION_MAIN_NODE_ADDRESS))
    names = {one["name"] for one in own}
    return [*(one for one in environment_variables(start, None) if one["name"] not in names), *own]


def _literal(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


def _from_annotation(name: str, annotation: str) -> dict[str, Any]:
    return {
        "name": name,
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}},
    }
