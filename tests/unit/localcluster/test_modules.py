"""What cannot be fetched or built for want of Go modules says what to do, in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localcluster import modules, programs
from localcluster.layout import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REFUSED = "dial tcp 192.0.2.1:443: connection refused"
GO = f"""#!/bin/sh
case $1 in
  env) echo https://proxy.example ;;
  mod) echo '{{"Path": "m", "Error": "{REFUSED}"}}'; exit 1 ;;
  build) echo '{REFUSED}' >&2; exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (
            lambda: modules.folder_of(*modules.KARPENTER_CRDS),
            r"sigs\.k8s\.io/karpenter v[0-9.]+ could not be fetched",
        ),
        (lambda: programs.build([programs.HELM]), "helm could not be built"),
    ],
    ids=["fetched", "built"],
)
def test_a_proxy_that_cannot_be_reached_is_named(
    ask: Callable[[], object], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text(GO, encoding="utf-8")
    go.chmod(0o755)
    for module in (modules, programs):
        monkeypatch.setattr(module, "go_toolchain", lambda: str(go))
    advice = r"see that the Go module proxy \(https://proxy\.example\) can be reached from here"

    with pytest.raises(ClusterError, match=f"^{what}: {advice}.* Go said:\n  {REFUSED}$"):
        ask()
