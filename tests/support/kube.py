"""The cluster and the operator as the end-to-end tests handle them: kubectl and a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import yaml

from localcluster import crds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent.parent
IMAGE = "busybox:1"
EXAMPLES = ("hello", "render", "prepare", "train", "report", "gather")
"""The jobs under examples/."""
OF_A_TEST = "batch-operator.io/e2e"
"""The label of the tests' namespaces."""
PATIENCE_S = 300
"""For whatever is waited for: that it comes is tested, not how fast this machine is."""
WITH_PATIENCE = f"--timeout={PATIENCE_S}s"
"""The same, for kubectl's own waiting."""
UNTIL_TOLD = "until [ -e /tmp/told ]; do sleep 0.1; done"
"""A container's script that ends when the test has seen enough; see `Kube.tell`."""


def wait_for(
    what: str, ask: Callable[[], T | None], instead: Callable[[], object] = lambda: "nothing"
) -> T:
    """Ask until there is an answer that is true; `instead` is what there is if none comes."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > give_up:
            pytest.fail(f"waited {PATIENCE_S} s for {what}; there is {instead()}")
        time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Kube:
    """kubectl against one cluster and, by default, one namespace."""

    kubectl: str
    kubeconfig: Path
    namespace: str = "default"

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [self.kubectl, "--kubeconfig", str(self.kubeconfig), "-n", self.namespace]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, input=stdin, check=False
        )

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        self("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def serve(self, *arguments: str, stdin: str | None = None) -> None:
        """Apply CRDs, whose kinds can then be used."""
        crds.serve([self.kubectl, "--kubeconfig", str(self.kubeconfig)], *arguments, stdin=stdin)

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        done = self.run("get", kind, name, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def items(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("get", kind, "-o", "json", *arguments))[
            "items"
        ]
        return found

    def status(self, name: str) -> dict[str, Any]:
        job = self.get("batchjob", name)
        status: dict[str, Any] = job["status"] if job else {}
        return status

    def wait_for_state(self, name: str, *states: str) -> dict[str, Any]:
        """The status of a job once it is in one of the states."""

        def ask() -> dict[str, Any] | None:
            status = self.status(name)
            return status if status.get("state") in states else None

        return wait_for(f"{name} to be {' or '.join(states)}", ask, lambda: self.status(name))

    def wait_for_pending(self, name: str, reason: str, said: str = "") -> None:
        """Wait until a job that waits gives this reason, and says this among other things."""

        def ask() -> bool:
            pending: dict[str, Any] = self.status(name).get("pending") or {}
            return pending.get("reason") == reason and said in pending["message"]

        wait_for(f"{name} to wait: {reason}, … {said} …", ask, lambda: self.status(name))

    def change(self, job: str, **spec: Any) -> None:
        """Patch a job's spec: ask to terminate it, for one."""
        patch = json.dumps({"spec": spec})
        self("patch", "batchjob", job, "--type=merge", "-p", patch)

    def pods_of(self, job: str) -> list[dict[str, Any]]:
        return self.items("pods", "-l", f"batch-operator.io/job-name={job}")

    def tell(self, job: str) -> None:
        """Let the containers of a job that run `UNTIL_TOLD` go on."""
        for pod in self.pods_of(job):
            if pod["status"]["phase"] == "Running":
                self("exec", pod["metadata"]["name"], "--", "touch", "/tmp/told")  # noqa: S108


@dataclass(slots=True)
class OperatorProcess:
    """The operator, run outside of the cluster; it can be killed and started again."""

    kubeconfig: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    arguments: list[str] = field(default_factory=list)

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "batch-operator"), "run", "--port=0"]
        command += [f"--kubeconfig={self.kubeconfig}", "--start-failure-grace=3"]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, *self.arguments], stdout=output, stderr=output, env=dict(os.environ)
            )

    def kill(self) -> None:
        """SIGKILL: no last write, no goodbye."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE_S)


def definition(name: str, script: str, **spec: Any) -> dict[str, Any]:
    """A JobDefinition that runs a shell script in busybox."""
    resources = spec.pop("resources", {"requests": {"cpu": "100m", "memory": "16Mi"}})
    container = {
        "name": "main",
        "image": spec.pop("image", IMAGE),
        "command": ["sh", "-c", script],
        "resources": resources,
    }
    grace_s = spec.pop("grace_s", 1)
    template = {"spec": {"terminationGracePeriodSeconds": grace_s, "containers": [container]}}
    return {
        "apiVersion": "batch-operator.io/v1alpha1",
        "kind": "JobDefinition",
        "metadata": {"name": name},
        "spec": {"podTemplate": template, **spec},
    }


def job(name: str, definition_name: str, queue: str = "e2e", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch-operator.io/v1alpha1",
        "kind": "BatchJob",
        "metadata": {"name": name},
        "spec": {"jobQueue": queue, "jobDefinition": definition_name, **spec},
    }
