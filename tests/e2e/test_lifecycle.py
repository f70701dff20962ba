"""The life of a job on a real kubelet: retries, timeouts, requests to stop, waiting by child."""

from __future__ import annotations

from support.kube import UNTIL_TOLD, Kube, OperatorProcess, definition, job, wait_for

TRAP = "trap 'echo told to stop; exit 3' TERM; echo listening; sleep 600 & wait"
SAID = "listening\ntold to stop\n"


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
    status = kube.wait_for_state("j", "FAILED", "SUCCEEDED")
    pods = {one["metadata"]["name"]: one for one in kube.pods_of("j")}
    memory = [
        pods[row["podName"]]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        for row in status["attempts"]
    ]

    assert [row["exitCode"] for row in status["attempts"]] == [137, 137, 0]
    assert memory == ["16Mi", "32Mi", "64Mi"]


def test_a_job_that_runs_too_long_sees_sigterm_and_its_log_stays(kube: Kube) -> None:
    fast = job("j", "d", timeout={"attemptDurationSeconds": 60}, retryStrategy={"attempts": 3})
    kube.apply(definition("d", TRAP, grace_s=30), fast)
    status = kube.wait_for_state("j", "FAILED")
    (row,) = status["attempts"]

    assert status["statusReason"] == "Job attempt duration exceeded timeout"
    assert row["exitCode"] == 3
    assert kube("logs", row["podName"]) == SAID


def test_terminating_an_array_tells_every_child_and_starts_no_more(kube: Kube) -> None:
    kube.apply(
        definition("d", TRAP, grace_s=30, retryStrategy={"attempts": 3}),
        job("j", "d", arrayProperties={"size": 6, "maxParallel": 3}),
    )
    wait_for("three to run", lambda: (kube.status("j").get("array") or {}).get(
        "statusSummary", {}).get("RUNNING") == 3)  # fmt: skip
    ours = ("-l", "batch-operator.io/job-name=j")
    wait_for("three to listen", lambda: kube("logs", *ours).count("listening") == 3)
    kube.change("j", terminate={"reason": "wrong input"})
    status = kube.wait_for_state("j", "FAILED")

    assert status["statusReason"] == "wrong input"
    assert status["array"]["indexes"] == {"failed": "0-5"}
    assert len(kube.pods_of("j")) == 3
    assert kube("logs", *ours).count("told to stop") == 3


def test_cancel_spares_what_runs_and_suspend_holds_what_waits(kube: Kube) -> None:
    kube.apply(definition("d", UNTIL_TOLD), job("runs", "d"), job("held", "d", suspend=True))
    kube.wait_for_state("runs", "RUNNING")
    kube.wait_for_pending("held", "Suspended")
    kube.change("runs", cancel={"reason": "too late"})
    kube.change("held", cancel={"reason": "not needed"})

    def is_seen() -> bool:
        found = kube.get("batchjob", "runs") or {}
        generation: int = found["metadata"]["generation"]
        return generation > 1 and found["status"]["observedGeneration"] == generation

    wait_for("the request to be seen", is_seen)
    assert kube.wait_for_state("held", "FAILED")["statusReason"] == "not needed"
    assert kube.status("runs")["state"] == "RUNNING"

    kube.tell("runs")
    assert kube.wait_for_state("runs", "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"


def test_a_pipeline_of_arrays_overlaps_child_by_child(kube: Kube) -> None:
    """N_TO_N: the second step of a child begins while first steps of others are still running."""
    kube.apply(
        definition("first", f'[ "$AWS_BATCH_JOB_ARRAY_INDEX" = 0 ] || {UNTIL_TOLD}'),
        definition("second", "true"),
        job("a", "first", arrayProperties={"size": 3}),
        job("b", "second", arrayProperties={"size": 3},
            dependsOn=[{"job": "a", "type": "N_TO_N"}]),
    )  # fmt: skip

    def ended() -> str:
        indexes: dict[str, str] = (kube.status("b").get("array") or {}).get("indexes", {})
        return indexes.get("succeeded", "")

    wait_for("the first child of b to end", lambda: ended() == "0")

    assert kube.status("a")["array"]["indexes"]["succeeded"] == "0"

    wait_for("the others of a to run", lambda: kube.status("a")["array"]["indexes"].get(
        "running") == "1-2")  # fmt: skip
    kube.tell("a")
    assert kube.wait_for_state("b", "SUCCEEDED")["array"]["indexes"] == {"succeeded": "0-2"}


def test_a_job_keeps_running_what_it_was_given_when_its_definition_is_gone(
    kube: Kube, operator_process: OperatorProcess
) -> None:
    script = f'if [ "$AWS_BATCH_JOB_ATTEMPT" = 1 ]; then {UNTIL_TOLD}; exit 1; fi'
    kube.apply(definition("d", script, retryStrategy={"attempts": 2}), job("j", "d"))
    kube.wait_for_state("j", "RUNNING")
    kube("delete", "jobdefinition", "d")
    operator_process.kill()
    operator_process.start()
    kube.tell("j")
    status = kube.wait_for_state("j", "SUCCEEDED", "FAILED")

    assert [row["exitCode"] for row in status["attempts"]] == [1, 0]
    wait_for("its revision to be forgotten", lambda: not kube.items("controllerrevisions"))
