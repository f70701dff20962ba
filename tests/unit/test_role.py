"""What the operator's role allows, in the manifest that is installed and with every switch."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CHARTS = Path(__file__).resolve().parent.parent.parent / "charts"
OWN = "batch-operator.io"
READ = ["get", "list", "watch"]
BASE: Mapping[str, Sequence[str]] = {
    f"{OWN}/batchjobs": [*READ, "delete"],
    f"{OWN}/batchjobs/status": ["update"],
    f"{OWN}/computeenvironments": [*READ, "patch"],
    f"{OWN}/computeenvironments/status": ["update"],
    f"{OWN}/consumableresources": READ,
    f"{OWN}/consumableresources/status": ["update"],
    f"{OWN}/jobdefinitions": READ,
    f"{OWN}/jobdefinitions/status": ["update"],
    f"{OWN}/jobqueues": READ,
    f"{OWN}/jobqueues/status": ["update"],
    f"{OWN}/schedulingpolicies": READ,
    f"{OWN}/schedulingpolicies/status": ["update"],
    "pods": [*READ, "create", "patch", "delete"],
    "configmaps": ["get"],  # by name: they hold the parameters of arrays
    "events": ["list"],  # about Pods that do not start
    "namespaces": ["list", "watch"],  # their labels, by which queues choose
    "nodes": [*READ, "patch"],
    "apps/controllerrevisions": [*READ, "create", "delete"],
    "apps/daemonsets": READ,
    "batch/jobs": [*READ, "create", "patch"],
}
"""Everything that the operator may do, by group and resource."""
SWITCHES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "provisioners.kwok.enabled": {"nodes": ["create", "delete"]},
    "provisioners.karpenter.enabled": {
        "karpenter.sh/nodepools": ["get", "list", "create", "patch", "delete"],
        "karpenter.sh/nodeclaims": ["list"],
        "events": ["list"],  # in namespace default
    },
    "provisioners.none.enabled": {
        "autoscaling.x-k8s.io/provisioningrequests": ["list", "create", "delete"],
        "podtemplates": ["create"],
    },
}
"""What it may do besides when a value of the chart is set."""


def documents() -> list[dict[str, Any]]:
    """What is installed."""
    text = (CHARTS / "batch-operator.yaml").read_text(encoding="utf-8")
    return [one for one in yaml.safe_load_all(text) if one]


def rules() -> list[dict[str, Any]]:
    [role] = [one for one in documents() if one["kind"] == "ClusterRole"]
    found: list[dict[str, Any]] = role["rules"]
    return found


def rules_behind(switch: str) -> list[dict[str, Any]]:
    """What the chart's template adds when a value is set."""
    text = (CHARTS / "batch-operator/templates/rbac.yaml").read_text(encoding="utf-8")
    condition = re.escape(f"{{{{- if .Values.{switch} }}}}")
    blocks = re.findall(rf"^  {condition}\n(.*?)^  {{{{- end }}}}", text, re.DOTALL | re.MULTILINE)
    return [rule for block in blocks for rule in yaml.safe_load(block)]


def allowed(found: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """Verbs by group and resource."""
    verbs: dict[str, list[str]] = defaultdict(list)
    for rule in found:
        assert set(rule) == {"apiGroups", "resources", "verbs"}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                verbs[f"{group}/{resource}" if group else resource] += rule["verbs"]
    return verbs


def test_the_role_allows_exactly_what_the_operator_does() -> None:
    assert allowed(rules()) == BASE


def test_events_are_written_where_those_about_environments_belong_and_nowhere_else() -> None:
    [role] = [one for one in documents() if one["kind"] == "Role"]

    assert role["metadata"]["namespace"] == "default"
    assert allowed(role["rules"]) == {"events.k8s.io/events": ["create", "patch"]}


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_adds_exactly_what_it_says(switch: str) -> None:
    assert allowed(rules_behind(switch)) == SWITCHES[switch]


def test_namespaces_are_watched_for_their_labels_and_never_changed() -> None:
    assert [one for one in rules() if "namespaces" in one["resources"]] == [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]}
    ]


def test_nothing_is_allowed_by_a_wildcard_and_no_secret_can_be_reached() -> None:
    for resource, verbs in allowed(rules()).items():
        assert "*" not in (*verbs, *resource)
        assert "secrets" not in resource


def test_the_policies_are_in_force() -> None:
    policies = [one for one in documents() if one["kind"] == "ValidatingAdmissionPolicy"]
    bindings = [one for one in documents() if one["kind"] == "ValidatingAdmissionPolicyBinding"]

    assert [one["spec"]["policyName"] for one in bindings] == [
        one["metadata"]["name"] for one in policies
    ]
    assert all(one["spec"]["validationActions"] == ["Deny"] for one in bindings)
    assert all(one["spec"]["failurePolicy"] == "Fail" for one in policies)


def test_nothing_that_makes_nodes_can_be_scaled_unless_it_is_named() -> None:
    assert not [one for one in rules() if any("/scale" in name for name in one["resources"])]
