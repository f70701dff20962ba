"""A CRD that is applied can be used: its kind is asked for until the API server serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localcluster import crds
from localcluster.layout import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

KUBECTL = """#!/bin/sh
cd "$(dirname "$0")"
echo "$1 $2" >>asked
case "$*" in
  "apply --output=name -f refused") echo "no such version" >&2; exit 1 ;;
  apply*) echo customresourcedefinition.apiextensions.k8s.io/hats.shop.example
          echo customresourcedefinition.apiextensions.k8s.io/coats.shop.example ;;
  "get hats"*) [ "$(grep -c "get hats" asked)" -ge 3 ] ;;
esac
"""


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that serves coats at once, and hats when it is asked for the third time."""
    path = tmp_path / "kubectl"
    path.write_text(KUBECTL, encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return path


def test_kinds_are_asked_for_until_they_are_served(kubectl: Path) -> None:
    crds.serve([str(kubectl)], "-f", "crds")
    asked = (kubectl.parent / "asked").read_text(encoding="utf-8").splitlines()

    assert asked == [
        "apply --output=name",
        *["get hats.shop.example"] * 3,
        "get coats.shop.example",
    ]


def test_a_kind_that_is_not_served_in_time_is_named(
    kubectl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crds, "PATIENCE_S", 0.0)

    with pytest.raises(ClusterError, match=r"does not serve hats\.shop\.example yet"):
        crds.serve([str(kubectl)], "-f", "crds")


def test_a_crd_that_is_refused_is_told(kubectl: Path) -> None:
    with pytest.raises(ClusterError, match="no such version"):
        crds.serve([str(kubectl)], "-f", "refused")
