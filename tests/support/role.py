"""The operator with the rights that the chart gives it, and no others."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from localcluster import processes, programs
from support.kube import ROOT, Kube, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

RELEASE = "of-chart"


@contextmanager
def account_of_chart(admin: Kube, folder: Path, *settings: str) -> Iterator[Path]:
    """A kubeconfig that speaks as the operator's service account.

    Args:
        admin: whose namespace gets the account.
        folder: where the kubeconfig is written.
        settings: values of the chart.
    """
    rights = _rights(admin.namespace, *settings)
    anywhere = replace(admin, namespace="")  # as the manifests say
    anywhere("apply", "-f", "-", stdin=rights)
    [account] = admin.items("serviceaccounts", "-l", f"app.kubernetes.io/instance={RELEASE}")
    token = admin("create", "token", account["metadata"]["name"], "--duration=1h").strip()
    config = json.loads(admin("config", "view", "--raw", "-o", "json"))
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / "of-chart.kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    for one in yaml.safe_load_all(rights):
        if one["kind"] in {"ClusterRole", "Role"}:
            wait_for("the role to be in force", lambda role=one: _may(admin.kubectl, path, role))
    yield path
    anywhere("delete", "-f", "-", stdin=rights)


def _rights(namespace: str, *settings: str) -> str:
    programs.build([programs.HELM])
    values = [word for one in settings for word in ("--set", one)]
    command = [programs.path("helm"), "template", RELEASE, str(ROOT / "charts/batch-operator")]
    return processes.run(
        [*command, "--namespace", namespace, "--show-only", "templates/rbac.yaml", *values]
    )


def _may(kubectl: str, kubeconfig: Path, role: Mapping[str, Any]) -> bool:
    """Whether whom the kubeconfig speaks for may do what the role's first rule says."""
    rule = role["rules"][0]
    kind = f"{rule['resources'][0]}.{rule['apiGroups'][0]}".rstrip(".")
    kube = Kube(kubectl, kubeconfig, role["metadata"].get("namespace", "default"))
    return kube.run("auth", "can-i", rule["verbs"][0], kind).returncode == 0
