"""Who the operator is, wherever it runs; and a sentence when it is nobody."""

from __future__ import annotations

import base64
import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from batch_operator.cluster import credentials
from batch_operator.cluster.client import PODS, ApiError
from batch_operator.cluster.credentials import Credentials, NoCredentialsError, load
from batch_operator.cluster.http_client import HttpApiClient
from localcluster.certificates import issue, make_authority
from support.http_server import HttpServer, says
from support.virtual_time import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.fixture(autouse=True)
def outside_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def kubeconfig(
    folder: Path, user: Mapping[str, Any], server: str = "https://api.example:6443", **cluster: Any
) -> str:
    """A kubeconfig file with one cluster, user and context `only`."""
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "only", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "only", "user": user}],
        "contexts": [{"name": "only", "context": {"cluster": "only", "user": "only"}}],
        "current-context": "only",
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return str(path)


async def test_a_token_of_a_kubeconfig_is_sent(tmp_path: Path) -> None:
    found = load(kubeconfig(tmp_path, {"token": "abc"}))

    assert found.server == "https://api.example:6443"
    assert await found.authorization(0) == "Bearer abc"
    assert found.certificate is None
    assert not found.insecure


async def test_a_password_of_a_kubeconfig_is_sent(tmp_path: Path) -> None:
    found = load(kubeconfig(tmp_path, {"username": "u", "password": "p"}))

    assert await found.authorization(0) == f"Basic {base64.b64encode(b'u:p').decode()}"


async def test_a_plugin_of_a_kubeconfig_is_asked_again_when_its_token_expires(
    tmp_path: Path,
) -> None:
    """So do the clouds log in. Each run of this one gives another token, valid in the past."""
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "TOKEN", "expirationTimestamp": "2020-01-01T00:00:00Z"},
    }
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/runs\n"
        f"echo '{json.dumps(answer)}' | sed s/TOKEN/token-$(grep -c x {tmp_path}/runs)/\n",
        encoding="utf-8",
    )
    plugin.chmod(0o700)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    found = load(kubeconfig(tmp_path, user))
    first = await found.authorization(0)

    assert first is not None
    assert first.startswith("Bearer token-")
    assert await found.authorization(1) == first
    assert await found.authorization(2, renew=True) != first


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "sa.pub").touch()  # no service accounts here, and their RSA key is slow to make
    make_authority(folder)
    issue(folder, "server", "/CN=server", addresses=["127.0.0.1"])
    issue(folder, "admin", "/O=system:masters/CN=admin")
    return folder


