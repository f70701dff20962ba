from __future__ import annotations

import json
import platform
import tarfile
from typing import TYPE_CHECKING

import pytest

from localcluster import fakenodes, images

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "riscv64")],
)
def test_images_and_fake_nodes_are_of_the_machines_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, expected: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    archive = tmp_path / "image.tar"
    images.write_archive(images.Image("x:1", [[images.Entry("bin")]]), archive)
    with tarfile.open(archive) as tar:
        member = tar.extractfile(json.load(_member(tar, "manifest.json"))[0]["Config"])
        assert member is not None
        config = json.load(member)

    assert config["architecture"] == expected
    info = fakenodes.node(0, has_taint=True)["status"]["nodeInfo"]
    assert info["architecture"] == expected


def _member(tar: tarfile.TarFile, name: str) -> tarfile.ExFileObject:
    found = tar.extractfile(name)
    assert isinstance(found, tarfile.ExFileObject)
    return found
