from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from localcluster import cgroups, network, processes, realnode
from localcluster.layout import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcluster.layout import Cluster, Facts


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(realnode, "RUN", folder)
    return folder


class Mounts:
    """A table of mounts, and an `umount` that takes lines out of it."""

    def __init__(self, table: Path, paths: Sequence[str]) -> None:
        self.table = table
        self.stuck: set[str] = set()
        self.taken: list[str] = []
        self._write(paths)

    def paths(self) -> list[str]:
        return [line.split()[1] for line in self.table.read_text(encoding="utf-8").splitlines()]

    def run(self, command: Sequence[str], *, check: bool = True) -> str:
        assert command[:2] == ["umount", "--lazy"]
        assert not check
        path = command[2]
        if path not in self.stuck:
            left = self.paths()
            left.remove(path)
            self._write(left)
            self.taken.append(path)
        return ""

    def _write(self, paths: Sequence[str]) -> None:
        text = "".join(f"overlay {one} overlay rw 0 0\n" for one in paths)
        self.table.write_text(text, encoding="utf-8")


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounts:
    paths = ["/", "/c/x", "/c/x/kubelet", "/c/x/kubelet/pods/volume", "/c/x/kubelet", "/c/xy/other"]
    made = Mounts(tmp_path / "mounts", paths)
    monkeypatch.setattr(realnode, "MOUNTS", made.table)
    monkeypatch.setattr(processes, "run", made.run)
    return made


def test_mounts_below_a_folder_go_the_deepest_first(mounts: Mounts) -> None:
    realnode._unmount_below(Path("/c/x"))

    assert mounts.taken == ["/c/x/kubelet/pods/volume", "/c/x/kubelet", "/c/x/kubelet"]
    assert mounts.paths() == ["/", "/c/x", "/c/xy/other"]


def test_a_folder_with_a_mount_that_stays_is_not_deleted(mounts: Mounts) -> None:
    """What is mounted there may be a folder of this machine."""
    mounts.stuck.add("/c/x/kubelet/pods/volume")

    with pytest.raises(ClusterError, match="/c/x/kubelet/pods/volume cannot be unmounted"):
        realnode._unmount_below(Path("/c/x"))


def test_a_network_that_is_not_whole_is_taken_down_with_what_lives_in_it(
    cluster: Cluster, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):  # noqa: N818 - it is no error
        pass

    def enough(_: Cluster) -> None:
        raise Enough

    steps: list[str] = []
    monkeypatch.setattr(network, "is_whole", lambda *_: False)
    monkeypatch.setattr(realnode, "stop", lambda *_: steps.append("stop"))
    monkeypatch.setattr(network, "make", lambda *_: steps.append("make"))
    monkeypatch.setattr(cgroups, "make", enough)

    with pytest.raises(Enough):
        realnode.start(cluster, facts)

    assert steps == ["stop", "make"]


def test_stop_leaves_nothing_after_a_kill(
    run_folder: Path,
    cluster: Cluster,
    facts: Facts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No part runs and no record is left: what there is has to be found without them."""
    pod = tmp_path / "cgroup" / "memory" / cluster.namespace / "kubepods" / "pod"
    pod.mkdir(parents=True)
    (tmp_path / "cgroup" / "memory" / "cgroup.procs").touch()
    runtime = run_folder / cluster.namespace
    (runtime / "state" / "rootfs").mkdir(parents=True)
    table = Mounts(tmp_path / "mounts", ["/", f"{runtime}/state/rootfs", f"{cluster.folder}/node"])
    monkeypatch.setattr(realnode, "MOUNTS", table.table)
    monkeypatch.setattr(processes, "run", table.run)
    monkeypatch.setattr(cgroups, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("nothing is to be killed"))

    realnode.stop(cluster, facts)

    assert table.paths() == ["/"]
    assert not runtime.exists()
    assert not (tmp_path / "cgroup" / "memory" / cluster.namespace).exists()


def test_a_cluster_of_the_same_name_in_another_state_folder_is_left_alone(
    run_folder: Path, cluster: Cluster, tmp_path: Path
) -> None:
    realnode.refuse_another_owner(cluster)
    owner = run_folder / cluster.namespace / "owner"
    owner.parent.mkdir()
    owner.write_text(str(cluster.folder), encoding="utf-8")
    realnode.refuse_another_owner(cluster)
    another = tmp_path / "another" / "clusters" / cluster.name
    owner.write_text(str(another), encoding="utf-8")
    realnode.refuse_another_owner(cluster)  # it was deleted by hand
    another.mkdir(parents=True)

    with pytest.raises(ClusterError, match=f"BATCH_OPERATOR_HOME={tmp_path / 'another'} hack/"):
        realnode.refuse_another_owner(cluster)