def server_that_wants_a_certificate(authority: Path) -> HttpServer:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority / "ca.crt"))
    context.load_cert_chain(authority / "server.crt", authority / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return HttpServer(always=says(200, {}), ssl_context=context)


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize("embedded", [True, False], ids=["as data", "as files"])
async def test_a_client_certificate_of_a_kubeconfig_is_shown(
    tmp_path: Path,
    authority: Path,
    embedded: bool,  # noqa: FBT001  # a column of the table
) -> None:
    suffix, read = ("-data", encoded) if embedded else ("", str)
    user = {
        f"client-certificate{suffix}": read(authority / "admin.crt"),
        f"client-key{suffix}": read(authority / "admin.key"),
    }
    trust = {f"certificate-authority{suffix}": read(authority / "ca.crt")}
    async with server_that_wants_a_certificate(authority) as server:
        found = load(kubeconfig(tmp_path, user, server.url, **trust))
        async with HttpApiClient(found, VirtualClock()) as client:
            await client.get(PODS, "default", "p")

    assert found.certificate is not None
    assert "Authorization" not in server.calls[0].headers


async def test_a_server_that_is_not_trusted_is_told_nothing(
    tmp_path: Path, authority: Path
) -> None:
    async with server_that_wants_a_certificate(authority) as server:
        found = load(kubeconfig(tmp_path, {"token": "abc"}, server.url))
        async with HttpApiClient(found, VirtualClock()) as client:
            with pytest.raises(ApiError, match="certificate verify failed"):
                await client.get(PODS, "default", "p")

    assert server.calls == []


def test_trust_is_given_up_only_when_the_kubeconfig_says_so(tmp_path: Path) -> None:
    insecure = load(kubeconfig(tmp_path, {"token": "abc"}, **{"insecure-skip-tls-verify": True}))
    context = insecure.ssl_context()

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    secure = load(kubeconfig(tmp_path, {"token": "abc"})).ssl_context()

    assert (secure.verify_mode, secure.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_kopf_gets_the_same_credentials(tmp_path: Path, authority: Path) -> None:
    user = {
        "token": "abc",
        "client-certificate": str(authority / "admin.crt"),
        "client-key": str(authority / "admin.key"),
    }
    trust = {"certificate-authority": str(authority / "ca.crt")}
    info = load(kubeconfig(tmp_path, user, **trust)).for_kopf()

    assert info.server == "https://api.example:6443"
    assert (info.scheme, info.token) == ("Bearer", "abc")
    assert info.ca_path == trust["certificate-authority"]
    assert (info.certificate_path, info.private_key_path) == (
        user["client-certificate"],
        user["client-key"],
    )
    assert not info.insecure


@pytest.fixture
def service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the kubelet mounts."""
    (tmp_path / "token").write_text("first\n", encoding="utf-8")
    monkeypatch.setattr(credentials, "_SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


async def test_in_a_pod_the_service_account_speaks(service_account: Path) -> None:
    found = load()

    assert found.server == "https://10.96.0.1:443"
    assert found.ca_file == str(service_account / "ca.crt")
    assert not found.insecure
    assert await found.authorization(0) == "Bearer first"
    assert found.for_kopf().token == "first"  # noqa: S105  # as the file says


async def test_a_rotated_token_is_read_within_a_minute_or_when_it_is_refused(
    service_account: Path,
) -> None:
    found = load()
    await found.authorization(1000)
    (service_account / "token").write_text("second", encoding="utf-8")

    assert await found.authorization(1060) == "Bearer first"
    assert await found.authorization(1061) == "Bearer second"
    (service_account / "token").write_text("third", encoding="utf-8")

    assert await found.authorization(1062, renew=True) == "Bearer third"
    assert await found.authorization(1063) == "Bearer third"


@pytest.mark.usefixtures("service_account")
def test_an_ipv6_address_is_bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")

    assert load().server == "https://[fd00::1]:443"


@pytest.mark.usefixtures("service_account")
async def test_a_kubeconfig_that_is_named_goes_before_the_service_account(
    tmp_path: Path,
) -> None:
    found = load(kubeconfig(tmp_path, {"token": "abc"}))

    assert await found.authorization(0) == "Bearer abc"


def test_a_pod_without_a_token_is_told_what_to_set(service_account: Path) -> None:
    (service_account / "token").unlink()

    with pytest.raises(NoCredentialsError, match="set automountServiceAccountToken to true"):
        load()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no such file"),
        pytest.param(b"", id="an empty file"),
        pytest.param(b"clusters: []", id="nothing in it"),
        pytest.param(b"clusters: [", id="no YAML"),
        pytest.param(b"just text", id="no mapping"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
    ],
)
def test_without_credentials_there_is_a_sentence_that_says_what_to_set(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(NoCredentialsError) as raised:
        load(str(path))

    assert str(raised.value).startswith("no way to a Kubernetes API server: ")
    assert "Set KUBECONFIG or --kubeconfig, or run the operator in a Pod" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"token": "abc"})

    with pytest.raises(NoCredentialsError, match="other"):
        load(path, "other")


def test_a_folder_is_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(NoCredentialsError, match="Is a directory"):
        load(str(tmp_path))


def test_a_token_is_not_shown_by_accident() -> None:
    """`repr` ends up in logs and tracebacks."""
    held = Credentials("https://api.example", None, None, insecure=False, _read_token=None)
    held._token = "Bearer secret"  # noqa: S105

    assert "secret" not in repr(held)
