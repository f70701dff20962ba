"""Files of Go modules that are not built: other projects' CRDs, for the end-to-end tests.

Their versions and checksums stand in go.mod and go.sum, as those of the programs do; their texts
are fetched when they are needed.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from localcluster.layout import GO_MODULES
from localcluster.programs import go_env, go_toolchain, no_modules

KARPENTER_CRDS = ("karpenter", "pkg/apis/crds")
CLUSTER_API_CRDS = ("cluster-api", "config/crd/bases")
CLUSTER_AUTOSCALER_CRDS = ("cluster-autoscaler-operator", "install")
"""Where these keep their CRDs: of which pins, and in which folder of the module.

cluster-autoscaler has its own in a module that the proxy does not serve; OpenShift's operator
installs the same.
"""


def folder_of(pins: str, inside: str) -> Path:
    """A folder of the one module that hack/go/PINS/go.mod requires.

    Raises:
        ClusterError: it cannot be fetched, or is not what go.sum says.
    """
    folder = GO_MODULES / pins
    required = re.search(
        r"^require (\S+) (\S+)$", (folder / "go.mod").read_text("utf-8"), re.MULTILINE
    )
    assert required is not None  # the file is ours
    go = go_toolchain()
    done = subprocess.run(
        [go, "mod", "download", "-json", "@".join(required.groups())],
        cwd=folder,
        env=go_env(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = json.loads(done.stdout)["Error"] if done.stdout else done.stderr
        raise no_modules(go, f"{' '.join(required.groups())} could not be fetched", said)
    return Path(json.loads(done.stdout)["Dir"]) / inside
