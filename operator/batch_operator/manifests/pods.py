"""The Pod of one attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_operator.api import meta
from batch_operator.api.names import pod_name
from batch_operator.lifecycle.retry import grown
from batch_operator.manifests.serverless import raised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batch_operator.lifecycle.array_parameters import PerIndex
    from batch_operator.scheduling.mutations import StartAttempt
    from batch_operator.scheduling.snapshot import Job


def pod(start: StartAttempt) -> dict[str, Any]:
    """The Pod that runs one attempt."""
    job = start.job
    array_index = None if start.array_size is None else start.index
    env = environment_variables(start, array_index)
    template = start.plan.template
    if per_index := start.plan.per_index:
        values = per_index.at(start.index)
        template = _with_values(template, per_index, values)
        env += [{"name": name, "value": _literally(value)} for name, value in values.items()]
    template = pod_template(start, template, env)
    name = pod_name(job.name, job.uid, array_index, start.number)
    if array_index is not None:
        template["metadata"]["labels"][meta.LABEL_ARRAY_INDEX] = str(array_index)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": job.namespace,
            **template["metadata"],
            "ownerReferences": [owner_reference(job)],
        },
        "spec": template["spec"],
    }


def _with_values(
    template: Mapping[str, Any], per_index: PerIndex, values: Mapping[str, str]
) -> dict[str, Any]:
    """An array's template, with the values of one child filled in."""
    spec = dict(template["spec"])
    for field in ("containers", "initContainers"):
        spec[field] = [per_index.filled_in(one, values) for one in spec[field]]
    return {**template, "spec": spec}


def _literally(value: str) -> str:
    """A variable's value that Kubernetes takes as it is: `$(NAME)` would be replaced, `$$` cut."""
    return value.replace("$", "$$")


def pod_template(
    start: StartAttempt, template: Mapping[str, Any], env: list[dict[str, Any]]
) -> dict[str, Any]:
    """What a user's template becomes in one attempt: metadata and spec of a Pod.

    The compute environment's node selector comes on top of the template's own. Templates are shared
    between attempts, so everything that differs is copied here and nothing is changed.
    """
    template_spec, template_meta = template["spec"], template["metadata"]
    spec = {
        **template_spec,
        "restartPolicy": "Never",
        "containers": [
            _container(_without_restarts(one), env, start) for one in template_spec["containers"]
        ],
        "nodeSelector": {**(template_spec.get("nodeSelector") or {}), **start.node_selector},
        "tolerations": [*(template_spec.get("tolerations") or ()), *_tolerations(start)],
    }
    if inits := template_spec["initContainers"]:
        spec["initContainers"] = [_container(one, env, start) for one in inits]
    else:
        del spec["initContainers"]
    if start.serverless is not None:
        spec = raised(spec, start.serverless)
    return {
        "metadata": {
            "labels": {**_users(template_meta.get("labels")), **labels(start)},
            "annotations": {**_users(template_meta.get("annotations")), **start.pod_annotations},
            "finalizers": [meta.FINALIZER_TRACKING],
        },
        "spec": spec,
    }


def _tolerations(start: StartAttempt) -> list[dict[str, Any]]:
    """What lets the Pod onto its environment's nodes."""
    if start.serverless is not None:
        return [one.to_wire() for one in start.serverless.tolerations]
    key = meta.TAINT_COMPUTE_ENVIRONMENT
    return [{"key": key, "operator": "Equal", "value": start.environment}]


def owner_reference(job: Job) -> dict[str, Any]:
    """Makes the job the owner: what runs it goes when the job is deleted."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "BatchJob",
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        # Deleting a job must not wait for its Pods: the finalizer already keeps those whose
        # outcome counts.
        "blockOwnerDeletion": False,
    }


def _users(given: Mapping[str, str] | None) -> dict[str, str]:
    """The labels and annotations that a template may set: ours have a meaning, absent too."""
    ours = f"{meta.GROUP}/"
    return {key: value for key, value in (given or {}).items() if not key.startswith(ours)}


def labels(start: StartAttempt) -> dict[str, str]:
    """What says of an object which attempt of which job it belongs to."""
    return {
        meta.LABEL_MANAGED_BY: meta.MANAGED_BY,
        meta.LABEL_JOB_NAME: start.job.name,
        meta.LABEL_JOB_UID: start.job.uid,
        meta.LABEL_QUEUE: start.job.spec.job_queue,
        meta.LABEL_COMPUTE_ENVIRONMENT: start.environment,
        meta.LABEL_ATTEMPT: str(start.number),
        meta.LABEL_REVISION: str(start.plan.revision),
        meta.LABEL_TRACKED: "true",
    }


def environment_variables(start: StartAttempt, array_index: int | None) -> list[dict[str, Any]]:
    """What AWS Batch sets in every container (user guide, "job environment variables")."""
    variables = {
        "AWS_BATCH_JOB_ID": start.job.uid,
        "AWS_BATCH_JOB_ATTEMPT": str(start.number),
        "AWS_BATCH_JQ_NAME": start.job.spec.job_queue,
        "AWS_BATCH_CE_NAME": start.environment,
    }
    if array_index is not None:
        variables["AWS_BATCH_JOB_ID"] = f"{start.job.uid}:{array_index}"
        variables["AWS_BATCH_JOB_ARRAY_INDEX"] = str(array_index)
        variables["AWS_BATCH_JOB_ARRAY_SIZE"] = str(start.array_size)
    return [{"name": name, "value": value} for name, value in variables.items()]


def _without_restarts(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attempts are retried, and their timeout counts from the start of their containers.

    Kubernetes 1.35 takes a policy of a container's own, which the CRD does not; a definition may
    have been stored before.
    """
    return {key: value for key, value in container.items() if key != "restartPolicy"}


def _container(
    container: Mapping[str, Any], env: list[dict[str, Any]], start: StartAttempt
) -> dict[str, Any]:
    # Ours come first: a user's variable may refer to one of them as $(AWS_BATCH_JOB_ID).
    made = {**container, "env": [*env, *(container.get("env") or ())]}
    rule = start.plan.growth
    if rule is not None and start.memory_factor > 1 and "resources" in container:
        made["resources"] = grown(container["resources"], start.memory_factor, rule)
    return made
