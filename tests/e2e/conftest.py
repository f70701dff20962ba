"""One cluster and one operator for the whole suite; a namespace of its own for every test."""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from localcluster import programs
from localcluster.layout import Cluster
from support.kube import OF_A_TEST, ROOT, Kube, OperatorProcess, wait_for
from support.role import account_of_chart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUEUES = """
apiVersion: batch-operator.io/v1alpha1
kind: ComputeEnvironment
metadata: {name: e2e}
spec:
  type: UNMANAGED
  maxvCpus: 2
  nodeSelector: {}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobQueue
metadata: {name: e2e}
spec: {priority: 1, computeEnvironmentOrder: [{order: 1, computeEnvironment: e2e}]}
---
apiVersion: batch-operator.io/v1alpha1
kind: ComputeEnvironment
metadata: {name: fake}
spec: {type: UNMANAGED, maxvCpus: 1000%s}
---
apiVersion: batch-operator.io/v1alpha1
kind: JobQueue
metadata: {name: fake}
spec: {priority: 1, computeEnvironmentOrder: [{order: 1, computeEnvironment: fake}]}
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--e2e-cluster", default="e2e", help="the local cluster's name (make e2e)")


@pytest.fixture(scope="session")
def cluster_name(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--e2e-cluster"))


@pytest.fixture(scope="session")
def cluster(cluster_name: str) -> Kube:
    """The cluster that `make e2e` brought up: building it may take longer than any test may."""
    status = subprocess.run(
        [ROOT / "hack/cluster", "status", "--name", cluster_name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert status.returncode == 0, f"{status.stdout}{status.stderr}Start the suite with make e2e."
    return Kube(programs.path("kubectl"), Cluster(cluster_name).kubeconfig)


@pytest.fixture(scope="session")
def installed(cluster: Kube) -> Kube:
    """The cluster with the custom resources and the suite's queues, and no jobs of earlier runs."""
    cluster.serve("-f", str(ROOT / "crds"))
    cluster("delete", "namespace", "-l", OF_A_TEST, "--wait=false")
    has_fake_nodes = cluster.items("nodes", "-l", "batch-operator.io/compute-environment=fake")
    # Where there are none, real nodes do their work.
    cluster("apply", "-f", "-", stdin=QUEUES % ("" if has_fake_nodes else ", nodeSelector: {}"))
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
    labels = {OF_A_TEST: ""}
    installed.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    )
    kube = replace(installed, namespace=namespace)
    # Pods need the namespace's service account, which a controller makes.
    wait_for("the service account", lambda: kube.get("serviceaccount", "default"))
    yield kube
    installed("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def restricted(
    kube: Kube, operator_process: OperatorProcess, tmp_path: Path
) -> Iterator[Callable[..., Kube]]:
    """Starts an operator with the rights of the chart's role; the suite's, with all rights, stops.

    It is called with values of the chart; where some are given, the operator must lack no right.
    """
    own = OperatorProcess(tmp_path, tmp_path / "operator.log")
    own.log.touch()
    given: list[str] = []

    with ExitStack() as accounts:

        def start(*settings: str) -> Kube:
            given.extend(settings)
            account = account_of_chart(kube, tmp_path, *settings)
            own.kubeconfig = accounts.enter_context(account)
            operator_process.stop()
            own.start()
            return kube

        yield start
        if own.process is not None:
            own.stop()
            operator_process.start()
    text = own.log.read_text(encoding="utf-8")

    assert "Traceback" not in text, text
    assert not (given and "orbidden" in text), text
