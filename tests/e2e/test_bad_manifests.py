"""Bad manifests: refused by `kubectl apply`, or answered by a condition, with what to write."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from support.bad_manifests import REFUSED, cluster_kind
from support.kube import WITH_PATIENCE, Kube, definition, job, wait_for


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
