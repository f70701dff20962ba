"""A kind cluster, where a Docker engine answers."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from localcluster import processes, programs
from localcluster.layout import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from localcluster.layout import Cluster

NODE_IMAGE = "kindest/node:v1.36.1"


def is_possible() -> bool:
    """Whether a Docker engine answers here."""
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=20)
    return done.returncode == 0


def start(cluster: Cluster) -> None:
    """Create the cluster unless it exists, and write our kubeconfig for it."""
    programs.build([programs.KIND])
    cluster.folder.mkdir(parents=True, exist_ok=True)
    if cluster.namespace not in _kind("get", "clusters").split():
        _kind(
            "create", "cluster", "--name", cluster.namespace, "--image", NODE_IMAGE,
            "--config", str(REPOSITORY / "hack" / "kind" / "cluster.yaml"),
            "--kubeconfig", str(cluster.kubeconfig), "--wait", "120s",
        )  # fmt: skip
    else:
        config = _kind("get", "kubeconfig", "--name", cluster.namespace)
        cluster.kubeconfig.write_text(config, encoding="utf-8")


def stop(cluster: Cluster) -> None:
    _kind("delete", "cluster", "--name", cluster.namespace)


def load(cluster: Cluster, archive: Path) -> None:
    _kind("load", "image-archive", str(archive), "--name", cluster.namespace)


def _kind(*arguments: str) -> str:
    return processes.run([programs.path("kind"), *arguments])
