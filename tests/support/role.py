"""Speaking to a cluster with the rights that the chart gives the operator, and no others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from localcluster import processes, programs
from support.kube import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from support.kube import Kube


def chart_role(release: str, *settings: str) -> str:
    """The manifests of the operator's rights, with values of the chart set."""
    programs.build([programs.HELM])
    values = [word for one in settings for word in ("--set", one)]
    command = [programs.path("helm"), "template", release, str(ROOT / "charts/batch-operator")]
    return processes.run(
        [*command, "--namespace", release, "--show-only", "templates/rbac.yaml", *values]
    )


def kubeconfig_of_role(admin: Kube, release: str, folder: Path) -> Path:
    """A kubeconfig that speaks as the operator's service account, whose rights are in place."""
    token = admin("create", "token", f"{release}-batch-operator", "-n", release).strip()
    config = json.loads(admin("config", "view", "--raw", "-o", "json"))
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / f"{release}.kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path
