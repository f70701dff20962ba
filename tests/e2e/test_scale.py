"""Two thousand Pods on fake nodes, an operator that is killed on the way, and then silence."""

from __future__ import annotations

import json
import subprocess
from collections import Counter

from support.kube import OF_A_TEST, Kube, OperatorProcess, definition, job, wait_for

SINGLES = 1000
CHILDREN = 1000
QUIET_S = 60
OURS = "batchjobs,jobdefinitions,jobqueues,computeenvironments,controllerrevisions.apps,pods"


def versions(kube: Kube) -> dict[str, str]:
    """The resource version of everything that the operator writes."""
    found = json.loads(kube("get", OURS, "--all-namespaces", "-o", "json"))["items"]
    return {
        f"{one['kind']} {one['metadata']['name']} {one['metadata']['uid']}": one["metadata"][
            "resourceVersion"
        ]
        for one in found
    }


def is_told(kube: Kube) -> bool:
    """Whether queues and environments say that nothing is left: counts are told a while later."""
    queues = [one["status"] for one in kube.items("jobqueues")]
    environments = [one["status"] for one in kube.items("computeenvironments")]
    return not any(one.get("jobs") or one.get("front") for one in queues) and all(
        one["vcpus"]["used"] == "0" for one in environments
    )


def changes_within(kube: Kube, seconds: float) -> str:
    """What a watch on the jobs reports; it ends after so many seconds."""
    command = [kube.kubectl, "--kubeconfig", str(kube.kubeconfig), "get", "batchjobs"]
    command += ["--all-namespaces", "--watch-only", f"--request-timeout={seconds:.0f}s"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_two_thousand_pods_survive_three_kills_and_then_nothing_is_written(
    kube: Kube, operator_process: OperatorProcess
) -> None:
    kube.apply(definition("d", "true", resources={"requests": {"cpu": "100m"}}))
    kube.apply(job("array", "d", queue="fake", arrayProperties={"size": CHILDREN}))
    kube.apply(*(job(f"single-{n}", "d", queue="fake") for n in range(SINGLES)))
    for share in (0.1, 0.4, 0.7):
        least = share * (SINGLES + CHILDREN)
        wait_for("progress", lambda least=least: len(kube.items("pods")) >= least)
        operator_process.kill()
        operator_process.start()
    wait_for(
        "every job to end",
        lambda: all("Complete" in [c["type"] for c in one["status"].get("conditions", ())]
                    for one in kube.items("batchjobs")),
    )  # fmt: skip
    wait_for(
        "every Pod to be let go",
        lambda: not kube.items("pods", "-l", "batch-operator.io/tracked"),
    )
    labels = [one["metadata"]["labels"] for one in kube.items("pods")]
    runs = Counter(
        (one["batch-operator.io/job-name"], one.get("batch-operator.io/array-index"))
        for one in labels
    )

    assert kube.status("array")["array"]["indexes"] == {"succeeded": f"0-{CHILDREN - 1}"}
    assert len(runs) == SINGLES + CHILDREN
    assert set(runs.values()) == {1}
    assert {one["batch-operator.io/attempt"] for one in labels} == {"1"}

    wait_for(
        "earlier tests to be gone", lambda: len(kube.items("namespaces", "-l", OF_A_TEST)) == 1
    )
    wait_for("queues and environments to say so", lambda: is_told(kube))
    before = versions(kube)

    assert changes_within(kube, QUIET_S) == ""
    after = versions(kube)
    assert {name for name in after if after[name] != before.get(name)} == set()
