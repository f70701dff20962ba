from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from localcluster import packages
from localcluster.layout import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCKED = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)\n"


class Apt:
    """An apt-get that answers with what is in `replies`, and then succeeds."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.replies: list[str] = []

    def __call__(self, command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(" ".join(command))
        stderr = self.replies.pop(0) if self.replies else ""
        return subprocess.CompletedProcess(command, 100 if stderr else 0, "", stderr)


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> Apt:
    made = Apt()
    monkeypatch.setattr(subprocess, "run", made)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "openssl" else f"/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return made


def test_what_is_there_is_not_installed(apt: Apt) -> None:
    packages.install(packages.REAL_NODE)

    assert apt.commands == []


def test_what_is_missing_is_installed_and_another_run_is_waited_for(
    apt: Apt, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option covers dpkg's lock; the one on the package lists fails at once."""
    apt.replies = [LOCKED, LOCKED]

    packages.install(packages.ALWAYS | packages.REAL_NODE)

    waits = "apt-get -qq -o DPkg::Lock::Timeout=120"
    assert apt.commands == [
        *[f"{waits} update"] * 3,
        f"{waits} install -y --no-install-recommends openssl",
    ]
    assert capsys.readouterr().out.count("Waiting for another apt-get") == 1


@pytest.mark.parametrize(
    ("reply", "patience_s"),
    [("E: Unable to locate package openssl", 120), (LOCKED, -1)],
    ids=["another error", "a lock that is never freed"],
)
def test_what_cannot_be_installed_is_told(
    apt: Apt, monkeypatch: pytest.MonkeyPatch, reply: str, patience_s: int
) -> None:
    monkeypatch.setattr(packages, "PATIENCE_S", patience_s)
    apt.replies = [reply]

    with pytest.raises(ClusterError, match=reply.strip().split(".")[0]):
        packages.install(packages.ALWAYS)
    assert len(apt.commands) == 1


def test_a_user_is_told_what_to_install(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(ClusterError, match="sudo apt-get install openssl"):
        packages.install(packages.ALWAYS)
    assert apt.commands == []


def test_without_apt_the_package_manager_is_the_users(
    apt: Apt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with pytest.raises(ClusterError, match="with your package manager first: openssl"):
        packages.install(packages.ALWAYS)
    assert apt.commands == []
