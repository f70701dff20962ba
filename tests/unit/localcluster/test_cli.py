from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from localcluster import cli, privileges

if TYPE_CHECKING:
    from localcluster.layout import Cluster, Facts

ASKED = argparse.Namespace(audit=False)


@pytest.fixture
def obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "obstacle", lambda: "Not root")


@pytest.mark.usefixtures("obstacle")
def test_where_no_real_node_can_run_the_cluster_says_so(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._embedded_facts(cluster, ASKED).has_fake_nodes_only
    assert capsys.readouterr().out == (
        "Not root: the cluster has fake nodes only, on which no container really runs.\n"
    )


def test_where_one_can_run_it_has_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(privileges, "obstacle", lambda: None)

    assert cli._embedded_facts(cluster, ASKED).has_real_node
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("has_real_node", [True, False])
def test_a_cluster_stays_what_it_was_made(
    cluster: Cluster, facts: Facts, monkeypatch: pytest.MonkeyPatch, *, has_real_node: bool
) -> None:
    made = replace(facts, has_real_node=has_real_node)
    cluster.keep(made)
    monkeypatch.setattr(privileges, "obstacle", lambda: None)

    assert cli._embedded_facts(cluster, ASKED) == made


def test_ctrl_c_is_answered_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    parsed = argparse.Namespace(name="unit-test", action=interrupt)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda _: parsed)

    with pytest.raises(SystemExit) as caught:
        cli.main()

    assert caught.value.code == 130
    assert "goes on from here" in capsys.readouterr().err
