from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from localcluster import cgroups, privileges

if TYPE_CHECKING:
    from pathlib import Path

ALL = 0x1FFFFFFFFFF
NET_ADMIN, SYS_ADMIN = 1 << 12, 1 << 21


class Machine:
    """A machine on which a real node can run, until something is taken from it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._status, self._user_map = folder / "status", folder / "uid_map"
        self._patch = monkeypatch
        monkeypatch.setattr(privileges, "_STATUS", self._status)
        monkeypatch.setattr(privileges, "_USER_MAP", self._user_map)
        self.user(0)
        self.capabilities(ALL)
        self.user_map("         0          0 4294967295\n")
        self.cgroups(None)
        self.trial(0, "")

    def user(self, number: int) -> None:
        self._patch.setattr(os, "geteuid", lambda: number)

    def capabilities(self, held: int) -> None:
        text = f"Name:\tpython\nCapPrm:\t{ALL:016x}\nCapEff:\t{held:016x}\nCapBnd:\t{ALL:016x}\n"
        self._status.write_text(text, encoding="utf-8")

    def user_map(self, text: str) -> None:
        self._user_map.write_text(text, encoding="utf-8")

    def cgroups(self, obstacle: str | None) -> None:
        self._patch.setattr(cgroups, "obstacle", lambda: obstacle)

    def trial(self, code: int, stderr: str) -> None:
        done = subprocess.CompletedProcess([], code, "", stderr)
        self._patch.setattr(subprocess, "run", lambda *_, **__: done)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_root_with_its_privileges_gets_a_real_node(machine: Machine) -> None:
    del machine

    assert privileges.obstacle() is None


def test_a_user_gets_none(machine: Machine) -> None:
    machine.user(1000)

    assert privileges.obstacle() == "Not root"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (NET_ADMIN, "Root without CAP_NET_ADMIN"),
        (SYS_ADMIN, "Root without CAP_SYS_ADMIN"),
        (NET_ADMIN | SYS_ADMIN, "Root without CAP_NET_ADMIN and CAP_SYS_ADMIN"),
    ],
)
def test_root_of_a_container_without_privileges_gets_none(
    machine: Machine, missing: int, expected: str
) -> None:
    machine.capabilities(ALL & ~missing)

    assert privileges.obstacle() == expected


def test_root_of_a_user_namespace_gets_none(machine: Machine) -> None:
    machine.user_map("         0       1000          1\n")

    assert privileges.obstacle() == "Root of a user namespace only"


def test_read_only_cgroups_are_told(machine: Machine) -> None:
    machine.cgroups("/sys/fs/cgroup is read-only")

    assert privileges.obstacle() == "No real node can run here (/sys/fs/cgroup is read-only)"


def test_what_a_security_module_refuses_is_told(machine: Machine) -> None:
    machine.trial(32, "mount: /tmp: cannot mount tmpfs read-only.\n")

    assert privileges.obstacle() == (
        "No real node can run here (mount: /tmp: cannot mount tmpfs read-only.)"
    )
