"""A kind cluster, where a Docker engine answers."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from localcluster import images, processes, programs
from localcluster.layout import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from localcluster.layout import Cluster

NODE_IMAGE = "kindest/node:v1.36.1"
BUSYBOX_IMAGE = "busybox:1.37.0"


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
        _load_busybox(cluster)
    else:
        config = _kind("get", "kubeconfig", "--name", cluster.namespace)
        cluster.kubeconfig.write_text(config, encoding="utf-8")


def stop(cluster: Cluster) -> None:
    _kind("delete", "cluster", "--name", cluster.namespace)


def load(cluster: Cluster, archive: Path) -> None:
    _kind("load", "image-archive", str(archive), "--name", cluster.namespace)


def _load_busybox(cluster: Cluster) -> None:
    """The image of the examples, under the name that the embedded cluster gives it too."""
    processes.run(["docker", "pull", BUSYBOX_IMAGE])
    processes.run(["docker", "tag", BUSYBOX_IMAGE, images.BUSYBOX])
    _kind("load", "docker-image", images.BUSYBOX, "--name", cluster.namespace)


def _kind(*arguments: str) -> str:
    return processes.run([programs.path("kind"), *arguments])
