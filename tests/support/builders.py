"""Objects as the API server would hold them, with everything that a test does not care about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from batch_operator.api import meta
from batch_operator.api.amounts import Amounts
from batch_operator.api.common import RetryStrategy
from batch_operator.api.compute_environment import ComputeEnvironmentSpec, ComputeEnvironmentStatus
from batch_operator.api.consumable_resource import ConsumableResourceSpec, ConsumableResourceStatus
from batch_operator.api.job import BatchJobSpec, BatchJobStatus
from batch_operator.api.job_definition import JobDefinitionSpec, JobDefinitionStatus
from batch_operator.api.job_queue import JobQueueSpec, JobQueueStatus
from batch_operator.api.objects import Pod
from batch_operator.api.scheduling_policy import SchedulingPolicySpec, SchedulingPolicyStatus
from batch_operator.api.stored import SpecT, StatusT, Stored
from batch_operator.lifecycle.attempt import Phase, PodAttempt
from batch_operator.lifecycle.plan import Definition, Plan

START = datetime(2026, 1, 1, tzinfo=UTC)


def pod_template(cpu: str = "1", **container: Any) -> dict[str, Any]:
    one = {"name": "main", "image": "busybox", "command": ["true"], **container}
    one.setdefault("resources", {"requests": {"cpu": cpu}})
    return {"spec": {"containers": [one]}}


def definition_spec(**fields: Any) -> JobDefinitionSpec:
    return JobDefinitionSpec.model_validate({"podTemplate": pod_template(), **fields})


def multi_node_spec(*ranges: str, cpu: str = "1", **fields: Any) -> JobDefinitionSpec:
    """A multi-node definition, of two nodes unless something else is said; one range covers all."""
    nodes = {"numNodes": fields.pop("numNodes", 2), "mainNode": fields.pop("mainNode", 0)}
    return JobDefinitionSpec.model_validate(
        {
            "type": "multinode",
            "nodeProperties": {
                **nodes,
                "nodeRangeProperties": [
                    {"targetNodes": one, "podTemplate": pod_template(cpu, name=f"c{number}")}
                    for number, one in enumerate(ranges or ("0:",))
                ],
            },
            **fields,
        }
    )


def _stored(
    name: str,
    spec: SpecT,
    status: StatusT,
    namespace: str = "",
    *,
    at_s: float = 0,
    uid: str | None = None,
) -> Stored[SpecT, StatusT]:
    """An object as it was when it was made, `at_s` seconds after START."""
    return Stored(
        namespace=namespace,
        name=name,
        uid=uid or f"uid-{name}",
        resource_version=1,
        generation=1,
        created_at=START + timedelta(seconds=at_s),
        deleting=False,
        spec=spec,
        status=status,
    )


def definition(
    name: str = "work", spec: JobDefinitionSpec | None = None, revision: int = 1
) -> Definition:
    """A definition whose only revision is recorded."""
    spec = spec or definition_spec()
    status = JobDefinitionStatus(observed_generation=1, latest_revision=revision)
    return Definition(_stored(name, spec, status, "default"), {revision: spec})


def job(
    name: str = "job",
    *,
    at_s: float = 0,
    status: BatchJobStatus | None = None,
    uid: str | None = None,
    **spec: Any,
) -> Stored[BatchJobSpec, BatchJobStatus]:
    """A job in queue `main` of definition `work`, submitted `at_s` seconds after START."""
    made = BatchJobSpec.model_validate({"jobQueue": "main", "jobDefinition": "work", **spec})
    return _stored(name, made, status or BatchJobStatus(), "default", at_s=at_s, uid=uid)


def queue(name: str = "main", **spec: Any) -> Stored[JobQueueSpec, JobQueueStatus]:
    wire = {
        "priority": 1,
        "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": "local"}],
        **spec,
    }
    return _stored(name, JobQueueSpec.model_validate(wire), JobQueueStatus())


def environment(
    name: str = "local", **spec: Any
) -> Stored[ComputeEnvironmentSpec, ComputeEnvironmentStatus]:
    return _stored(
        name,
        ComputeEnvironmentSpec.model_validate({"type": "UNMANAGED", "maxvCpus": 4, **spec}),
        ComputeEnvironmentStatus(),
    )


def scheduling_policy(
    name: str = "fair", weights: dict[str, float] | None = None, **fields: Any
) -> Stored[SchedulingPolicySpec, SchedulingPolicyStatus]:
    """Fair share with weights by share identifier; keyword arguments are the policy's fields."""
    distribution = [
        {"shareIdentifier": share, "weightFactor": weight}
        for share, weight in (weights or {}).items()
    ]
    policy = {"shareDistribution": distribution, **fields}
    return _stored(
        name,
        SchedulingPolicySpec.model_validate({"fairsharePolicy": policy}),
        SchedulingPolicyStatus(),
    )


