"""What the operator's role allows, in the manifest that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MANIFEST = Path(__file__).resolve().parent.parent.parent / "charts" / "batch-operator.yaml"


def rules() -> list[dict[str, Any]]:
    documents = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    [role] = [one for one in documents if one["kind"] == "ClusterRole"]
    found: list[dict[str, Any]] = role["rules"]
    return found


def test_config_maps_can_be_read_by_name_and_no_more() -> None:
    """They hold the parameters of arrays."""
    assert [one for one in rules() if "configmaps" in one["resources"]] == [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    ]


def test_namespaces_are_watched_for_their_labels_and_never_changed() -> None:
    assert [one for one in rules() if "namespaces" in one["resources"]] == [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]}
    ]


def test_nothing_is_allowed_by_a_wildcard_and_no_secret_can_be_reached() -> None:
    for rule in rules():
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        assert "secrets" not in rule["resources"]
