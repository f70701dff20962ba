from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from localcluster import network, processes
from localcluster.layout import wire

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from localcluster.layout import Cluster, Facts


class Commands:
    """What `processes.run` is asked for; `fail_at` is interrupted, as by Ctrl-C."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.reply = ""
        self.fail_at = "nothing"

    def __call__(self, command: Sequence[str], *, check: bool = True) -> str:
        del check
        self.seen.append(" ".join(command))
        if self.fail_at in self.seen[-1]:
            raise KeyboardInterrupt
        return self.reply


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands()
    monkeypatch.setattr(processes, "run", made)
    for name in ("NAMESPACES", "INTERFACES"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setattr(network, name, folder)
    return made


def test_a_file_that_outlived_a_reboot_is_no_network(
    commands: Commands, cluster: Cluster, facts: Facts
) -> None:
    """Where /run is on disk the namespace's file is still there, but nothing is mounted on it."""
    (network.NAMESPACES / cluster.namespace).touch()
    commands.reply = "10.214.7.0/24 via 10.213.7.2"

    assert not network.is_whole(cluster, facts)


@pytest.mark.parametrize(
    ("route", "expected"), [("", False), ("10.214.7.0/24 via 10.213.7.2\n", True)]
)
def test_a_namespace_without_its_wire_is_half_a_network(
    commands: Commands,
    cluster: Cluster,
    facts: Facts,
    monkeypatch: pytest.MonkeyPatch,
    route: str,
    *,
    expected: bool,
) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: path.name == cluster.namespace)
    commands.reply = route

    assert network.is_whole(cluster, facts) is expected
    assert commands.seen == ["ip route show 10.214.7.0/24 dev batchop7"]


def test_the_route_that_tells_a_whole_network_is_made_last(
    commands: Commands, cluster: Cluster, facts: Facts
) -> None:
    network.make(cluster, facts)

    assert commands.seen[-1] == "ip route replace 10.214.7.0/24 via 10.213.7.2"


def test_ctrl_c_leaves_no_half_of_a_network(
    commands: Commands, cluster: Cluster, facts: Facts
) -> None:
    (network.NAMESPACES / cluster.namespace).touch()
    (network.INTERFACES / wire(facts.subnet)).touch()
    commands.fail_at = "address add"

    with pytest.raises(KeyboardInterrupt):
        network.make(cluster, facts)

    assert commands.seen[-2:] == [
        f"ip netns delete {cluster.namespace}",
        "ip link delete batchop7",
    ]
