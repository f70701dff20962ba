"""A small certificate authority for one cluster, made with openssl."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcluster.processes import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DAYS = "3650"


def make_authority(folder: Path) -> None:
    """Create ca.crt and ca.key, and the key pair for service-account tokens, once."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ca.crt").exists():
        _key(folder / "ca.key")
        run(
            ["openssl", "req", "-x509", "-new", "-key", str(folder / "ca.key"), "-days", _DAYS]
            + ["-subj", "/CN=batch-operator local cluster", "-out", str(folder / "ca.crt")]
        )
    if not (folder / "sa.pub").exists():
        run(["openssl", "genrsa", "-out", str(folder / "sa.key"), "2048"])
        run(
            ["openssl", "rsa", "-in", str(folder / "sa.key"), "-pubout"]
            + ["-out", str(folder / "sa.pub")]
        )


def issue(
    folder: Path, name: str, subject: str, addresses: Sequence[str] = (), names: Sequence[str] = ()
) -> None:
    """Create NAME.crt and NAME.key for `subject`, such as `/O=system:masters/CN=admin`, once."""
    target = folder / f"{name}.crt"
    if target.exists():
        return
    _key(folder / f"{name}.key")
    request = run(["openssl", "req", "-new", "-key", str(folder / f"{name}.key"), "-subj", subject])
    alternatives = [f"IP:{one}" for one in addresses] + [f"DNS:{one}" for one in names]
    extensions = folder / f"{name}.ext"
    lines = ["extendedKeyUsage=serverAuth,clientAuth"]
    if alternatives:
        lines.append(f"subjectAltName={','.join(alternatives)}")
    extensions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run(
        ["openssl", "x509", "-req", "-CA", str(folder / "ca.crt"), "-CAkey"]
        + [str(folder / "ca.key"), "-CAcreateserial", "-days", _DAYS]
        + ["-extfile", str(extensions), "-out", str(target)],
        stdin=request,
    )


def _key(path: Path) -> None:
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)])
    path.chmod(0o600)
