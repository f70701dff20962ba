"""Real Helm installs the chart; the operator runs as a Pod, restricted, and does its work.

Last in the suite: while it runs, the operator outside of the cluster has to stand still.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from localcluster import programs
from support.kube import EXAMPLES, PATIENCE_S, ROOT, Kube, OperatorProcess, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "batch-operator"
SETTINGS = (
    "image.repository=batch-operator.local/batch-operator",
    "image.tag=dev",
    "nodeSelector.batch-operator\\.io/compute-environment=local",
    "crds.enabled=false",  # the suite's own are in use
)


@pytest.fixture(scope="module")
def helm(installed: Kube, cluster_name: str) -> Iterator[Kube]:
    """The operator installed by Helm, from an image that no registry has seen."""
    made = subprocess.run(
        [sys.executable, "-m", "operatorimage"], capture_output=True, text=True, check=True
    )
    archive = made.stdout.split()[0]
    subprocess.run([ROOT / "hack/cluster", "load", "--name", cluster_name, archive], check=True)
    programs.build([programs.HELM])
    base = [programs.path("helm"), "--kubeconfig", str(installed.kubeconfig), "-n", NAMESPACE]
    installed("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
    installed("create", "namespace", NAMESPACE)
    installed("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    settings = [word for one in SETTINGS for word in ("--set", one)]
    install = ["install", "batch-operator", str(ROOT / "charts/batch-operator"), "--wait"]
    subprocess.run([*base, *install, "--timeout", f"{PATIENCE_S}s", *settings], check=True)
    yield replace(installed, namespace=NAMESPACE)
    subprocess.run([*base, "uninstall", "batch-operator", "--wait"], check=True)


def test_the_examples_succeed_with_the_operator_as_a_pod(
    kube: Kube, operator_process: OperatorProcess, helm: Kube
) -> None:
    operator_process.stop()
    try:
        kube("apply", "-f", str(ROOT / "examples"))
        for name in EXAMPLES:
            kube.wait_for_state(name, "SUCCEEDED")
        service = f"/api/v1/namespaces/{NAMESPACE}/services/batch-operator-metrics:http"
        done = f'transitions_total{{queue="main",state="SUCCEEDED"}} {len(EXAMPLES)}.0'
        wait_for(
            "the metrics to have them all",
            lambda: (
                f"batch_operator_job_{done}"
                in helm.run("get", "--raw", f"{service}/proxy/metrics").stdout
            ),
        )
        logs = helm("logs", "deployment/batch-operator")
    finally:
        operator_process.start()

    assert "Traceback" not in logs


def test_values_that_the_chart_does_not_know_are_refused() -> None:
    programs.build([programs.HELM])
    chart = str(ROOT / "charts/batch-operator")
    done = subprocess.run(
        [programs.path("helm"), "template", "x", chart, "--set", "operator.logLvel=debug"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "logLvel" in done.stderr
