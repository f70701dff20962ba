"""Manifests that the CRDs refuse, with what is then said."""

from __future__ import annotations

from typing import Any

from support.kube import definition, job

GROUP = "batch-operator.io/v1alpha1"
ARRAY = {"size": 3}


def cluster_kind(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": GROUP, "kind": kind, "metadata": {"name": "bad"}, "spec": spec}


def queue(**spec: Any) -> dict[str, Any]:
    order = [{"order": 1, "computeEnvironment": "e2e"}]
    return cluster_kind("JobQueue", **{"priority": 1, "computeEnvironmentOrder": order, **spec})


def limited(**fields: Any) -> dict[str, Any]:
    """A queue with a time limit of these fields."""
    rule = {"state": "RUNNING", "reason": "*", "maxTimeSeconds": 60, "action": "TERMINATE"}
    return queue(jobStateTimeLimitActions=[{**rule, **fields}])


def environment(**spec: Any) -> dict[str, Any]:
    return cluster_kind("ComputeEnvironment", **{"type": "UNMANAGED", "maxvCpus": 4, **spec})


def template(**fields: Any) -> dict[str, Any]:
    """A definition whose container has these fields."""
    bad = definition("bad", "true")
    bad["spec"]["podTemplate"]["spec"]["containers"][0] |= fields
    return bad


def pod(**fields: Any) -> dict[str, Any]:
    bad = definition("bad", "true")
    bad["spec"]["podTemplate"]["spec"] |= fields
    return bad


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no queue": (
        {"apiVersion": GROUP, "kind": "BatchJob", "metadata": {"name": "bad"},
         "spec": {"jobDefinition": "d"}},
        "spec.jobQueue: Required value",
    ),
    "unknown field": (job("bad", "d", qeue="main"), 'unknown field "spec.qeue"'),
    "queue name with upper case": (job("bad", "d", queue="Main"), "spec.jobQueue"),
    "definition revision zero": (job("bad", "d:0"), "spec.jobDefinition"),
    "array of none": (job("bad", "d", arrayProperties={"size": 0}), "greater than or equal to 1"),
    "array too large": (
        job("bad", "d", arrayProperties={"size": 10_001}),
        "less than or equal to 10000",
    ),
    "children of a job that is no array are cancelled": (
        job("bad", "d", cancel={"reason": "no", "indexes": "1"}),
        "cancel.indexes names children of an array, and this job is none: leave it out",
    ),
    "array with indexes and rerunFailedOf": (
        job("bad", "d", arrayProperties={"indexes": "0-2", "rerunFailedOf": "a"}),
        "indexes or both, or nothing but rerunFailedOf",
    ),
    "array with neither": (
        job("bad", "d", arrayProperties={"maxParallel": 3}),
        "give size (indexes 0 to size-1), indexes or both",
    ),
    "array with size and rerunFailedOf": (
        job("bad", "d", arrayProperties={"size": 3, "rerunFailedOf": "a"}),
        "indexes or both, or nothing but rerunFailedOf",
    ),
    "array that runs its own failed indexes again": (
        job("bad", "d", arrayProperties={"rerunFailedOf": "bad"}),
        "name another array in spec.arrayProperties.rerunFailedOf",
    ),
    "array with a parameter from a list and from a matrix": (
        job(
            "bad",
            "d",
            arrayProperties={
                "size": 2,
                "parameters": {
                    "lists": [{"name": "a", "values": ["1", "2"]}],
                    "matrix": [{"name": "a", "values": ["1", "2"]}],
                },
            },
        ),
        "must not give a parameter of the same name",
    ),
    "array with a parameter that is the operator's": (
        job(
            "bad",
            "d",
            arrayProperties={
                "size": 2,
                "parameters": {"lists": [{"name": "AWS_BATCH_X", "values": ["1", "2"]}]},
            },
        ),
        "names that start with AWS_BATCH are set by the operator",
    ),
    "indexes that are none": (
        job("bad", "d", arrayProperties={"indexes": "0..9"}),
        "spec.arrayProperties.indexes",
    ),
    "max parallel zero": (
        job("bad", "d", arrayProperties={"size": 3, "maxParallel": 0}),
        "greater than or equal to 1",
    ),
    "dependency on itself": (
        job("bad", "d", dependsOn=[{"job": "bad"}]),
        "a job cannot depend on itself",
    ),
    "sequence after another job": (
        job("bad", "d", arrayProperties=ARRAY, dependsOn=[{"job": "a", "type": "SEQUENTIAL"}]),
        "leave job and index out",
    ),
    "sequence after one child": (
        job("bad", "d", arrayProperties=ARRAY, dependsOn=[{"index": 2, "type": "SEQUENTIAL"}]),
        "leave job and index out",
    ),
    "index by index, and one of them": (
        job("bad", "d", arrayProperties=ARRAY,
            dependsOn=[{"job": "a", "index": 2, "type": "N_TO_N"}]),
        "with N_TO_N child i waits for child i",
    ),
    "sequence of one": (
        job("bad", "d", dependsOn=[{"type": "SEQUENTIAL"}]), "for the children of an array",
    ),
    "index by index without children": (
        job("bad", "d", dependsOn=[{"job": "a"}, {"job": "b", "type": "N_TO_N"}]),
        "for the children of an array",
    ),
    "dependency on nothing": (
        job("bad", "d", arrayProperties=ARRAY, dependsOn=[{"type": "N_TO_N"}]), "name the job",
    ),
    "unknown dependency type": (
        job("bad", "d", dependsOn=[{"job": "a", "type": "AFTER"}]),
        'supported values: "N_TO_N"',
    ),
    "name too long": (job("b" * 64, "d"), "metadata.name must be no more than 63 characters"),
    "name with a dot": (job("train.v2", "d"), "metadata.name must not have dots"),
    "negative timeout": (
        job("bad", "d", timeout={"attemptDurationSeconds": -1}),
        "greater than or equal to 60",
    ),
    "eleven attempts": (
        job("bad", "d", retryStrategy={"attempts": 11}),
        "less than or equal to 10",
    ),
    "retry rule without a condition": (
        job("bad", "d", retryStrategy={"attempts": 2, "evaluateOnExit": [{"action": "EXIT"}]}),
        "give at least one of onExitCode",
    ),
    "wildcard in the middle": (
        job("bad", "d", retryStrategy={
            "attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onExitCode": "1*7"}]}),
        "onExitCode",
    ),
    "wrong retry action": (
        job("bad", "d", retryStrategy={
            "attempts": 2, "evaluateOnExit": [{"action": "STOP", "onExitCode": "1"}]}),
        'supported values: "RETRY", "EXIT"',
    ),
    "the operator's variable": (
        job("bad", "d", containerOverrides=[{"env": [{"name": "AWS_BATCH_X", "value": "1"}]}]),
        "names that start with AWS_BATCH are set by the operator",
    ),
    "override of CPU in words": (
        job("bad", "d", containerOverrides=[{"resources": {"requests": {"cpu": "two"}}}]),
        "spec.containerOverrides[0].resources.requests.cpu",
    ),
    "vCPU as text": (template(resources={"requests": {"cpu": "two"}}), "requests.cpu"),
    "typo in the pod template": (template(comand=["true"]), "unknown field"),
    "no image": (template(image=""), "image"),
    "restart policy": (pod(restartPolicy="Always"), 'supported values: "Never"'),
    "restart policy of a container": (template(restartPolicy="OnFailure"), "unknown field"),
    "grace of years": (
        pod(terminationGracePeriodSeconds=10**9), "should be less than or equal to 3600",
    ),
    "no containers": (pod(containers=[]), "at least 1 items"),
    "definition without a template": (
        {**definition("bad", "true"), "spec": {"type": "container"}},
        "type container needs podTemplate",
    ),
    "queue without priority": (
        cluster_kind("JobQueue", computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "a"}]),
        "spec.priority: Required value",
    ),
    "queue without environments": (queue(computeEnvironmentOrder=[]), "at least 1 items"),
    "budget of a share where there are none": (
        queue(budgets=[{"name": "b", "amount": 1, "window": "DAY", "action": "HOLD",
                        "shareIdentifier": "red"}]),
        "leave shareIdentifier out of budgets",
    ),
    "queue with one order twice": (
        queue(computeEnvironmentOrder=[
            {"order": 1, "computeEnvironment": "a"}, {"order": 1, "computeEnvironment": "b"}]),
        "an order of its own",
    ),
    "time limit that cancels what has started": (
        limited(state="STARTING", action="CANCEL"), "write TERMINATE for STARTING and RUNNING",
    ),
    "time limit of a final state": (limited(state="FAILED"), "a job that is over stays so"),
    "time limit that moves what runs": (
        limited(action="NEXT_COMPUTE_ENVIRONMENT"), "NEXT_COMPUTE_ENVIRONMENT is for RUNNABLE",
    ),
    "time limit with a reason to run": (limited(reason="Late"), "write reason '*'"),
    "time limit of a second": (limited(maxTimeSeconds=1), "greater than or equal to 60"),
    "queue in a wrong state": (queue(state="OFF"), 'supported values: "ENABLED", "DISABLED"'),
    "queue that selects namespaces by no values": (
        queue(allowedNamespaces={"selector": {"matchExpressions": [
            {"key": "team", "operator": "In"}]}}),
        "In and NotIn need values",
    ),
    "environment without room": (environment(maxvCpus=0), "greater than or equal to 1"),
    "environment with min above max": (environment(minvCpus=9), "minvCpus must not be above"),
    "idle vCPUs of an autoscaler that follows Pods": (
        environment(minvCpus=2, type="MANAGED", provisioner={"type": "none"}),
        "minvCpus needs a provisioner that orders nodes",
    ),
    **{
        f"unmanaged with {field}": (environment(**{field: value}), f"{field} is for type MANAGED")
        for field, value in {
            "minvCpus": 1,
            "allocationStrategy": "BEST_FIT",
            "bidPercentage": 50,
            "provisioner": {"type": "none"},
            "updatePolicy": {},
            "scalingPolicy": {},
            "nodeOverhead": {"cpu": "1"},
        }.items()
    },
    "managed without provisioner": (environment(type="MANAGED"), "needs a provisioner"),
    "managed without instance types": (
        environment(type="MANAGED", provisioner={"type": "kwok"}), "needs instanceTypes",
    ),
    "spot strategy without spot": (
        environment(
            type="MANAGED", provisioner={"type": "kwok"},
            allocationStrategy="SPOT_CAPACITY_OPTIMIZED",
            instanceTypes=[{"name": "a", "vcpus": 1, "memory": "1Gi"}],
        ), "this allocationStrategy is for spot",
    ),
}  # fmt: skip
