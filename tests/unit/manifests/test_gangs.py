"""The Jobs of a multi-node attempt: what their Pods are told, and that they are known again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batch_operator.api import meta
from batch_operator.api.objects import Job, Pod
from batch_operator.lifecycle.attempt import Phase, PodAttempt, observed_attempt, observed_group
from batch_operator.lifecycle.plan import Plan, make_plan
from batch_operator.manifests.gangs import gang_job
from batch_operator.scheduling.mutations import StartAttempt
from support.builders import definition, job, multi_node_spec

ADDRESS = "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS"
NAME = "j-uid-j-1"


def made(group: int, **spec: Any) -> dict[str, Any]:
    """A Job of attempt 1 of `j`, which has four nodes; node 2 is the main node."""
    one = job("j")
    nodes = multi_node_spec(**{"numNodes": 4, "mainNode": 2, **spec})
    plan = make_plan(one, definition(spec=nodes), None)
    assert isinstance(plan, Plan)
    return gang_job(StartAttempt(one, plan, 0, 1, None, "local", {"pool": "x"}), group)


def stored(body: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    known = {"uid": "the-uid", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {**body, "metadata": {**body["metadata"], **known, **metadata}}


def pod_of(body: dict[str, Any], member: int = 0, **metadata: Any) -> Pod:
    """The Pod that the Job controller makes."""
    template, name = body["spec"]["template"], body["metadata"]["name"]
    own = template["metadata"]
    labels = {**own["labels"], "batch.kubernetes.io/job-completion-index": str(member)}
    labels |= metadata.pop("labels", {})
    owner = {"kind": "Job", "name": name, "uid": "job-uid", "controller": True}
    pod = {
        "metadata": {**own, "name": f"{name}-{member}-abcde", "namespace": "default",
                     "ownerReferences": [owner], **metadata, "labels": labels},
        "spec": template["spec"],
        "status": {"podIP": "10.0.0.5"},
    }  # fmt: skip
    return msgspec.convert(stored(pod), Pod)


def test_a_job_makes_each_of_its_nodes_once_and_behind_a_gate() -> None:
    body = made(1)
    spec = body["spec"]

    assert body["metadata"]["name"] == f"{NAME}-1"
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert (spec["backoffLimitPerIndex"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert spec["template"]["spec"]["schedulingGates"] == [{"name": meta.GATE_GANG}]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["template"]["spec"]["nodeSelector"] == {"pool": "x"}
    assert spec["template"]["metadata"]["finalizers"] == [meta.FINALIZER_TRACKING]
    assert spec["template"]["metadata"]["annotations"][meta.ANNOTATION_NODES] == "0-1,3"


def test_nodes_are_told_who_they_are_and_the_main_node_not_its_own_address() -> None:
    env = {
        group: {one["name"]: one.get("value") for one in
                made(group)["spec"]["template"]["spec"]["containers"][0]["env"]}
        for group in (0, 1)
    }  # fmt: skip

    assert ADDRESS not in env[0]
    assert ADDRESS in env[1]
    assert env[1]["AWS_BATCH_JOB_ID"] == "uid-j#$(AWS_BATCH_JOB_NODE_INDEX)"
    assert env[1]["AWS_BATCH_JOB_NUM_NODES"] == "4"
    assert env[1]["AWS_BATCH_JOB_MAIN_NODE_INDEX"] == "2"
    names = list(env[1])
    assert names.index("AWS_BATCH_JOB_NODE_INDEX") < names.index("AWS_BATCH_JOB_ID")


def test_a_job_and_its_pods_are_known_again() -> None:
    group = observed_group(msgspec.convert(stored(made(1)), Job))
    node = observed_attempt(pod_of(made(1), 2))

    assert (group.job_uid, group.number, group.node_group, group.members) == ("uid-j", 1, 1, 3)
    assert (group.phase, group.milli_cpu, group.is_job) == (Phase.ASSUMED, 3000, True)
    assert (node.job_uid, node.number, node.node_group, node.member) == ("uid-j", 1, 1, 2)
    assert (node.gated, node.pod_ip, node.is_job, node.milli_cpu) == (True, "10.0.0.5", False, 1000)


def test_a_job_that_is_suspended_makes_nothing_more() -> None:
    body = made(0)
    found = known({**body, "spec": {**body["spec"], "suspend": True}})

    assert (found.phase, found.deleting, found.status_reason) == (
        Phase.FAILED, True, "Task failed to start",
    )  # fmt: skip


def owner(**changes: Any) -> dict[str, Any]:
    known = {"kind": "Job", "name": f"{NAME}-1", "uid": "job-uid", "controller": True}
    return {"ownerReferences": [{**known, **changes}]}


FORGED: dict[str, dict[str, Any]] = {
    "no owner": {"ownerReferences": []},
    "an owner that controls nothing": owner(controller=False),
    "an owner of another kind": owner(kind="ReplicaSet"),
    "another job's Job": owner(name="j-uid-x-1-1"),
    "another attempt's Job": owner(name="j-uid-j-2-1"),
    "another group's Job": owner(name=f"{NAME}-0"),
    "a name of its own": {"name": "mine"},
    "another place": {"labels": {"batch.kubernetes.io/job-completion-index": "1"}},
    "another group": {"labels": {meta.LABEL_NODE_GROUP: "0"}},
    "an array's child": {"labels": {meta.LABEL_ARRAY_INDEX: "0"}},
    "a group beyond all": {"labels": {meta.LABEL_NODE_GROUP: "999999"}},
}


@pytest.mark.parametrize("metadata", FORGED.values(), ids=FORGED)
def test_a_pod_that_only_claims_to_be_a_node_is_none(metadata: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is not|and is none"):
        observed_attempt(pod_of(made(1), **metadata))


def known(body: dict[str, Any], **metadata: Any) -> PodAttempt:
    return observed_group(msgspec.convert(stored(body, **metadata), Job))


def test_a_job_that_only_claims_to_be_ours_is_none() -> None:
    with pytest.raises(ValueError, match="its owner does not"):
        known(made(1), ownerReferences=[])
    with pytest.raises(ValueError, match="not named as its labels say"):
        known(made(1), name="mine")
