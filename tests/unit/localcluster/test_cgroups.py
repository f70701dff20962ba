from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from localcluster import cgroups
from localcluster.layout import ClusterError

if TYPE_CHECKING:
    from localcluster.layout import Cluster


def _hierarchy(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"cgroup_procs": "", **files}.items():
        (folder / name.replace("_", ".", 1)).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def v1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "v1"
    for name in ("cpuset", "memory", "pids"):
        _hierarchy(root / name)
    (root / "no-hierarchy").mkdir()
    monkeypatch.setattr(cgroups, "ROOT", root)
    return root


@pytest.fixture
def v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    all_of_them = "cpuset cpu io memory pids"
    root = _hierarchy(
        tmp_path / "v2", cgroup_controllers=all_of_them, cgroup_subtree_control=all_of_them
    )
    monkeypatch.setattr(cgroups, "ROOT", root)
    return root


def test_every_v1_hierarchy_has_a_root_and_v2_has_one(v1: Path) -> None:
    assert [one.name for one in cgroups.roots()] == ["cpuset", "memory", "pids"]
    assert cgroups.obstacle() is None
    (v1 / "cgroup.controllers").touch()

    assert cgroups.roots() == [v1]


def test_a_fresh_v1_cpuset_gets_what_its_parent_has(v1: Path, cluster: Cluster) -> None:
    _hierarchy(v1 / "cpuset", cpuset_cpus="0-1\n", cpuset_mems="0\n")
    own = _hierarchy(v1 / "cpuset" / cluster.namespace, cpuset_cpus="\n", cpuset_mems="\n")
    below = _hierarchy(own / cgroups.PARTS, cpuset_cpus="\n", cpuset_mems="\n")

    cgroups.make(cluster)

    for folder in (own, below):
        assert (folder / "cpuset.cpus").read_text(encoding="utf-8") == "0-1\n"
        assert (folder / "cpuset.mems").read_text(encoding="utf-8") == "0\n"


def test_an_empty_v2_cpuset_is_left_empty(v2: Path, cluster: Cluster) -> None:
    """Under v2 the root has no cpuset of its own to copy, and empty means the parent's."""
    own = _hierarchy(v2 / cluster.namespace, cpuset_cpus="\n", cpuset_mems="\n")

    cgroups.make(cluster)

    assert (own / "cpuset.cpus").read_text(encoding="utf-8") == "\n"


def test_a_command_is_born_in_the_clusters_cgroups(v1: Path, cluster: Cluster) -> None:
    cgroups.make(cluster)
    command = [*cgroups.joining(cluster), "sh", "-c", 'echo "$$ $0"', "two words"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lists = sorted(v1.glob(f"*/{cluster.namespace}/{cgroups.PARTS}/cgroup.procs"))

    assert len(lists) == 3
    for one in lists:
        assert f"{one.read_text(encoding='utf-8').strip()} two words" == printed.strip()


def test_kill_ends_what_is_below_the_clusters_folders_and_nothing_else(
    v1: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of another pid namespace are listed as 0, which to kill(2) is the caller."""
    (v1 / "memory" / "cgroup.procs").write_text("1\n", encoding="utf-8")
    _hierarchy(v1 / "memory" / "batch-operator-another", cgroup_procs="2\n")
    ours = [
        _hierarchy(v1 / "memory" / cluster.namespace, cgroup_procs="0\n"),
        _hierarchy(v1 / "memory" / cluster.namespace / "parts", cgroup_procs="0\n41\n"),
        _hierarchy(v1 / "pids" / cluster.namespace / "kubepods" / "pod", cgroup_procs="42\n"),
    ]
    signalled = []

    def end(pid: int, number: int) -> None:
        signalled.append((pid, number))
        for folder in ours:
            procs = folder / "cgroup.procs"
            left = [one for one in procs.read_text(encoding="utf-8").split() if one != str(pid)]
            procs.write_text("\n".join(left), encoding="utf-8")

    monkeypatch.setattr(os, "kill", end)

    cgroups.kill(cluster, cgroups.PODS)
    assert signalled == [(42, signal.SIGKILL)]

    cgroups.kill(cluster)
    assert signalled == [(42, signal.SIGKILL), (41, signal.SIGKILL)]


def test_what_does_not_end_is_named(
    v1: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hierarchy(v1 / "memory" / cluster.namespace, cgroup_procs="41\n")
    monkeypatch.setattr(os, "kill", lambda *_: None)
    monkeypatch.setattr(cgroups, "PATIENCE_S", 0.1)

    with pytest.raises(ClusterError, match="-p 41`, then try again"):
        cgroups.kill(cluster)


def test_remove_takes_the_deepest_first(v1: Path, cluster: Cluster) -> None:
    for name in ("cpuset", "memory", "pids"):
        (v1 / name / cluster.namespace / "kubepods" / "pod" / "container").mkdir(parents=True)

    cgroups.remove(cluster)

    assert list(v1.glob(f"*/{cluster.namespace}")) == []


def test_a_machine_without_cgroups_carries_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)

    assert cgroups.obstacle() == f"no cgroups are mounted at {tmp_path}"


def test_a_container_with_read_only_cgroups_carries_no_node(
    v1: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "memory")

    assert cgroups.obstacle() == f"{v1 / 'memory'} is read-only"


def test_v2_has_to_hand_its_controllers_on(v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cgroups.obstacle() is None

    control = v2 / "cgroup.subtree_control"
    control.write_text("cpu memory pids", encoding="utf-8")

    def refuse(self: Path, text: str, **_: str) -> None:
        assert (self, text) == (control, "+cpuset")
        raise OSError

    monkeypatch.setattr(Path, "write_text", refuse)

    assert cgroups.obstacle() == f"{v2} does not hand on cpuset to the cgroups below it"
