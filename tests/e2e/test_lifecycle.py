"""The life of a job on a real kubelet: retries, timeouts, requests to stop, waiting by child."""

from __future__ import annotations

import json
from typing import Any

from support.kube import Kube, OperatorProcess, definition, job, wait_for

TRAP = "trap 'echo told to stop; exit 3' TERM; sleep 300 & wait"


def patch(kube: Kube, name: str, **spec: Any) -> None:
    kube("patch", "batchjob", name, "--type=merge", "-p", json.dumps({"spec": spec}))


def test_a_retry_is_decided_by_the_exit_code(kube: Kube) -> None:
    rules = [{"action": "RETRY", "onExitCode": "75"}, {"action": "EXIT", "onReason": "*"}]
    strategy = {"attempts": 5, "evaluateOnExit": rules}
    script = 'if [ "$AWS_BATCH_JOB_ATTEMPT" -lt 3 ]; then exit 75; else exit 1; fi'
    kube.apply(definition("d", script, retryStrategy=strategy), job("j", "d"))
    status = kube.wait_for_state("j", "FAILED", "SUCCEEDED")

    assert [row["exitCode"] for row in status["attempts"]] == [75, 75, 1]


def test_memory_grows_until_there_is_enough(kube: Kube) -> None:
    limits = {"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}
    grow = {"attempts": 4, "onOutOfMemory": {"factor": 2, "maxMemory": "128Mi"}}
    kube.apply(
        definition(
            "d", "dd if=/dev/zero of=/dev/null bs=40M count=1", resources=limits, retryStrategy=grow
        ),
        job("j", "d"),
    )
    status = kube.wait_for_state("j", "FAILED", "SUCCEEDED", patience_s=90)
    pods = {one["metadata"]["name"]: one for one in kube.pods_of("j")}
    memory = [
        pods[row["podName"]]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        for row in status["attempts"]
    ]

    assert [row["exitCode"] for row in status["attempts"]] == [137, 137, 0]
    assert memory == ["16Mi", "32Mi", "64Mi"]


def test_a_job_that_runs_too_long_sees_sigterm_and_its_log_stays(kube: Kube) -> None:
    fast = job("j", "d", timeout={"attemptDurationSeconds": 60}, retryStrategy={"attempts": 3})
    kube.apply(definition("d", TRAP), fast)
    kube.wait_for_state("j", "RUNNING")
    status = kube.wait_for_state("j", "FAILED", patience_s=90)
    (row,) = status["attempts"]

    assert status["statusReason"] == "Job attempt duration exceeded timeout"
    assert row["exitCode"] == 3
    assert kube("logs", row["podName"]).strip() == "told to stop"


def test_terminating_an_array_tells_every_child_and_starts_no_more(kube: Kube) -> None:
    kube.apply(
        definition("d", TRAP, retryStrategy={"attempts": 3}),
        job("j", "d", arrayProperties={"size": 6, "maxParallel": 3}),
    )
    wait_for("three to run", lambda: (kube.status("j").get("array") or {}).get(
        "statusSummary", {}).get("RUNNING") == 3)  # fmt: skip
    patch(kube, "j", terminate={"reason": "wrong input"})
    status = kube.wait_for_state("j", "FAILED")

    assert status["statusReason"] == "wrong input"
    assert status["array"]["indexes"] == {"failed": "0-5"}
    assert len(kube.pods_of("j")) == 3
    assert kube("logs", "-l", "batch-operator.io/job-name=j").count("told to stop") == 3


def test_cancel_spares_what_runs_and_suspend_holds_what_waits(kube: Kube) -> None:
    kube.apply(definition("d", "sleep 3"), job("runs", "d"), job("held", "d", suspend=True))
    kube.wait_for_state("runs", "RUNNING")
    patch(kube, "runs", cancel={"reason": "too late"})

    assert kube.status("held")["pending"]["reason"] == "Suspended"

    patch(kube, "held", cancel={"reason": "not needed"})

    assert kube.wait_for_state("held", "FAILED")["statusReason"] == "not needed"
    assert kube.wait_for_state("runs", "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"


def test_a_pipeline_of_arrays_overlaps_child_by_child(kube: Kube) -> None:
    """N_TO_N: the second step of a child begins while first steps of others are still running."""
    kube.apply(
        definition("first", "sleep $((AWS_BATCH_JOB_ARRAY_INDEX * 4))"),
        definition("second", "true"),
        job("a", "first", arrayProperties={"size": 3}),
        job("b", "second", arrayProperties={"size": 3},
            dependsOn=[{"job": "a", "type": "N_TO_N"}]),
    )  # fmt: skip

    def ended() -> str:
        indexes: dict[str, str] = (kube.status("b").get("array") or {}).get("indexes", {})
        return indexes.get("succeeded", "")

    wait_for("the first child of b to end", ended)

    assert kube.status("a")["state"] == "PENDING"

    assert kube.wait_for_state("b", "SUCCEEDED")["array"]["indexes"] == {"succeeded": "0-2"}


def test_a_job_keeps_running_what_it_was_given_when_its_definition_is_gone(
    kube: Kube, operator_process: OperatorProcess
) -> None:
    script = '[ "$AWS_BATCH_JOB_ATTEMPT" = 2 ]; code=$?; sleep 4; exit $code'
    kube.apply(definition("d", script, retryStrategy={"attempts": 2}), job("j", "d"))
    kube.wait_for_state("j", "RUNNING")
    kube("delete", "jobdefinition", "d")
    operator_process.kill()
    operator_process.start()
    status = kube.wait_for_state("j", "SUCCEEDED", "FAILED")

    assert [row["exitCode"] for row in status["attempts"]] == [1, 0]
    wait_for("its revision to be forgotten", lambda: not kube.items("controllerrevisions"))
