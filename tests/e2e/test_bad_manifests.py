"""Bad manifests: refused by `kubectl apply`, or answered by a condition, with what to write."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from support.kube import WITH_PATIENCE, Kube, definition, job, wait_for

GROUP = "batch-operator.io/v1alpha1"


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
    "dependency on nothing": (job("bad", "d", dependsOn=[{"type": "N_TO_N"}]), "name the job"),
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


@pytest.mark.parametrize("name", REFUSED)
def test_kubectl_apply_refuses(installed: Kube, name: str) -> None:
    manifest, expected = REFUSED[name]
    done = installed.run("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    assert done.returncode != 0, done.stdout
    assert expected.lower() in done.stderr.lower()


WAITING: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing definition": (job("bad", "absent"), "JobDefinitionNotFound", "apply it, or name one"),
    "missing revision": (job("bad", "ok:9"), "JobDefinitionNotFound", "it has: 1"),
    "inactive definition": (job("bad", "off"), "JobDefinitionInactive", "spec.state to ACTIVE"),
    "unknown queue": (job("bad", "ok", queue="absent"), "JobQueueNotFound", "kubectl get jobqueue"),
    "unknown dependency": (
        job("bad", "ok", dependsOn=[{"job": "absent"}]), "DependencyNotFound", "apply it, or submit"
    ),
    "child of a job that is none": (
        job("bad", "ok", dependsOn=[{"job": "held", "index": 3}]),
        "DependencyInvalid", "is no array: leave the dependency's index out",
    ),
    "sequence of one": (
        job("bad", "ok", dependsOn=[{"type": "SEQUENTIAL"}]),
        "DependencyInvalid", "this job is no array",
    ),
    "inactive revision": (job("bad", "half:1"), "JobDefinitionInactive", "revision 1 of"),
    "more than there can be": (
        job("bad", "ok", containerOverrides=[{"resources": {"requests": {"cpu": "99"}}}]),
        "ComputeEnvironmentMaxResource", "request less, or raise maxvCpus",
    ),
    "a share identifier without a policy": (
        job("bad", "ok", shareIdentifier="team"),
        "ShareIdentifierNotUsed", "submit the job again without it, or to another queue",
    ),
    "missing consumable resource": (
        job("bad", "ok", consumableResources=[{"name": "licence", "quantity": 1}]),
        "ConsumableResourceNotFound", "there is no ConsumableResource licence",
    ),
}  # fmt: skip
FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "unknown parameter": (job("bad", "greet"), "add who to the job's spec.parameters"),
    "unknown container": (
        job("bad", "ok", containerOverrides=[{"name": "mian", "image": "x"}]),
        "the definition has: main",
    ),
    "indexes that fall": (
        job("bad", "ok", arrayProperties={"indexes": "5-3"}),
        "must rise",
    ),
    "no CPU requested": (job("bad", "free"), "set resources.requests.cpu"),
}


def definitions() -> list[dict[str, Any]]:
    return [
        definition("ok", "true"),
        definition("off", "true", state="INACTIVE"),
        definition("greet", "echo Ref::who"),
        definition("free", "true", resources={}),
        definition("half", "true", inactiveRevisions=[1]),
        job("held", "ok", suspend=True),
    ]


@pytest.mark.parametrize("name", WAITING)
def test_what_can_be_mended_waits_and_says_how(kube: Kube, name: str) -> None:
    manifest, reason, advice = WAITING[name]
    kube.apply(*definitions(), manifest)

    def is_told() -> bool:
        # At first the operator may not have seen all that was applied.
        conditions = kube.status("bad").get("conditions", [])
        stalled = [one for one in conditions if one["type"] == "Stalled"]
        return any(one["reason"] == reason and advice in one["message"] for one in stalled)

    wait_for(f"the job to be Stalled: {reason}, … {advice} …", is_told, lambda: kube.status("bad"))


def test_a_circle_of_dependencies_is_spelled_out(kube: Kube) -> None:
    kube.apply(definition("ok", "true"), job("a", "ok", dependsOn=[{"job": "b"}]),
               job("b", "ok", dependsOn=[{"job": "a"}]))  # fmt: skip

    def said() -> str:
        return str(kube.status("a").get("pending", {}).get("message", ""))

    wait_for("the circle", lambda: "a → b → a" in said())


def test_a_missing_definition_that_comes_later_lets_the_job_run(kube: Kube) -> None:
    kube.apply(job("early", "late"))
    wait_for("the reason", lambda: kube.status("early").get("pending"))
    kube.apply(definition("late", "true"))

    assert kube.wait_for_state("early", "SUCCEEDED")["jobDefinition"] == "late:1"


@pytest.mark.parametrize("name", FAILING)
def test_what_cannot_be_mended_fails_and_says_why(kube: Kube, name: str) -> None:
    manifest, advice = FAILING[name]
    kube.apply(*definitions(), manifest)
    status = kube.wait_for_state("bad", "FAILED")

    assert advice in status["statusReason"]


def test_what_was_submitted_cannot_be_changed(kube: Kube) -> None:
    kube.apply(definition("ok", "true"), job("j", "ok"))
    patches = {
        '{"spec":{"jobQueue":"other"}}': "jobQueue cannot be changed",
        '{"spec":{"parameters":{"a":"b"}}}': "parameters cannot be changed",
        '{"spec":{"arrayProperties":{"size":3}}}': "arrayProperties cannot be changed",
    }
    for patch, expected in patches.items():
        done = kube.run("patch", "batchjob", "j", "--type=merge", "-p", patch)

        assert done.returncode != 0
        assert expected in done.stderr


def test_a_policy_that_contradicts_itself_says_what_to_take_out(kube: Kube) -> None:
    shares = [{"shareIdentifier": "team-*"}, {"shareIdentifier": "team-a"}]
    kube.apply(
        cluster_kind("SchedulingPolicy", fairsharePolicy={"shareDistribution": shares}),
    )
    kube("wait", "--for=condition=Stalled", "schedulingpolicy/bad", WITH_PATIENCE)
    conditions = (kube.get("SchedulingPolicy", "bad") or {})["status"]["conditions"]
    kube("delete", "SchedulingPolicy", "bad")

    assert "team-* and team-a" in conditions[0]["message"]
    assert "take one of them out" in conditions[0]["message"]
