"""One cluster and one operator for the whole suite; a namespace of its own for every test."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from localcluster import programs
from localcluster.layout import Cluster
from support.kube import ROOT, Kube, OperatorProcess, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER = "e2e"
QUEUE = """
apiVersion: batch-operator.io/v1alpha1
kind: ComputeEnvironment
metadata: {name: e2e}
spec:
  type: UNMANAGED
  maxvCpus: 2
  nodeSelector: {batch-operator.io/compute-environment: local}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobQueue
metadata: {name: e2e}
spec: {priority: 1, computeEnvironmentOrder: [{order: 1, computeEnvironment: e2e}]}
---
apiVersion: batch-operator.io/v1alpha1
kind: ComputeEnvironment
metadata: {name: fake}
spec: {type: UNMANAGED, maxvCpus: 1000}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobQueue
metadata: {name: fake}
spec: {priority: 1, computeEnvironmentOrder: [{order: 1, computeEnvironment: fake}]}
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--e2e-context", help="run on this context of your kubeconfig")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Kube:
    """The cluster, left up afterwards so that the next run finds it."""
    up = [str(ROOT / "hack" / "cluster"), "up", "--name", CLUSTER, "--fake-nodes", "10"]
    if context := request.config.getoption("--e2e-context"):
        up += ["--context", context]
    subprocess.run(up, check=True)
    return Kube(programs.path("kubectl"), Cluster(CLUSTER).kubeconfig)


@pytest.fixture(scope="session")
def installed(cluster: Kube) -> Kube:
    """The cluster with the custom resources and the suite's queues, and no jobs of earlier runs."""
    cluster("apply", "-f", str(ROOT / "crds"))
    cluster("wait", "--for=condition=Established", "--timeout=60s", "-f", str(ROOT / "crds"))
    cluster("apply", "-f", "-", stdin=QUEUE)
    return cluster


@pytest.fixture(scope="session")
def operator_process(
    installed: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    process = OperatorProcess(installed.kubeconfig, log)
    process.start()
    yield process
    process.stop()
    text = log.read_text(encoding="utf-8")

    assert "Traceback" not in text, text


@pytest.fixture
def kube(
    installed: Kube, operator_process: OperatorProcess, request: pytest.FixtureRequest
) -> Iterator[Kube]:
    """Kubectl in a namespace of this test's own, with the operator running."""
    del operator_process
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))
    namespace = f"t-{name}"[:60].rstrip("-")
    installed("delete", "namespace", namespace, "--ignore-not-found", "--wait=true")
    installed("create", "namespace", namespace)
    kube = replace(installed, namespace=namespace)
    # Pods need the namespace's service account, which a controller makes.
    wait_for("the service account", lambda: kube.get("serviceaccount", "default"))
    yield kube
    installed("delete", "namespace", namespace, "--wait=false")
