from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from localcluster import layout
from localcluster.layout import EMBEDDED, EXISTING, KIND, Cluster, ClusterError, Facts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["a b", "a\tb", "a:b", "a,b", 'a"b', "a\\b"])
def test_a_state_folder_that_mounts_cannot_name_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_OPERATOR_HOME", str(tmp_path / name))

    with pytest.raises(ClusterError, match="set BATCH_OPERATOR_HOME to another folder"):
        layout.home()


def test_the_default_state_folder_is_checked_and_resolved_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel lists mounts by their real paths, so a link in the path would hide them."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.delenv("BATCH_OPERATOR_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "link"))

    assert layout.home() == (tmp_path / "real" / "batch-operator").resolve()

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "two words"))
    with pytest.raises(ClusterError):
        layout.home()


def test_facts_are_kept_whole(cluster: Cluster, facts: Facts) -> None:
    cluster.keep(facts)

    assert cluster.facts() == facts
    assert [path.name for path in cluster.folder.iterdir()] == ["facts.json"]


@pytest.mark.parametrize(
    ("provider", "has_real_node", "expected"),
    [(EMBEDDED, True, False), (EMBEDDED, False, True), (KIND, False, False)]
    + [(EXISTING, False, False)],
)
def test_only_an_embedded_cluster_without_a_real_node_runs_no_containers(
    facts: Facts, provider: str, *, has_real_node: bool, expected: bool
) -> None:
    known = replace(facts, provider=provider, has_real_node=has_real_node)

    assert known.has_fake_nodes_only is expected
