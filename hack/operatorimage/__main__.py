"""`python -m operatorimage`: write the image's archive and print its path and name."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from localcluster import images, processes
from localcluster.layout import REPOSITORY, ClusterError, home

NAME = "batch-operator.local/batch-operator"
TAG = "dev"
_UNUSED = {"__pycache__", "test", "tests", "idlelib", "tkinter", "ensurepip", "site-packages"}
_UNUSED |= {"dist-packages", "lib2to3", "turtledemo"}


def main() -> None:
    try:
        target = home() / "images" / "batch-operator.tar"
        write(target)
    except ClusterError as error:
        sys.exit(f"error: {error}")
    print(f"{target} {NAME}:{TAG}")


def write(target: Path) -> None:
    """Assemble the image from the interpreter that runs this, and what uv.lock pins."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    binary = Path(sys.base_prefix, "bin", version).resolve()
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        _say("Installing the operator and the packages of uv.lock …")
        _install_packages(site)
        _say(f"Collecting {version} and the shared libraries that it loads …")
        python = [
            images.Entry(f"usr/bin/{version}", binary),
            *images.tree(stdlib, f"usr/lib/{version}", skip=_UNUSED),
        ]
        extensions = [*stdlib.rglob("lib-dynload/*.so"), *site.rglob("*.so")]
        libraries = _libraries([binary, *extensions])
        etc = [
            images.Entry("etc/passwd", b"operator:x:65532:65532::/tmp:/bin/false\n", mode=0o644),
            images.Entry("etc/group", b"operator:x:65532:\n", mode=0o644),
            images.Entry("tmp", mode=0o1777),
        ]
        image = images.Image(
            name=f"{NAME}:{TAG}",
            layers=[
                [*libraries, *python, *etc],
                images.tree(site, "app/site"),
            ],
            entrypoint=(f"/usr/bin/{version}", "-m", "batch_operator"),
            env=(
                "PYTHONHOME=/usr",
                "PYTHONPATH=/app/site",
                "PYTHONUNBUFFERED=1",
                "PYTHONDONTWRITEBYTECODE=1",
            ),
            user="65532:65532",
        )
        _say("Writing the archive …")
        images.write_archive(image, target)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # what is printed otherwise is for scripts


def _install_packages(site: Path) -> None:
    uv = shutil.which("uv") or str(home() / "uv" / "bin" / "uv")
    pinned = site.parent / "requirements.txt"
    exported = processes.run(
        [uv, "export", "--frozen", "--no-dev", "--no-emit-project", "--project", str(REPOSITORY)]
    )
    pinned.write_text(exported, encoding="utf-8")
    install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(site)]
    processes.run([*install, "--require-hashes", "--requirement", str(pinned)])
    processes.run([*install, "--no-deps", str(REPOSITORY)])


def _libraries(binaries: list[Path]) -> list[images.Entry]:
    """The shared libraries that the binaries load, and the loader itself, at their own paths."""
    found: dict[str, Path] = {}
    for binary in binaries:
        listed = processes.run(["ldd", str(binary)], check=False)
        for path in re.findall(r"(?:=> )?(/\S+) \(0x", listed):
            if not path.startswith(str(binary.parent)):
                found[path] = Path(path).resolve()
    return [images.Entry(path.lstrip("/"), real) for path, real in sorted(found.items())]


main()
