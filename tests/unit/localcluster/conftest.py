"""A state folder of the test's own: no test sees or touches the user's clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localcluster.layout import EMBEDDED, Cluster, Facts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = (tmp_path / "home").resolve()
    monkeypatch.setenv("BATCH_OPERATOR_HOME", str(folder))
    return folder


@pytest.fixture
def cluster() -> Cluster:
    return Cluster("unit-test")


@pytest.fixture
def facts() -> Facts:
    return Facts(
        provider=EMBEDDED,
        subnet=7,
        etcd_port=1,
        etcd_peer_port=2,
        api_port=3,
        manager_port=4,
        scheduler_port=5,
        kwok_port=6,
        has_real_node=True,
        has_audit=False,
    )