def consumable(
    name: str = "licence",
    total: int = 4,
    *,
    status: dict[str, Any] | None = None,
    kind: str = "REPLENISHABLE",
) -> Stored[ConsumableResourceSpec, ConsumableResourceStatus]:
    return _stored(
        name,
        ConsumableResourceSpec.model_validate({"totalQuantity": total, "resourceType": kind}),
        ConsumableResourceStatus.model_validate(status or {}),
    )


def attempt(phase: Phase, *, index: int = 0, number: int = 1, **fields: Any) -> PodAttempt:
    """An attempt of job `job`, with the outcome fields that its phase implies."""
    defaults: dict[str, Any] = {
        "namespace": "default",
        "pod_name": f"job-{index}-{number}",
        "pod_uid": f"pod-{index}-{number}",
        "resource_version": 5,
        "job_uid": "uid-job",
        "revision": 1,
        "environment": "local",
        "milli_cpu": 1000,
        "tracked": True,
        "node_name": "node",
        "started_at": START + timedelta(seconds=10),
    }
    if phase is Phase.SUCCEEDED:
        defaults |= {"exit_code": 0, "status_reason": "Essential container in task exited"}
    if phase is Phase.FAILED:
        defaults |= {"exit_code": 1, "status_reason": "Essential container in task exited"}
    if phase.ended:
        defaults["stopped_at"] = START + timedelta(seconds=20)
    return PodAttempt(index=index, number=number, phase=phase, **{**defaults, **fields})


def labels(**changes: str) -> dict[str, str]:
    """The labels of a Pod of ours."""
    return {
        meta.LABEL_JOB_UID: "uid-job",
        meta.LABEL_ATTEMPT: "1",
        meta.LABEL_REVISION: "1",
        meta.LABEL_COMPUTE_ENVIRONMENT: "local",
        **changes,
    }


def pod(
    *,
    node: str = "node",
    status: dict[str, Any] | None = None,
    pod_labels: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
    **metadata: Any,
) -> Pod:
    """A Pod of job `job` from the fields that `kubectl get -o yaml` shows, named by its labels."""
    of = labels() if pod_labels is None else pod_labels
    index = of.get(meta.LABEL_ARRAY_INDEX)
    middle = "" if index is None else f"-{index}"
    owner = {"kind": "BatchJob", "name": "job", "uid": "uid-job", "controller": True}
    wire = {
        "metadata": {
            "namespace": "default",
            "name": f"job-uid-job{middle}-{of.get(meta.LABEL_ATTEMPT)}",
            "uid": "pod-uid",
            "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": of,
            "finalizers": [meta.FINALIZER_TRACKING],
            "ownerReferences": [owner],
            **metadata,
        },
        "spec": {**pod_template()["spec"], **({"nodeName": node} if node else {}), **(spec or {})},
        "status": {"phase": "Pending", **(status or {})},
    }
    return msgspec.convert(wire, Pod)


def plan(template: dict[str, Any] | None = None, **retry: Any) -> Plan:
    """A plan of revision `work:1`; keyword arguments are fields of its retry strategy."""
    base = template or pod_template()
    return Plan(
        definition="work:1",
        revision=1,
        generation=1,
        template={
            "metadata": base.get("metadata", {}),
            "spec": {"initContainers": [], **base["spec"]},
        },
        milli_cpu=1000,
        pods=((Amounts(1000), 1),),
        retry=RetryStrategy.model_validate(retry),
    )
