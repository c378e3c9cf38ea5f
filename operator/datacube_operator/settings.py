"""What an operator is started with: flags, each also a variable `DATACUBE_<FLAG>`, as one frozen value.

Pure but for `find_own_namespace` and `make_identity`, which the entry point calls.
"""

from __future__ import annotations

import argparse
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from datacube_flows import __version__
from datacube_flows.api.wire import SUBDOMAIN
from datacube_flows.core.manifests import Installation
from datacube_flows.core.plan import Policy
from datacube_flows.engines.argo_accounts import ArgoSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from datacube_flows.core.env_policy import EnvPolicy

LEASE_NAME: Final = "datacube-operator"
DEFAULT_NAMESPACE: Final = "datacube-system"
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TRANSFER_IMAGE: Final = f"datacube/transfer:{__version__}"

ENGINES: Final = ("argo", "prefect")
PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
ENV_POLICIES: Final = ("deny", "allowlist")
MAX_WORKERS: Final = 64
MAX_RUNS: Final = 2000
"""Each takes about a megabyte of the operator's memory."""

MIN_KEEP_SECONDS: Final = 60
"""A run's end is read from its workflow and pods, also by a replica that takes over after a while."""

MAX_KEEP_SECONDS: Final = 2_147_483_647
MAX_IDENTITY: Final = 128
"""What an Event takes as `reportingInstance`."""

_VARIABLE_PREFIX: Final = "DATACUBE_"
_LABEL: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_SWITCH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Settings:
    """How an operator is to work.

    Attributes:
        kubeconfig: the cluster; None is the one that this process runs in.
        namespace: the only one that is looked at; "" is all of them.
        lease_namespace: where the lease stands.
        lease_name: of the lease; replicas of one installation share it.
        identity: this process's own, never used by another one before or after it.
        transfer_image: what attempts run.
        image_pull_policy: of that image; "" leaves it to Kubernetes.
        allow_http: whether plain HTTP may be spoken.
        ca_config_map: ConfigMap with the authorities to trust, in each namespace; "" is the image's own.
        engine: what runs documents that name none.
        argo_url: address of Argo's UI, without a slash at its end; "" is unknown.
        prefect_url: address of a Prefect server's API; "" switches that engine off.
        prefect_ui_url: address of its UI, for people; "" is unknown.
        prefect_runs: how many runs are executed at once.
        host: address that health and metrics are served at.
        port: the same; 0 lets the system choose.
        has_accounts: whether the accounts that pods run under are made.
        has_progress: whether pods' logs are read for progress.
        keep_seconds: how long a run's workflow and pods are kept after its end.
        workers: how many DataCubes are looked at at once.
        env_policy: what `executor.env` may name.
    """

    identity: str
    kubeconfig: Path | None = None
    namespace: str = ""
    lease_namespace: str = DEFAULT_NAMESPACE
    lease_name: str = LEASE_NAME
    transfer_image: str = TRANSFER_IMAGE
    image_pull_policy: str = ""
    allow_http: bool = False
    ca_config_map: str = ""
    engine: str = ENGINES[0]
    argo_url: str = ""
    prefect_url: str = ""
    prefect_ui_url: str = ""
    prefect_runs: int = 300
    host: str = "0.0.0.0"  # noqa: S104 - the kubelet and Prometheus ask from outside of the pod
    port: int = 8080
    has_accounts: bool = True
    has_progress: bool = True
    keep_seconds: int = 86400
    workers: int = 4
    env_policy: EnvPolicy = "deny"

    @property
    def installation(self) -> Installation:
        """What the manifests of pods are made with."""
        return Installation(
            image=self.transfer_image,
            image_pull_policy=self.image_pull_policy,
            allow_http=self.allow_http,
            ca_config_map=self.ca_config_map,
        )

    @property
    def policy(self) -> Policy:
        """What documents may ask for."""
        return Policy(env_policy=self.env_policy, allowed_schemes=("https", "http") if self.allow_http else ("https",))

    @property
    def argo(self) -> ArgoSettings:
        """What the Argo engine renders with."""
        return ArgoSettings(ttl_seconds=self.keep_seconds)


