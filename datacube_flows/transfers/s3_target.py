"""What an S3 transfer talks to, read from the attempt: address, region, style, keys, proxy. Pure; opens nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # public, and not in typeshed

from datacube_flows.api.reasons import Reason
from datacube_flows.core.urls import check_url
from datacube_flows.core.values import with_scheme
from datacube_flows.errors import TransferError
from datacube_flows.transfers.environment import proxy_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datacube_flows.transfers.base import Attempt

SCHEME = "s3://"
AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn")
STYLES = ("path", "virtual", "auto")


@dataclass(frozen=True, slots=True)
class S3Uri:
    """`s3://bucket/key`; the key keeps a trailing `/`, which says that a prefix is meant."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    @property
    def is_folder(self) -> bool:
        """Whether only a prefix can be meant."""
        return not self.key or self.key.endswith("/")

    @property
    def prefix(self) -> str:
        """What the keys of everything below begin with: ends in `/`, or is empty for the whole bucket."""
        return self.key if self.is_folder else self.key + "/"

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition("/")[2]


def parse_s3_uri(text: str) -> S3Uri:
    """Returns the bucket and key that `s3-uri` names; the key is taken as it is, never decoded.

    Raises:
        TransferError: InvalidSpec when it is no `s3://bucket[/key]`.
    """
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not text.startswith(SCHEME) or not bucket or bucket.startswith("-") or any(c in bucket for c in " @:?#%\\"):
        raise TransferError(Reason.INVALID_SPEC, "option 's3-uri' is not of the form s3://bucket/path")
    return S3Uri(bucket, key)


@dataclass(frozen=True, slots=True)
class S3Target:
    """A store and how to reach it.

    Attributes:
        endpoint: URL without a trailing `/`; of AWS in the region where the document names none.
        virtual: whether the bucket is part of the host name.
        access_key, secret_key, session_token: empty without keys.
        proxy: URL of the proxy for this endpoint, empty for none.
        role: variables of a service account's own identity (IRSA), empty when there is none.
    """

    uri: S3Uri
    endpoint: str
    region: str
    virtual: bool
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    proxy: str = field(default="", repr=False)
    role: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """Reads the attempt's options.

        Raises:
            TransferError: InvalidSpec when one of them cannot be used.
        """
        uri = parse_s3_uri(attempt.option("s3-uri"))
        region = _region(attempt)
        endpoint = _endpoint(attempt, region)
        access, secret = attempt.option("s3-access-key-id"), attempt.option("s3-secret-access-key")
        if bool(access) != bool(secret):
            raise TransferError(
                Reason.INVALID_SPEC, "options 's3-access-key-id' and 's3-secret-access-key' go together: give both"
            )
        return cls(
            uri=uri,
            endpoint=endpoint,
            region=region,
            virtual=_is_virtual(attempt.option("s3-addressing-style"), endpoint, uri.bucket),
            access_key=access,
            secret_key=secret,
            session_token=attempt.option("s3-session-token"),
            proxy=proxy_for(endpoint, attempt.env),
            role={} if access else _role(attempt.env),
        )

    @property
    def is_plain(self) -> bool:
        """Whether the endpoint is spoken to without TLS."""
        return self.endpoint.startswith("http://")

    @property
    def is_aws(self) -> bool:
        """Whether the endpoint is Amazon's own."""
        return is_aws(self.endpoint)

    @property
    def has_token(self) -> bool:
        """Whether requests carry a session token, which a redirect to another host must not get."""
        return bool(self.session_token or self.role)

    @property
    def host_style_endpoint(self) -> str:
        """The endpoint with the bucket in its host name, where that is the style."""
        if not self.virtual:
            return self.endpoint
        scheme, _, rest = self.endpoint.partition("://")
        return f"{scheme}://{self.uri.bucket}.{rest}"


def is_aws(endpoint: str) -> bool:
    """Whether the endpoint is Amazon's own."""
    return (urlsplit(endpoint).hostname or "").endswith(AWS_DOMAINS)


def proxy_for(endpoint: str, env: Mapping[str, str]) -> str:
    """Returns the proxy through which the endpoint is reached, "" for none; `host:port` is understood as HTTP."""
    named = {name.lower().removesuffix("_proxy"): value for name, value in proxy_variables(env).items()}
    parts = urlsplit(endpoint)
    if proxy_bypass_environment(parts.netloc, named):
        return ""
    return named.get(parts.scheme) or named.get("all", "")


def _region(attempt: Attempt) -> str:
    ambient = attempt.env.get("AWS_REGION") or attempt.env.get("AWS_DEFAULT_REGION")
    return attempt.options.get("s3-region") or ambient or attempt.option("s3-region")


def _endpoint(attempt: Attempt, region: str) -> str:
    given = attempt.option("s3-endpoint").rstrip("/")
    if not given:
        return f"https://s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    endpoint = with_scheme("s3-endpoint", given)
    if problem := check_url(endpoint, attempt.settings.allowed_schemes):
        raise TransferError(Reason.INVALID_SPEC, f"option 's3-endpoint': {problem}")
    parts = urlsplit(endpoint)
    if parts.query or parts.fragment or parts.username is not None:
        raise TransferError(
            Reason.INVALID_SPEC, "option 's3-endpoint': it is the address of the service alone, https://host[:port]"
        )
    return endpoint


def _is_virtual(style: str, endpoint: str, bucket: str) -> bool:
    """`auto`: the bucket in the path, but at AWS in the host name, unless its dots would break TLS."""
    if style not in STYLES:
        raise TransferError(Reason.INVALID_SPEC, "option 's3-addressing-style' is none of path, virtual, auto")
    return style == "virtual" or (style == "auto" and is_aws(endpoint) and "." not in bucket)


def _role(env: Mapping[str, str]) -> dict[str, str]:
    names = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
    if not all(env.get(name) for name in names):
        return {}
    return {name: env[name] for name in (*names, "AWS_ROLE_SESSION_NAME", "AWS_ENDPOINT_URL_STS") if env.get(name)}
