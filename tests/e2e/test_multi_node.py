"""Multi-node parallel jobs on a real kubelet, scheduler and Job controller."""

from __future__ import annotations

from typing import Any

from support.kube import IMAGE, ROOT, UNTIL_TOLD, Kube, OperatorProcess, job, wait_for

SPEAK = 'nc -w 1 "$AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS" 7000'
TELL = f'while true; do echo "$AWS_BATCH_JOB_NODE_INDEX" | {SPEAK}; sleep 0.2; done'
GROUP = "batch-operator.io"


def template(script: str, cpu: str = "100m") -> dict[str, Any]:
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["sh", "-c", script],
        "resources": {"requests": {"cpu": cpu, "memory": "16Mi"}},
    }
    return {"spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}


def definition(name: str, *ranges: tuple[str, dict[str, Any]], **spec: Any) -> dict[str, Any]:
    """A multi-node definition; keyword arguments are fields of its spec, or of its nodes."""
    nodes = {one: spec.pop(one) for one in ("numNodes", "mainNode") if one in spec}
    properties = [{"targetNodes": where, "podTemplate": what} for where, what in ranges]
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "JobDefinition",
        "metadata": {"name": name},
        "spec": {
            "type": "multinode",
            "nodeProperties": {**nodes, "nodeRangeProperties": properties},
            **spec,
        },
    }


def environments(kube: Kube, name: str) -> dict[str, dict[str, str]]:
    """What AWS_BATCH variables the nodes of a job printed, by node index."""
    found = {}
    for pod in kube.pods_of(name):
        index = pod["metadata"]["annotations"][f"{GROUP}/node-index"]
        lines = kube("logs", pod["metadata"]["name"]).splitlines()
        found[index] = dict(one.split("=", 1) for one in lines if one.startswith("AWS_BATCH"))
    return found


def test_the_example_hears_of_all_nodes(kube: Kube) -> None:
    kube("apply", "-f", str(ROOT / "examples/00-queue.yaml"))
    kube("apply", "-f", str(ROOT / "examples/40-multi-node.yaml"))
    status = kube.wait_for_state("gather", "SUCCEEDED", "FAILED")

    assert status["state"] == "SUCCEEDED"
    assert kube("logs", status["attempts"][0]["podName"]) == "node 0 heard of nodes 1 2\n"
    assert [row["targetNodes"] for row in status["nodes"]] == ["0", "1:"]


def test_every_node_knows_who_it_is(kube: Kube) -> None:
    """AWS: the main node has every variable but its own address."""
    both = '[ "$(sort -u /tmp/heard | wc -l)" = 2 ]'
    hear = f"touch /tmp/heard; until {both}; do nc -l -p 7000 </dev/null >>/tmp/heard; done"
    show = "env | grep AWS_BATCH"
    kube.apply(
        definition("d", ("0:", template(f"{show}; {TELL}")), ("2", template(f"{show}; {hear}")),
                   numNodes=3, mainNode=2),
        job("j", "d"),
    )  # fmt: skip
    status = kube.wait_for_state("j", "SUCCEEDED", "FAILED")
    found = environments(kube, "j")
    uid = kube.get("batchjob", "j")["metadata"]["uid"]  # type: ignore[index]
    main = next(one for one in kube.pods_of("j") if f"{GROUP}/main-node-address" not in
                one["metadata"]["annotations"])  # fmt: skip

    assert status["state"] == "SUCCEEDED"
    assert set(found) == {"0", "1", "2"}
    for index, variables in found.items():
        assert variables["AWS_BATCH_JOB_ID"] == f"{uid}#{index}"
        assert variables["AWS_BATCH_JOB_NODE_INDEX"] == index
        assert variables["AWS_BATCH_JOB_NUM_NODES"] == "3"
        assert variables["AWS_BATCH_JOB_MAIN_NODE_INDEX"] == "2"
        assert variables["AWS_BATCH_JOB_ATTEMPT"] == "1"
        address = variables.get("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS")
        assert address == (None if index == "2" else main["status"]["podIP"])


def test_a_worker_that_fails_changes_nothing_and_a_main_node_that_fails_is_retried(
    kube: Kube,
) -> None:
    """The second attempt is a new gang; what is left of the first is stopped before."""
    kube.apply(
        definition("d", ("0", template('sleep 2; exit "$((2 - AWS_BATCH_JOB_ATTEMPT))"')),
                   ("1", template("exit 5")), ("2", template("sleep 600")),
                   numNodes=3, retryStrategy={"attempts": 2}),
        job("j", "d"),
    )  # fmt: skip
    status = kube.wait_for_state("j", "SUCCEEDED", "FAILED")
    jobs = kube.items("jobs.batch")

    assert status["state"] == "SUCCEEDED"
    assert [row["exitCode"] for row in status["attempts"]] == [1, 0]
    assert len(jobs) == 6

    def rest() -> bool:
        pods = kube.pods_of("j")
        return len(pods) == 6 and all(
            one["status"]["phase"] in {"Succeeded", "Failed"}
            and f"{GROUP}/tracked" not in one["metadata"]["labels"]
            and not one["metadata"].get("finalizers")
            for one in pods
        )

    wait_for("every Pod to have ended and been let go", rest)
    kube("delete", "batchjob", "j")
    wait_for(
        "the Jobs and Pods to go", lambda: not kube.items("jobs.batch") and not kube.pods_of("j")
    )


