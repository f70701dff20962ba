"""Custom resources of a cluster: once applied they can be used."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from localcluster import processes
from localcluster.layout import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE_S = 120.0


def serve(kubectl: Sequence[str], *arguments: str, stdin: str | None = None) -> None:
    """Apply CRDs, and wait until the API server serves their kinds.

    That begins a moment after their condition Established, and `kubectl wait` fails on a CRD that
    is so new that it has no conditions.

    Args:
        kubectl: the command, with what it needs to find the cluster.
        arguments: for `kubectl apply`, such as -f and a file.
        stdin: what `-f -` is to read.

    Raises:
        ClusterError: they were refused, or are not served in time.
    """
    give_up = time.monotonic() + PATIENCE_S
    made = processes.run([*kubectl, "apply", "--output=name", *arguments], stdin=stdin)
    for kind in (one.partition("/")[2] for one in made.split()):
        ask = [*kubectl, "get", kind, "--all-namespaces", "--field-selector=metadata.name=none"]
        while subprocess.run(ask, capture_output=True, check=False).returncode != 0:
            if time.monotonic() > give_up:
                raise ClusterError(f"the API server does not serve {kind} yet: try again")
            time.sleep(0.1)
