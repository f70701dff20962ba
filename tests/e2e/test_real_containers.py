"""Jobs on a real kubelet: outcomes, logs, and what a user sees when something goes wrong."""

from __future__ import annotations

import json

import pytest

from support.kube import (
    EXAMPLES,
    ROOT,
    WITH_PATIENCE,
    Kube,
    OperatorProcess,
    definition,
    job,
    wait_for,
)


def test_the_examples_succeed(kube: Kube) -> None:
    # The examples' queue is cluster-wide, their jobs go into this test's namespace.
    kube("apply", "-f", str(ROOT / "examples"))
    finals = [kube.wait_for_state(name, "SUCCEEDED", "FAILED")["state"] for name in EXAMPLES]

    assert finals == ["SUCCEEDED"] * len(EXAMPLES)
    assert kube("logs", "-l", "batch-operator.io/job-name=hello").startswith("hello, batch,")
    assert len(kube.pods_of("render")) == 20


def test_exit_codes_parameters_overrides_and_environment(kube: Kube) -> None:
    kube.apply(
        definition(
            "d",
            'echo "$AWS_BATCH_JOB_ATTEMPT $AWS_BATCH_JQ_NAME $AWS_BATCH_CE_NAME $WHO Ref::word"; '
            "exit 7",
            parameters={"word": "default"},
            retryStrategy={"attempts": 2},
        ),
        job("j", "d", parameters={"word": "given"},
            containerOverrides=[{"env": [{"name": "WHO", "value": "me"}]}]),
    )  # fmt: skip
    status = kube.wait_for_state("j", "FAILED", "SUCCEEDED")
    logs = [kube("logs", row["podName"]).strip() for row in status["attempts"]]

    assert status["state"] == "FAILED"
    assert status["statusReason"] == "Essential container in task exited"
    assert [row["exitCode"] for row in status["attempts"]] == [7, 7]
    assert logs == ["1 e2e e2e me given", "2 e2e e2e me given"]
    kube("wait", "--for=condition=Failed", "batchjob/j", WITH_PATIENCE)


def test_running_out_of_memory_is_named(kube: Kube) -> None:
    limits = {"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}
    kube.apply(
        definition("d", "dd if=/dev/zero of=/dev/null bs=64M count=1", resources=limits),
        job("j", "d"),
    )
    status = kube.wait_for_state("j", "FAILED", "SUCCEEDED")
    (row,) = status["attempts"]

    assert row["exitCode"] == 137
    assert row["reason"].startswith("OutOfMemoryError")


def test_a_volume_that_cannot_be_mounted_says_so_and_fails(kube: Kube) -> None:
    """Nothing but an Event tells of it. The tests' operator waits 30 s in place of ten minutes."""
    made = definition("d", "true")
    pod = made["spec"]["podTemplate"]["spec"]
    pod["volumes"] = [{"name": "data", "configMap": {"name": "nope"}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    kube.apply(made, job("j", "d"))

    kube.wait_for_pending("j", "ContainersStarting", 'configmap "nope" not found')
    status = kube.wait_for_state("j", "FAILED")

    assert status["statusReason"] == "Task failed to start"
    assert status["attempts"][0]["reason"].startswith("CannotCreateContainerError: FailedMount: ")


def test_an_image_that_cannot_be_pulled_fails_with_a_reason(kube: Kube) -> None:
    # A port that refuses: the name of a registry would be looked up first, for as long as it takes.
    kube.apply(definition("d", "true", image="127.0.0.1:1/absent:1"), job("j", "d"))
    wait_for("an explanation", lambda: "pull" in json.dumps(kube.status("j").get("pending", {})))
    status = kube.wait_for_state("j", "FAILED")
    (row,) = status["attempts"]

    assert row["statusReason"] == "Task failed to start"
    assert row["reason"].startswith("CannotPullContainerError")
    wait_for("the Pod to go", lambda: not kube.pods_of("j"))


def test_deleting_a_job_stops_and_removes_its_pods(kube: Kube) -> None:
    kube.apply(definition("d", "sleep 600"), job("j", "d", arrayProperties={"size": 3}))
    wait_for("it to run", lambda: (kube.status("j").get("array") or {}).get("indexes", {}).get(
        "running") == "0-2")  # fmt: skip
    kube("delete", "batchjob", "j", WITH_PATIENCE)
    wait_for("its Pods to go", lambda: not kube.pods_of("j"))


def test_a_pod_that_a_user_deletes_is_counted_once(kube: Kube) -> None:
    kube.apply(definition("d", "sleep 600", retryStrategy={"attempts": 2}), job("j", "d"))
    first = kube.wait_for_state("j", "RUNNING")["attempts"][0]["podName"]
    kube("delete", "pod", first, "--wait=false")
    status = wait_for(
        "the second attempt",
        lambda: (now := kube.status("j")) and len(now.get("attempts", ())) == 2 and now,
    )

    assert status["attempts"][0]["stoppedAt"]
    assert status["attempts"][0]["reason"] == "Pod was deleted"
    wait_for("the first Pod to go", lambda: kube.get("pod", first) is None)


def test_a_definition_keeps_its_revisions(kube: Kube) -> None:
    kube.apply(definition("d", "echo one"))
    kube("wait", "--for=condition=Ready", "jobdefinition/d", WITH_PATIENCE)
    kube.apply(definition("d", "echo two"))
    kube("wait", "--for=jsonpath={.status.latestRevision}=2", "jobdefinition/d", WITH_PATIENCE)
    kube.apply(job("latest", "d"), job("first", "d:1"))
    kube.wait_for_state("latest", "SUCCEEDED")
    kube.wait_for_state("first", "SUCCEEDED")

    assert kube.status("latest")["jobDefinition"] == "d:2"
    assert kube("logs", "-l", "batch-operator.io/job-name=latest").strip() == "two"
    assert kube("logs", "-l", "batch-operator.io/job-name=first").strip() == "one"


@pytest.mark.parametrize("kills", [8])
def test_killed_again_and_again_every_index_runs_once(
    kube: Kube, operator_process: OperatorProcess, kills: int
) -> None:
    kube.apply(
        definition("d", "true"),
        definition("e", "exit 1", retryStrategy={"attempts": 2}),
        job("array", "d", queue="fake", arrayProperties={"size": 200, "maxParallel": 40}),
        *(job(f"single-{n}", "d", queue="fake") for n in range(30)),
        job("last", "e", dependsOn=[{"job": "array"}]),
    )
    for kill in range(kills):
        # Between writes, wherever it then is: later each time, by what has been done so far.
        wait_for("progress", lambda least=kill: len(kube.items("pods")) >= least * 10)
        operator_process.kill()
        operator_process.start()
    array = kube.wait_for_state("array", "SUCCEEDED", "FAILED")
    last = kube.wait_for_state("last", "FAILED")
    pods = [pod["metadata"]["name"] for pod in kube.pods_of("array")]

    assert array["array"]["indexes"] == {"succeeded": "0-199"}
    assert len(pods) == 200
    assert [row["exitCode"] for row in last["attempts"]] == [1, 1]
    for number in range(30):
        assert len(kube.wait_for_state(f"single-{number}", "SUCCEEDED")["attempts"]) == 1
    wait_for("every Pod to be let go", lambda: not kube.items("pods", "-l",
        "batch-operator.io/tracked"))  # fmt: skip
