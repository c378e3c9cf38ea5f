"""Connections to the API server of a kubeconfig, or of the cluster that this process runs in as a pod.

Built on the transport of `kubernetes.aio` (TLS, tokens and their refresh), which nothing else imports.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from datacube_flows.cluster.errors import NoConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

CredentialError = config.ConfigException
"""What the transport raises where a token that is due cannot be read anew."""

DEFAULT_NAMESPACE: Final = "default"
POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Place:
    """Which cluster is meant.

    Attributes:
        kubeconfig: its file, or several as KUBECONFIG names them; None for the cluster that this process is a pod of.
        context: of the kubeconfig; "" is the current one.
    """

    kubeconfig: Path | None = None
    context: str = ""


@dataclass(frozen=True)
class Connection:
    """An open connection, and the namespace that is meant where none is named."""

    api: ApiClient
    namespace: str


def find_place(environ: Mapping[str, str], home: Path) -> Place:
    """Returns the cluster that kubectl would speak to: KUBECONFIG, else the file at home, else a pod's own cluster."""
    if named := environ.get("KUBECONFIG"):
        return Place(Path(named))
    at_home = home / ".kube" / "config"
    return Place(at_home if at_home.is_file() else None)


@asynccontextmanager
async def connect(place: Place) -> AsyncIterator[Connection]:
    """Has a connection to a cluster.

    Raises:
        NoConnection: the kubeconfig, or the pod's account, cannot be used.
    """
    settings = Configuration()
    loader = await _load(place, settings)
    refresh = loader and asyncio.create_task(config.refresh_token(loader, settings))
    if refresh is not None:
        refresh.add_done_callback(_let_be)
    settings.proxy = settings.proxy or _proxy_of_environment(settings.host)
    settings.client_session_kwargs = {
        "trust_env": False
    }  # else each request asks a thread for a proxy and for ~/.netrc
    async with ApiClient(configuration=settings) as api:
        try:
            yield Connection(api, _namespace(loader))
        finally:
            if refresh is not None:
                refresh.cancel()


async def _load(place: Place, settings: Configuration) -> Any:
    """Fills the settings; returns what renews the token of a kubeconfig."""
    try:
        if place.kubeconfig is not None:
            return await config.load_kube_config(
                config_file=str(place.kubeconfig),
                context=place.context or None,
                client_configuration=settings,
                persist_config=False,
            )
        config.load_incluster_config(client_configuration=settings)
    except Exception:  # noqa: BLE001 - of a parser, a file, a library: their texts may quote a credential
        text = f"the API server's address or credentials are not to be had, {_where_to_look(place)}"
        raise NoConnection(text) from None
    return None


def _let_be(refresh: asyncio.Task[None]) -> None:
    """A token that is not renewed is told by the requests that it is shown in; for a user without one, this ends."""
    if not refresh.cancelled():
        refresh.exception()


def _where_to_look(place: Place) -> str:
    if place.kubeconfig is None:
        return "this is no pod with an account: name a kubeconfig"
    context = f" and its context '{place.context}'" if place.context else ""
    return f"look at '{place.kubeconfig}'{context}"


def _namespace(loader: Any) -> str:
    """The namespace of a kubeconfig's context, or that of this pod."""
    if loader is not None:
        return str(loader.current_context["context"].get("namespace") or DEFAULT_NAMESPACE)
    try:
        return POD_NAMESPACE.read_text().strip() or DEFAULT_NAMESPACE
    except OSError:
        return DEFAULT_NAMESPACE


def _proxy_of_environment(server: str) -> str | None:
    """Returns the proxy that the environment names for a server, as kubectl takes it; None where it names none."""
    url = urlsplit(server)
    return None if not url.hostname or proxy_bypass(url.hostname) else getproxies().get(url.scheme)
