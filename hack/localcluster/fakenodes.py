"""Fake nodes, and kwok which plays the Pods on them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from localcluster import controlplane, images, processes, programs
from localcluster.layout import (
    COMPUTE_ENVIRONMENT_LABEL,
    FAKE_NODE_ENVIRONMENT,
    MANAGED_BY_KWOK,
    REPOSITORY,
)

if TYPE_CHECKING:
    from localcluster.layout import Cluster, Facts

PARTS = ("kwok",)
CPUS, MEMORY, PODS = "32", "256Gi", "250"


def start(cluster: Cluster, facts: Facts, count: int) -> None:
    """Start kwok and see to it that there are `count` fake nodes at least."""
    processes.start(
        cluster,
        "kwok",
        [
            programs.path("kwok"),
            f"--kubeconfig={cluster.folder / 'pki' / 'kwok.kubeconfig'}",
            f"--config={REPOSITORY / 'hack' / 'kwok' / 'stages.yaml'}",
            f"--server-address=127.0.0.1:{facts.kwok_port}",
        ],
    )
    url = f"http://127.0.0.1:{facts.kwok_port}/healthz"
    processes.wait_until(cluster, "kwok", lambda: processes.answers(url))
    have = controlplane.kubectl(
        cluster, "get", "nodes", "-l", f"{COMPUTE_ENVIRONMENT_LABEL}={FAKE_NODE_ENVIRONMENT}",
        "-o", "name",
    ).split()  # fmt: skip
    if len(have) < count:
        nodes = {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                node(number, has_taint=facts.has_real_node) for number in range(len(have), count)
            ],
        }
        controlplane.kubectl(cluster, "create", "-f", "-", stdin=json.dumps(nodes))


def node(number: int, *, has_taint: bool) -> dict[str, Any]:
    """A fake node.

    Beside a real node it has a taint, so that only Pods of the fake compute environment land on it;
    alone it takes every Pod, or the examples would wait for a real node for ever.
    """
    name = f"fake-{number}"
    taint = {
        "key": COMPUTE_ENVIRONMENT_LABEL,
        "value": FAKE_NODE_ENVIRONMENT,
        "effect": "NoSchedule",
    }
    size = {"cpu": CPUS, "memory": MEMORY, "pods": PODS}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                COMPUTE_ENVIRONMENT_LABEL: FAKE_NODE_ENVIRONMENT,
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "type": "kwok",
            },
            "annotations": {MANAGED_BY_KWOK: "fake", "node.alpha.kubernetes.io/ttl": "0"},
        },
        "spec": {"taints": [taint] if has_taint else []},
        "status": {
            "capacity": size,
            "allocatable": size,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "message": "fake node",
                }
            ],
            "nodeInfo": {
                "architecture": images.architecture(),
                "bootID": "",
                "containerRuntimeVersion": "",
                "kernelVersion": "",
                "kubeProxyVersion": "fake",
                "kubeletVersion": "fake",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "",
                "systemUUID": "",
            },
        },
    }
