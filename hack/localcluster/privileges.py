"""Whether a real node can run here: root alone is not enough in a container without privileges."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from localcluster import cgroups

_STATUS = Path("/proc/self/status")
_USER_MAP = Path("/proc/self/uid_map")
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
# It leaves no trace: the namespaces end with it. `ip` may still have to be installed.
_TRIAL = """
mount -t tmpfs tmpfs /tmp
if command -v ip; then ip link add one type veth peer name two; fi
"""


def obstacle() -> str | None:
    """Why no real node can run here, as the beginning of a sentence; none if one can."""
    if os.geteuid() != 0:
        return "Not root"
    missing = _missing_capabilities()
    if missing:
        return f"Root without {' and '.join(missing)}"
    if _USER_MAP.read_text(encoding="utf-8").split() != ["0", "0", "4294967295"]:
        return "Root of a user namespace only"
    if reason := cgroups.obstacle() or _refusal():
        return f"No real node can run here ({reason})"
    return None


def _missing_capabilities() -> list[str]:
    found = re.search(r"^CapEff:\s*(\w+)$", _STATUS.read_text(encoding="utf-8"), re.MULTILINE)
    held = int(found.group(1), 16) if found else 0
    return [name for name, bit in _CAPABILITIES.items() if not held >> bit & 1]


def _refusal() -> str | None:
    """What the kernel or a security module says to namespaces, a mount and a wire in them."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return None  # they are installed later; then an error tells what is wrong
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-ec", _TRIAL],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    return done.stderr.strip().replace("\n", "; ") or "namespaces are refused"
