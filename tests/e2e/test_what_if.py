"""A real cluster as it is goes on in virtual time, from what the client or kubectl reads of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.kube import Kube, definition, job

PROGRAM = Path(sys.executable).parent / "batch-operator"


def simulate(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        [PROGRAM, "simulate", *arguments], capture_output=True, text=True, input=stdin, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_cluster_as_it_is_and_with_more_vcpus(kube: Kube) -> None:
    """One job has ended, one runs, one waits for it: what follows is told, and nothing is done."""
    kube.apply(definition("long", "sleep 300"), definition("short", "true"))
    kube.apply(job("ended", "short"), job("runs", "long"))
    kube.apply(job("waits", "short", dependsOn=[{"job": "runs"}]))
    kube.wait_for_state("ended", "SUCCEEDED")
    kube.wait_for_state("runs", "RUNNING")
    kube.wait_for_state("waits", "PENDING")
    table = simulate(
        "--from-cluster",
        f"--kubeconfig={kube.kubeconfig}",
        "--set=computeenvironment/e2e.maxvCpus=4",
    )
    taken = kube("get", "batch-operator,controllerrevisions", "-A", "-o", "yaml")
    said = json.loads(simulate("--snapshot=-", "-o=json", stdin=taken))

    assert table.split()[:6] == ["AS", "IT", "IS", "CHANGED", "DIFFERENCE", "makespan"]
    assert f"{kube.namespace}/short" in table
    assert said["before"]["waiting"]["e2e"]["started"] >= 1
    assert said["before"]["jobs"]["SUCCEEDED"] >= 2
    assert kube.status("runs")["state"] == "RUNNING"
    assert kube.status("waits")["state"] == "PENDING"
