"""The Pod of one attempt.

Its name follows from the job's uid, the index and the attempt, so that asking for the same attempt
twice meets `AlreadyExists` instead of running it twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api import meta

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.api.job import BatchJobSpec, BatchJobStatus
    from batch_operator.api.stored import Stored
    from batch_operator.lifecycle.plan import Plan

_NAME_PREFIX_MAX = 36
"""Leaves room for `-<8 of uid>-<index>-<attempt>` within the 63 characters of a host name."""


def pod_name(job_name: str, job_uid: str, index: int | None, attempt: int) -> str:
    """`render-1b4f9d2a-17-1`: job, part of its uid, array index (arrays only), attempt.

    The uid keeps a job that was deleted and submitted again under its name apart from its
    predecessor, whose Pods may still be terminating.
    """
    prefix = job_name[:_NAME_PREFIX_MAX].rstrip("-.")
    middle = "" if index is None else f"-{index}"
    return f"{prefix}-{job_uid[:8]}{middle}-{attempt}"


def pod(
    job: Stored[BatchJobSpec, BatchJobStatus],
    plan: Plan,
    *,
    index: int,
    attempt: int,
    array_size: int | None,
    environment: str,
    node_selector: Mapping[str, str],
) -> dict[str, Any]:
    """The Pod that runs attempt number `attempt` of child `index`.

    `array_size` is None, and `index` 0, for a job that is no array. `node_selector` is the compute
    environment's; the template's own narrows it further. Templates are shared between attempts, so
    everything that differs is copied here and nothing is changed.
    """
    array_index = None if array_size is None else index
    template_spec = plan.template["spec"]
    template_meta = plan.template["metadata"]
    env = _environment_variables(job, array_index, attempt, array_size, environment)
    spec = {
        **template_spec,
        "restartPolicy": "Never",
        "containers": [_with_env(one, env) for one in template_spec["containers"]],
        "nodeSelector": {**(template_spec.get("nodeSelector") or {}), **node_selector},
        "tolerations": [
            *(template_spec.get("tolerations") or ()),
            {"key": meta.TAINT_COMPUTE_ENVIRONMENT, "operator": "Equal", "value": environment},
        ],
    }
    if inits := template_spec["initContainers"]:
        spec["initContainers"] = [_with_env(one, env) for one in inits]
    else:
        del spec["initContainers"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(job.name, job.uid, array_index, attempt),
            "namespace": job.namespace,
            "labels": {
                **(template_meta.get("labels") or {}),
                **_labels(job, plan, array_index, attempt, environment),
            },
            "annotations": {
                **(template_meta.get("annotations") or {}),
                meta.ANNOTATION_MILLI_CPU: str(plan.milli_cpu),
            },
            "finalizers": [meta.FINALIZER_TRACKING],
            "ownerReferences": [
                {
                    "apiVersion": meta.API_VERSION,
                    "kind": "BatchJob",
                    "name": job.name,
                    "uid": job.uid,
                    "controller": True,
                    # Deleting a job must not wait for its Pods: the finalizer already keeps
                    # those whose outcome counts.
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": spec,
    }


def _labels(
    job: Stored[BatchJobSpec, BatchJobStatus],
    plan: Plan,
    array_index: int | None,
    attempt: int,
    environment: str,
) -> dict[str, str]:
    labels = {
        meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
        meta.LABEL_JOB_NAME: job.name,
        meta.LABEL_JOB_UID: job.uid,
        meta.LABEL_QUEUE: job.spec.job_queue,
        meta.LABEL_COMPUTE_ENVIRONMENT: environment,
        meta.LABEL_ATTEMPT: str(attempt),
        meta.LABEL_REVISION: str(plan.revision),
        meta.LABEL_TRACKED: "true",
    }
    if array_index is not None:
        labels[meta.LABEL_ARRAY_INDEX] = str(array_index)
    return labels


def _environment_variables(
    job: Stored[BatchJobSpec, BatchJobStatus],
    array_index: int | None,
    attempt: int,
    array_size: int | None,
    environment: str,
) -> list[dict[str, str]]:
    """What AWS Batch sets in every container (user guide, "job environment variables")."""
    variables = {
        "AWS_BATCH_JOB_ID": job.uid,
        "AWS_BATCH_JOB_ATTEMPT": str(attempt),
        "AWS_BATCH_JQ_NAME": job.spec.job_queue,
        "AWS_BATCH_CE_NAME": environment,
    }
    if array_index is not None:
        variables["AWS_BATCH_JOB_ID"] = f"{job.uid}:{array_index}"
        variables["AWS_BATCH_JOB_ARRAY_INDEX"] = str(array_index)
        variables["AWS_BATCH_JOB_ARRAY_SIZE"] = str(array_size)
    return [{"name": name, "value": value} for name, value in variables.items()]


def _with_env(container: Mapping[str, Any], env: list[dict[str, str]]) -> dict[str, Any]:
    # Ours come first: a user's variable may refer to one of them as $(AWS_BATCH_JOB_ID).
    return {**container, "env": [*env, *(container.get("env") or ())]}