@dataclass(frozen=True)
class _Flag:
    """A flag; `read` turns its text into a value, or raises ArgumentTypeError that says what it should be."""

    name: str
    read: Callable[[str], Any]
    default: Any
    metavar: str
    help: str

    @property
    def variable(self) -> str:
        return _VARIABLE_PREFIX + self.name.upper().replace("-", "_")

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")


def read_settings(
    argv: Sequence[str], environ: Mapping[str, str], *, identity: str, own_namespace: str = ""
) -> Settings:
    """Returns what flags and variables say; a flag counts more than its variable, and an empty variable is none.

    Args:
        argv: the flags, without the program's name.
        environ: where the variables are looked up.
        identity: what `--identity` is where it is not given; see `make_identity`.
        own_namespace: the one that this process runs in; see `find_own_namespace`.

    Raises:
        SystemExit: with code 2 for a wrong flag or variable, which is named; with 0 after `--help` and `--version`.
    """
    flags = _flags(identity, own_namespace or DEFAULT_NAMESPACE)
    parser = _make_parser(flags)
    defaults = {flag.key: _from_variable(parser, flag, environ) for flag in flags}
    given = vars(parser.parse_args(argv))
    values = {key: default if given[key] is None else given[key] for key, default in defaults.items()}
    if values["engine"] == "prefect" and not values["prefect_url"]:
        parser.error("--engine prefect: expected --prefect-url, the address of a Prefect server's API")
    host, port = values.pop("listen")
    accounts, progress = not values.pop("no_accounts"), not values.pop("no_progress")
    return Settings(**values, host=host, port=port, has_accounts=accounts, has_progress=progress)


def find_own_namespace(file: Path = NAMESPACE_FILE) -> str:
    """Returns the namespace that this process runs in as a pod; "" elsewhere."""
    return file.read_text().strip() if file.is_file() else ""


def make_identity() -> str:
    """Returns a name for this process that no other has: a container that is restarted keeps its hostname."""
    return f"{socket.gethostname()[: MAX_IDENTITY - 9]}-{secrets.token_hex(4)}"


def _flags(identity: str, lease_namespace: str) -> list[_Flag]:
    return [
        _Flag("kubeconfig", _path, None, "PATH", "the cluster to work for (default: the one that this runs in)"),
        _Flag("namespace", _namespace, "", "NS", "look at this namespace only (default: all)"),
        _Flag("lease-namespace", _namespace, lease_namespace, "NS", "where the lease of the leader stands"),
        _Flag("lease-name", _name, LEASE_NAME, "NAME", "name of the lease"),
        _Flag("identity", _identity, identity, "TEXT", "who holds the lease; no two processes may have the same"),
        _Flag("transfer-image", _image, TRANSFER_IMAGE, "IMAGE", "image of the attempts"),
        _Flag("image-pull-policy", _one_of(PULL_POLICIES), "", "POLICY", f"{', '.join(PULL_POLICIES)}"),
        _Flag("allow-http", _switch, False, "true|false", "let transfers speak plain HTTP (closed networks)"),
        _Flag("ca-config-map", _name, "", "NAME", "ConfigMap with the authorities to trust, in each namespace"),
        _Flag("engine", _one_of(ENGINES), ENGINES[0], "ENGINE", "what runs documents that name no engine"),
        _Flag("argo-url", _url, "", "URL", "address of Argo's UI, for links in the status"),
        _Flag("prefect-url", _url, "", "URL", "API of a Prefect server, ends in /api (default: no such engine)"),
        _Flag("prefect-ui-url", _url, "", "URL", "address of Prefect's UI, for links in the status"),
        _Flag("prefect-runs", _between(1, MAX_RUNS), 300, "N", "transfers that Prefect runs at once"),
        _Flag("listen", _address, ("0.0.0.0", 8080), "ADDRESS:PORT", "of health and metrics"),  # noqa: S104 - see host
        _Flag("no-accounts", _switch, False, "true|false", "do not make the service accounts that pods run under"),
        _Flag("no-progress", _switch, False, "true|false", "do not read pods' logs"),
        _Flag("keep-seconds", _between(MIN_KEEP_SECONDS, MAX_KEEP_SECONDS), 86400, "N", "keep ended workflows so long"),
        _Flag("workers", _between(1, MAX_WORKERS), 4, "N", "DataCubes that are looked at at once"),
        _Flag("env-policy", _one_of(ENV_POLICIES), "deny", "POLICY", "deny dangerous variables, or allowlist"),
    ]


