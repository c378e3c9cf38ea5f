"""Which variables `executor.env` may set (SECURITY S10). Names only; values are never looked at. Pure.

A document may set any variable, so the default policy, `deny`, lists what it may not: whatever makes a tool run, load
or trust something else, read or write files elsewhere, or show what it sends. `allowlist` is the stricter setting of an
installation. Names are compared without regard to case: no tool reads `Ld_Preload`, and none of them is missed either.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from datacube_flows.core.extra_args import VERBS
from datacube_flows.core.flags import Effect

EnvPolicy = Literal["deny", "allowlist"]

PROXIES: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
"""Allowed always, in any case: the document's own example."""

_NAME: Final = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*", re.ASCII)
"""Kubernetes' `IsEnvVarName`."""

_CODE: Final = "it changes which code runs in the attempt"
_HOME: Final = "the attempt sets its own folders"
_GIT: Final = "git would run programs or speak protocols that it names"
_TRUST: Final = "trust is set by whoever runs the installation (caBundle)"
_NETWORK: Final = "it changes how addresses are found: use the options, or the proxy variables"
_FILES: Final = "it makes a library read or write files outside of the transfer"
_LEAK: Final = "it makes a tool show or keep what credentials are sent with"
_PLATFORM: Final = "it is set by the platform"
_LANGUAGE: Final = "the transfer reads the tools' messages, in English"
_RCLONE: Final = "only variables of arguments that extraArgs may hold are allowed, such as RCLONE_TRANSFERS"
_HUB: Final = (
    "only settings of the hub's client that stay inside the transfer are allowed, such as HF_HUB_DOWNLOAD_TIMEOUT"
)
_AWS: Final = "the identity and the address are options; of these variables only keys, region and retries are allowed"

_PREFIXES: Final = {
    "LD_ DYLD_ BASH_ PYTHON PYDANTIC_ PERL RUBY JAVA_ GCONV_ GLIBC_ _": _CODE,
    "GIT_ SSH_ GCM_ GNUPG": _GIT,
    "XDG_": _HOME,
    "SSL_ OPENSSL_": _TRUST,
    "FSSPEC_ S3FS_ BOTO_ BOTOCORE_ KRB5": _FILES,
    "KUBERNETES_ ARGO_ DATACUBE_ PREFECT_ DBUS_ ACTIONS_": _PLATFORM,
    "LC_": _LANGUAGE,
    "RCLONE_": _RCLONE,
    "HF_ HUGGINGFACE_ HUGGING_FACE_ TRANSFORMERS_": _HUB,
    "AWS_": _AWS,
}
_NAMES: Final = {
    "PATH ENV IFS SHELL SHELLOPTS BASHOPTS CDPATH GLOBIGNORE PS4 PROMPT_COMMAND ZDOTDIR VIRTUAL_ENV GODEBUG": _CODE,
    "EDITOR VISUAL PAGER LESSOPEN LESSCLOSE BROWSER NODE_OPTIONS NODE_PATH": _CODE,
    "HOME PWD OLDPWD TMPDIR TMP TEMP": _HOME,
    "CURL_CA_BUNDLE REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS": _TRUST,
    "SSLKEYLOGFILE RUST_LOG": _LEAK,
    "HOSTALIASES LOCALDOMAIN RES_OPTIONS RESOLV_HOST_CONF": _NETWORK,
    "CURL_HOME NETRC KUBECONFIG LOCPATH NLSPATH": _FILES,
    "LANGUAGE": _LANGUAGE,
}
_HUB_SAFE: Final = (
    "HF_ENDPOINT HF_HUB_DOWNLOAD_TIMEOUT HF_HUB_ETAG_TIMEOUT HF_HUB_DISABLE_PROGRESS_BARS HF_HUB_DISABLE_TELEMETRY "
    "HF_HUB_DISABLE_XET HF_HUB_DISABLE_EXPERIMENTAL_WARNING HF_HUB_DISABLE_SYMLINKS_WARNING "
    "HF_HUB_DISABLE_UPDATE_CHECK HF_HUB_DISABLE_IMPLICIT_TOKEN HF_HUB_ENABLE_HF_TRANSFER HF_HUB_USER_AGENT_ORIGIN "
    "HF_HUB_VERBOSITY HF_XET_HIGH_PERFORMANCE"
)
_AWS_SAFE: Final = (
    "AWS_REGION AWS_DEFAULT_REGION AWS_MAX_ATTEMPTS AWS_RETRY_MODE AWS_REQUEST_CHECKSUM_CALCULATION "
    "AWS_RESPONSE_CHECKSUM_VALIDATION AWS_USE_DUALSTACK_ENDPOINT AWS_USE_FIPS_ENDPOINT AWS_S3_USE_ARN_REGION"
)
_CREDENTIALS: Final = "HF_TOKEN HUGGING_FACE_HUB_TOKEN AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN"
"""Allowed by `deny`, since charts set them from a Secret; the stricter policy wants the options instead."""


def _rclone_safe() -> frozenset[str]:
    """The variables of rclone's allowed arguments: one list decides both (rclone makes a variable of every flag)."""
    flags = (*VERBS["rclone copy"].allowed.values(), *VERBS["rclone sync"].allowed.values())
    return frozenset("RCLONE_" + f.name[2:].replace("-", "_").upper() for f in flags if f.effect is Effect.PASS)


_SAFE: Final = frozenset((*_HUB_SAFE.split(), *_AWS_SAFE.split(), *_rclone_safe()))
_ALLOWLIST: Final = _SAFE | PROXIES | {"TZ", "LANG"}
_EXCEPTIONS: Final = _SAFE | PROXIES | frozenset(_CREDENTIALS.split())
_BY_NAME: Final = {name: why for names, why in _NAMES.items() for name in names.split()}
_BY_PREFIX: Final = {prefix: why for prefixes, why in _PREFIXES.items() for prefix in prefixes.split()}


def forbidden_env(name: str, policy: EnvPolicy) -> str | None:
    """Returns why a document may not set the variable, None when it may."""
    if not _NAME.fullmatch(name):
        return "it is not a name that Kubernetes accepts for a variable"
    upper = name.upper()
    if upper in PROXIES:
        return None
    if policy == "allowlist" and upper not in _ALLOWLIST:
        return _denied(upper) or "this installation allows only proxies, TZ, LANG and known settings of the tools"
    return _denied(upper)


def _denied(upper: str) -> str | None:
    if upper in _EXCEPTIONS:
        return None
    if upper in _BY_NAME:
        return _BY_NAME[upper]
    return next((why for prefix, why in _BY_PREFIX.items() if upper.startswith(prefix)), None)
