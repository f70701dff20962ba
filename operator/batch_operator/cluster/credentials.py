"""Who the operator is to the API server, inside a cluster or outside of it.

Inside, the service account's token is read again every minute because the kubelet rotates it.
Outside, the `kubernetes` package reads the kubeconfig: client certificates, tokens and exec
plugins, with everything that cloud providers have made of them.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kopf
from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_AGE_MAX_S = 60.0


class NoCredentialsError(Exception):
    """There is no way to an API server; the message says what to set."""


@dataclass(slots=True)
class Credentials:
    """Server, trust, and the authorization of the moment."""

    server: str
    ca_file: str | None
    certificate: tuple[str, str] | None
    insecure: bool
    _read_token: Any
    _token: str | None = field(default=None, repr=False)
    _read_at: float = field(default=float("-inf"))

    def ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(*self.certificate)
        return context

    async def authorization(self, monotonic_s: float, *, renew: bool = False) -> str | None:
        """The Authorization header, renewed when it has grown old or was refused."""
        if renew or monotonic_s - self._read_at > _TOKEN_AGE_MAX_S:
            self._token = await asyncio.to_thread(self._read_token)
            self._read_at = monotonic_s
        return self._token

    def for_kopf(self) -> kopf.ConnectionInfo:
        """The same credentials in kopf's form."""
        scheme, _, token = (self._read_token() or "").partition(" ")
        return kopf.ConnectionInfo(
            server=self.server,
            ca_path=self.ca_file,
            insecure=self.insecure or None,
            certificate_path=self.certificate[0] if self.certificate else None,
            private_key_path=self.certificate[1] if self.certificate else None,
            scheme=scheme or None,
            token=token or None,
        )


def load(kubeconfig: str | None = None, context: str | None = None) -> Credentials:
    """Find credentials: a named kubeconfig, else the Pod's service account, else the usual ones.

    Raises:
        NoCredentialsError: none of them is there.
    """
    if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return _of_service_account()
    settings = kubernetes_client.Configuration()
    read: Any = kubernetes_config.load_kube_config  # the package is not typed
    try:
        read(kubeconfig, context, settings)
    except Exception as error:  # ConfigException, or whatever its YAML or its folder gives rise to
        problem = " ".join(str(error).split()).rstrip(".")
        raise NoCredentialsError(
            f"no way to a Kubernetes API server: {problem}. Set KUBECONFIG or --kubeconfig, or run "
            f"the operator in a Pod with a service account"
        ) from error
    certificate = (
        (settings.cert_file, settings.key_file)
        if settings.cert_file and settings.key_file
        else None
    )
    return Credentials(
        server=settings.host,
        ca_file=settings.ssl_ca_cert,
        certificate=certificate,
        insecure=not settings.verify_ssl,
        _read_token=lambda: settings.get_api_key_with_prefix("BearerToken", alias="authorization"),
    )


def _of_service_account() -> Credentials:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    bracketed = f"[{host}]" if ":" in host else host
    token = _SERVICE_ACCOUNT / "token"
    if not token.exists():
        raise NoCredentialsError(
            f"this Pod has no service-account token at {token}: set "
            f"automountServiceAccountToken to true"
        )
    return Credentials(
        server=f"https://{bracketed}:{port}",
        ca_file=str(_SERVICE_ACCOUNT / "ca.crt"),
        certificate=None,
        insecure=False,
        _read_token=lambda: f"Bearer {token.read_text(encoding='utf-8').strip()}",
    )
