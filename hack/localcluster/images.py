"""Container images without a registry: tar archives assembled from files of this machine.

The form is the one that `docker save` writes; containerd and kind import it as it is. Contents are
sorted and carry no times, so the same files always give the same image.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BUSYBOX = "docker.io/library/busybox:1"
"""Under its usual name, so that the same manifests run on a cluster that pulls it."""
PAUSE = "batch-operator.local/pause:1"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, link or folder in an image; `path` has no leading slash."""

    path: str
    content: bytes | Path | None = None
    link: str | None = None
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Image:
    """An image: its name, its layers from the bottom up, and how it starts."""

    name: str
    layers: Sequence[Sequence[Entry]]
    entrypoint: Sequence[str] = ()
    env: Sequence[str] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    user: str = ""
    working_dir: str = "/"
    labels: dict[str, str] = field(default_factory=dict)


def write_archive(image: Image, target: Path) -> None:
    """Write the image as a docker-archive tar."""
    blobs = [_layer(entries) for entries in image.layers]
    digests = [hashlib.sha256(blob).hexdigest() for blob in blobs]
    config = {
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": list(image.entrypoint),
            "Env": list(image.env),
            "Labels": image.labels,
            "User": image.user,
            "WorkingDir": image.working_dir,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one}" for one in digests]},
    }
    config_bytes = json.dumps(config, sort_keys=True).encode()
    config_name = f"{hashlib.sha256(config_bytes).hexdigest()}.json"
    manifest = [
        {
            "Config": config_name,
            "RepoTags": [image.name],
            "Layers": [f"{one}.tar" for one in digests],
        }
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as archive:
        _add(archive, config_name, config_bytes)
        for digest, blob in zip(digests, blobs, strict=True):
            _add(archive, f"{digest}.tar", blob)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def architecture() -> str:
    """This machine's architecture by the name that images and nodes use."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def busybox(binary: Path, applets: Iterable[str]) -> Image:
    """A shell and its tools: what the examples and the tests run."""
    entries = [
        Entry("bin"),
        Entry("bin/busybox", binary),
        *(Entry(f"bin/{name}", link="busybox") for name in sorted(applets) if name != "busybox"),
        Entry("etc"),
        Entry(
            "etc/passwd", b"root:x:0:0::/root:/bin/sh\njob:x:1000:1000::/tmp:/bin/sh\n", None, 0o644
        ),
        Entry("etc/group", b"root:x:0:\njob:x:1000:\n", None, 0o644),
        Entry("root"),
        Entry("tmp", mode=0o1777),
    ]
    return Image(BUSYBOX, [entries], env=("PATH=/bin",))


def pause(binary: Path) -> Image:
    """What holds a Pod's namespaces open: a busybox that sleeps and obeys SIGTERM."""
    entries = [Entry("bin"), Entry("bin/busybox", binary)]
    script = "trap 'exit 0' TERM INT; while :; do /bin/busybox sleep 3600 & wait $!; done"
    return Image(PAUSE, [entries], entrypoint=("/bin/busybox", "sh", "-c", script))


def tree(root: Path, prefix: str, *, skip: Iterable[str] = ("__pycache__",)) -> list[Entry]:
    """Everything below a folder as entries below `prefix`; links stay links."""
    skipped = set(skip)
    entries: list[Entry] = [Entry(prefix)]
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if skipped.intersection(relative.parts):
            continue
        name = f"{prefix}/{relative}"
        if path.is_symlink():
            entries.append(Entry(name, link=str(path.readlink())))
        elif path.is_dir():
            entries.append(Entry(name))
        else:
            entries.append(Entry(name, path, mode=path.stat().st_mode & 0o777))
    return entries


def _layer(entries: Sequence[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode = entry.mode
            if entry.link is not None:
                info.type = tarfile.SYMTYPE
                info.linkname = entry.link
                archive.addfile(info)
            elif entry.content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                content = entry.content
                data = content.read_bytes() if isinstance(content, Path) else content
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
