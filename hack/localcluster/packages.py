"""The system's programs: Debian's packages for what is no Go module."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from localcluster.layout import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# By the program that shows that the package is there.
ALWAYS = {"openssl": "openssl"}
REAL_NODE = {
    "runc": "runc",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "nsenter": "util-linux",
}
PATIENCE_S = 120


def install(wanted: Mapping[str, str]) -> None:
    """See to it that programs are there, by the packages that have them.

    Raises:
        ClusterError: they are missing and cannot be installed; the message has what to do.
    """
    missing = [package for program, package in wanted.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ClusterError(f"install these with your package manager first: {' '.join(missing)}")
    if os.geteuid() != 0:
        raise ClusterError(f"install these first: sudo apt-get install {' '.join(missing)}")
    print(f"Installing {', '.join(missing)} with apt-get …", flush=True)
    _apt_get("update")
    _apt_get("install", "-y", "--no-install-recommends", *missing)


def _apt_get(*arguments: str) -> None:
    """Run apt-get; another one that runs is waited for."""
    command = ["apt-get", "-qq", "-o", f"DPkg::Lock::Timeout={PATIENCE_S}", *arguments]
    give_up = time.monotonic() + PATIENCE_S
    has_said_so = False
    while (done := _run(command)).returncode != 0:
        # The option covers dpkg's lock only; the one on the package lists fails at once.
        if "Could not get lock" not in done.stderr or time.monotonic() > give_up:
            raise ClusterError(
                f"{' '.join(command)} failed:\n{(done.stderr or done.stdout).strip()}"
            )
        if not has_said_so:
            print("Waiting for another apt-get to end …", flush=True)
            has_said_so = True
        time.sleep(2)


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)
