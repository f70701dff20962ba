from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from demo import __main__ as demo
from demo.table import Row
from localcluster import controlplane

if TYPE_CHECKING:
    from localcluster.layout import Cluster, Facts

ROWS = [Row(name="hello", state="SUCCEEDED", why="", counts={}, size=1)]


@pytest.mark.parametrize("has_real_node", [True, False])
def test_a_log_is_shown_where_a_container_has_run(
    cluster: Cluster, facts: Facts, monkeypatch: pytest.MonkeyPatch, *, has_real_node: bool
) -> None:
    asked = []

    def kubectl(_: Cluster, *arguments: str) -> str:
        asked.append(arguments[0])
        return "hello, batch\n"

    monkeypatch.setattr(controlplane, "kubectl", kubectl)
    cluster.keep(replace(facts, has_real_node=has_real_node))
    out = io.StringIO()

    demo._say_goodbye(Console(file=out, width=200), cluster, ROWS)

    assert asked == (["logs"] if has_real_node else [])
    assert ("hello, batch" in out.getvalue()) is has_real_node
    assert ("no container really ran" in out.getvalue()) is not has_real_node
    assert ("kubectl logs" in out.getvalue()) is has_real_node
