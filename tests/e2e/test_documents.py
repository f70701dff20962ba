"""What the README tells a newcomer to type works as it stands there."""

from __future__ import annotations

import re
import shlex

from support.kube import ROOT, Kube

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, containing: str) -> str:
    """The code block in that language with that text in it."""
    found = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    (block,) = [one for one in found if containing in one]
    return block


def test_the_first_job_of_the_readme_runs_and_its_commands_work(kube: Kube) -> None:
    kube("apply", "-f", str(ROOT / "examples/00-queue.yaml"))
    kube("apply", "-f", "-", stdin=blocks("yaml", "kind: BatchJob"))
    kube.wait_for_state("first", "SUCCEEDED")
    commands = [line.partition("#")[0] for line in blocks("sh", "kubectl wait").splitlines()]
    said = [kube(*shlex.split(command)[1:]) for command in commands]

    assert [shlex.split(command)[0] for command in commands] == ["kubectl"] * len(commands)
    assert "hello" in said[2]
    assert "jobQueue" in said[3]