def _make_parser(flags: Sequence[_Flag]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datacube_operator",
        description="Has engines run DataCubes, and tells in their status what became of them.",
        epilog=f"Each flag is also a variable: {_VARIABLE_PREFIX}LEASE_NAME for --lease-name. A flag counts more.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"datacube {__version__}")
    for flag in flags:
        switch: dict[str, Any] = {"nargs": "?", "const": True} if flag.read is _switch else {}
        parser.add_argument(
            f"--{flag.name}", type=flag.read, default=None, metavar=flag.metavar, help=_help(flag), **switch
        )
    return parser


def _help(flag: _Flag) -> str:
    default = flag.default if flag.name != "listen" else "{}:{}".format(*flag.default)
    shown = f" (default: {default})" if default and flag.name != "identity" else ""
    return (flag.help + shown).replace("%", "%%")


def _from_variable(parser: argparse.ArgumentParser, flag: _Flag, environ: Mapping[str, str]) -> Any:
    """What a flag is where it is not given."""
    text = environ.get(flag.variable, "")
    if not text:
        return flag.default
    try:
        return flag.read(text)
    except argparse.ArgumentTypeError as error:
        parser.error(f"variable {flag.variable}: {error}")


def _refuse(wanted: str, text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"expected {wanted}, not {text!r}")


def _path(text: str) -> Path:
    if not text:
        raise _refuse("a file", text)
    return Path(text)


def _namespace(text: str) -> str:
    if not re.fullmatch(_LABEL, text, re.ASCII):
        raise _refuse("the name of a namespace", text)
    return text


def _name(text: str) -> str:
    if not re.fullmatch(SUBDOMAIN, text, re.ASCII) or len(text) > 253:  # noqa: PLR2004 - what Kubernetes allows
        raise _refuse("a name of lower-case letters, digits, '-' and '.'", text)
    return text


def _identity(text: str) -> str:
    if not text.isprintable() or not 0 < len(text) <= MAX_IDENTITY:
        raise _refuse(f"a text of at most {MAX_IDENTITY} characters", text)
    return text


def _image(text: str) -> str:
    if not text or not text.isprintable() or " " in text:
        raise _refuse("an image", text)
    return text


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise _refuse(" or ".join(words), text)
        return text

    return read


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise _refuse("true or false", text)
    return _SWITCH[text.lower()]


def _url(text: str) -> str:
    """The address of a page, to which paths are appended; one with a password would stand in every status."""
    parts = urlsplit(text)
    has_more = parts.query or parts.fragment or parts.username is not None or not text.isprintable()
    if parts.scheme not in {"https", "http"} or not parts.hostname or has_more:
        raise argparse.ArgumentTypeError("expected an address such as https://argo.example.org, without user or query")
    return text.rstrip("/")


def _address(text: str) -> tuple[str, int]:
    """`[::1]:8080`, `127.0.0.1:8080`, or `:8080` for all addresses."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - ports end there
        raise _refuse("an address and a port such as 0.0.0.0:8080", text)
    return host or Settings.host, int(port)


def _between(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise _refuse(f"a whole number from {least} to {most}", text)
        return int(text)

    return read