def test_a_gang_without_room_starts_nothing(kube: Kube) -> None:
    """All or nothing: 1.5 of 2 vCPUs are free after `small`, and the gang needs all."""
    kube.apply(
        definition("one", ("0:", template(UNTIL_TOLD, "500m")), numNodes=1),
        definition("gang", ("0:", template("sleep 1", "500m")), numNodes=4),
        job("small", "one"),
    )
    kube.wait_for_state("small", "RUNNING")
    kube.apply(job("large", "gang"))
    kube.wait_for_pending("large", "InsufficientCapacity")

    assert kube.pods_of("large") == []

    kube.tell("small")
    assert kube.wait_for_state("large", "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"


def test_terminating_stops_every_node(kube: Kube) -> None:
    kube.apply(definition("d", ("0:", template("sleep 600")), numNodes=3), job("j", "d"))
    wait_for("all nodes to run", lambda: kube.status("j").get("nodes", [{}])[0].get(
        "statusSummary") == {"RUNNING": 3})  # fmt: skip
    kube.change("j", terminate={"reason": "enough"})
    status = kube.wait_for_state("j", "FAILED")

    assert status["statusReason"] == "enough"
    wait_for("all Pods to end", lambda: {one["status"]["phase"] for one in kube.pods_of("j")} ==
             {"Failed"})  # fmt: skip


def hold_back(kube: Kube, name: str, pods: int) -> None:
    """Submit a gang of three of which a quota lets only so many Pods be made."""
    kube("create", "quota", "few", f"--hard=pods={pods}")
    wait_for("the quota", lambda: (kube.get("quota", "few") or {}).get("status", {}).get("hard"))
    kube.apply(definition("d", ("0:", template("sleep 1")), numNodes=3), job(name, "d"))


def test_a_gang_that_the_cluster_does_not_let_be_made_says_so_and_can_be_ended(kube: Kube) -> None:
    hold_back(kube, "j", pods=0)
    wait_for("the Jobs", lambda: len(kube.items("jobs.batch")) == 2)
    said = "3 of its 3 Pods are still to be made"
    wait_for(said, lambda: said in kube.status("j").get("pending", {}).get("message", ""))
    kube.change("j", terminate={"reason": "enough"})
    status = kube.wait_for_state("j", "FAILED")

    assert status["statusReason"] == "enough"
    wait_for(
        "the Jobs to be let go", lambda: not kube.items("jobs.batch", "-l", f"{GROUP}/tracked")
    )
    assert all(one["spec"]["suspend"] for one in kube.items("jobs.batch"))


def test_a_gated_pod_that_somebody_deletes_is_a_failed_attempt(kube: Kube) -> None:
    hold_back(kube, "j", pods=2)
    pods = wait_for("two Pods", lambda: len(kube.pods_of("j")) == 2 and kube.pods_of("j"))
    kube("delete", "pod", pods[1]["metadata"]["name"], "--wait=false")
    status = kube.wait_for_state("j", "FAILED")
    (row,) = status["attempts"]

    assert row["statusReason"] == "Task failed to start"
    wait_for("everything to be let go", lambda: not kube.items("pods,jobs.batch", "-l",
             f"{GROUP}/tracked"))  # fmt: skip


def test_fake_nodes_run_gangs_too(kube: Kube) -> None:
    kube.apply(definition("d", ("0:", template("sleep 1")), numNodes=8), job("j", "d", "fake"))

    assert kube.wait_for_state("j", "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"


def test_the_operator_can_die_at_any_time(kube: Kube, operator_process: OperatorProcess) -> None:
    script = "sleep 3; exit 0"
    kube.apply(definition("d", ("0:", template(script)), numNodes=4, mainNode=1))
    for number in range(3):
        kube.apply(job(f"j{number}", "d"))
    for _ in range(6):
        operator_process.kill()
        operator_process.start()
        wait_for("a moment", lambda: kube.items("jobs.batch"))
    ends = [kube.wait_for_state(f"j{number}", "SUCCEEDED", "FAILED") for number in range(3)]

    assert [one["state"] for one in ends] == ["SUCCEEDED"] * 3
    assert [len(one["attempts"]) for one in ends] == [1, 1, 1]
