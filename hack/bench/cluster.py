"""The local cluster that is measured on, and the operator that runs against it as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localcluster import controlplane, crds, processes
from localcluster.layout import REPOSITORY, Cluster, ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable

CLUSTER = Cluster("bench")
OPERATOR = "batch-operator"
NAMESPACE = "bench"
PATIENCE_S = 900.0


def bring_up(fake_nodes: int) -> None:
    """A cluster with the custom resources, an empty namespace and a fresh operator."""
    up = [str(REPOSITORY / "hack/cluster"), "up", "--name", CLUSTER.name, "--provider", "embedded"]
    subprocess.run([*up, "--audit", "--fake-nodes", str(fake_nodes)], check=True)
    crds.serve(controlplane.kubectl_command(CLUSTER), "-f", str(REPOSITORY / "crds"))
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
    kubectl("create", "namespace", NAMESPACE)
    processes.stop(CLUSTER, OPERATOR)
    processes.start(
        CLUSTER,
        OPERATOR,
        [str(Path(sys.executable).parent / "batch-operator"), "run", "--port=0"]
        + [f"--kubeconfig={CLUSTER.kubeconfig}"],
    )


def create(*objects: dict[str, Any], verb: str = "create") -> None:
    """Create, or apply, objects in one request."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl(verb, "-f", "-", stdin=json.dumps(listed))


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """What kubectl prints, in the namespace of what is measured."""
    return controlplane.kubectl(CLUSTER, "-n", NAMESPACE, *arguments, stdin=stdin)


def wait(done: Callable[[], bool], what: str) -> None:
    """Ask until it is so.

    Raises:
        ClusterError: it did not come to that.
    """
    give_up = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > give_up:
            raise ClusterError(f"waited {PATIENCE_S:.0f} s for {what}")
        time.sleep(0.5)
