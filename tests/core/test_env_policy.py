"""Which variables a document may set, under both policies, whatever the case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datacube_flows.core.env_policy import PROXIES, EnvPolicy, forbidden_env

pytestmark = pytest.mark.t0

POLICIES: list[EnvPolicy] = ["deny", "allowlist"]

FORBIDDEN = [
    ("LD_PRELOAD", "code runs"),
    ("LD_LIBRARY_PATH", "code runs"),
    ("PATH", "code runs"),
    ("PYTHONPATH", "code runs"),
    ("PYTHONSTARTUP", "code runs"),
    ("BASH_ENV", "code runs"),
    ("BASH_FUNC_ls", "code runs"),
    ("ENV", "code runs"),
    ("IFS", "code runs"),
    ("SHELL", "code runs"),
    ("NODE_OPTIONS", "code runs"),
    ("PERL5LIB", "code runs"),
    ("GLIBC_TUNABLES", "code runs"),
    ("_HF_COMPLETE", "code runs"),
    ("PAGER", "code runs"),
    ("GIT_SSH_COMMAND", "git would run"),
    ("GIT_CONFIG_COUNT", "git would run"),
    ("GIT_ALLOW_PROTOCOL", "git would run"),
    ("GIT_TRACE_CURL", "git would run"),
    ("SSH_ASKPASS", "git would run"),
    ("XDG_CONFIG_HOME", "own folders"),
    ("HOME", "own folders"),
    ("TMPDIR", "own folders"),
    ("SSL_CERT_FILE", "caBundle"),
    ("SSL_CERT_DIR", "caBundle"),
    ("CURL_CA_BUNDLE", "caBundle"),
    ("REQUESTS_CA_BUNDLE", "caBundle"),
    ("SSLKEYLOGFILE", "show or keep"),
    ("HOSTALIASES", "proxy variables"),
    ("NETRC", "files outside"),
    ("KUBECONFIG", "files outside"),
    ("FSSPEC_CONFIG_DIR", "files outside"),
    ("BOTO_CONFIG", "files outside"),
    ("KUBERNETES_SERVICE_HOST", "set by the platform"),
    ("ARGO_TEMPLATE", "set by the platform"),
    ("DATACUBE_ANYTHING", "set by the platform"),
    ("PREFECT_API_URL", "set by the platform"),
    ("LC_ALL", "in English"),
    ("LANGUAGE", "in English"),
    ("RCLONE_PASSWORD_COMMAND", "RCLONE_TRANSFERS"),
    ("RCLONE_METADATA_MAPPER", "RCLONE_TRANSFERS"),
    ("RCLONE_NAME_TRANSFORM", "RCLONE_TRANSFERS"),
    ("RCLONE_CONFIG", "RCLONE_TRANSFERS"),
    ("RCLONE_CONFIG_X_TYPE", "RCLONE_TRANSFERS"),
    ("RCLONE_RC", "RCLONE_TRANSFERS"),
    ("RCLONE_DUMP", "RCLONE_TRANSFERS"),
    ("RCLONE_S3_ENV_AUTH", "RCLONE_TRANSFERS"),
    ("RCLONE_S3_ENDPOINT", "RCLONE_TRANSFERS"),
    ("RCLONE_DELETE_EXCLUDED", "RCLONE_TRANSFERS"),
    ("HF_HOME", "hub's client"),
    ("HF_HUB_CACHE", "hub's client"),
    ("HF_TOKEN_PATH", "hub's client"),
    ("HF_HUB_OFFLINE", "hub's client"),
    ("HF_DEBUG", "hub's client"),
    ("HF_XET_LOG_DEST", "hub's client"),
    ("HUGGINGFACE_HUB_CACHE", "hub's client"),
    ("AWS_CONFIG_FILE", "identity"),
    ("AWS_SHARED_CREDENTIALS_FILE", "identity"),
    ("AWS_PROFILE", "identity"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "identity"),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "identity"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "identity"),
    ("AWS_EC2_METADATA_DISABLED", "identity"),
    ("AWS_ENDPOINT_URL_S3", "identity"),
    ("AWS_CA_BUNDLE", "identity"),
    ("A=B", "Kubernetes"),
    ("", "Kubernetes"),
    ("A B", "Kubernetes"),
    ("LD_PRELOAD\n", "Kubernetes"),
    ("1A", "Kubernetes"),
]
SAFE = [
    "HF_ENDPOINT",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "HF_HUB_ENABLE_HF_TRANSFER",
    "RCLONE_TRANSFERS",
    "RCLONE_BWLIMIT",
    "RCLONE_S3_CHUNK_SIZE",
    "RCLONE_NO_TRAVERSE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "TZ",
    "LANG",
]
ONLY_UNDER_DENY = [
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "MY_VARIABLE",
    "my.variable",
    "TERM",
    "GITLAB",
]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("name", "words"), FORBIDDEN)
def test_variable_is_forbidden_with_the_reason(name: str, words: str, policy: EnvPolicy) -> None:
    assert words in (forbidden_env(name, policy) or "")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", [*SAFE, *sorted(PROXIES), *sorted(p.lower() for p in PROXIES)])
def test_variable_is_allowed(name: str, policy: EnvPolicy) -> None:
    assert forbidden_env(name, policy) is None


@pytest.mark.parametrize("name", ONLY_UNDER_DENY)
def test_variable_is_allowed_unless_the_installation_is_strict(name: str) -> None:
    assert forbidden_env(name, "deny") is None
    assert "allows only proxies" in (forbidden_env(name, "allowlist") or "")


def cased(name: str) -> st.SearchStrategy[str]:
    return st.lists(st.booleans(), min_size=len(name), max_size=len(name)).map(
        lambda ups: "".join(c.upper() if up else c.lower() for c, up in zip(name, ups, strict=True))
    )


@given(name=st.sampled_from([n for n, _ in FORBIDDEN]).flatmap(cased), policy=st.sampled_from(POLICIES))
def test_forbidden_variable_stays_forbidden_in_any_case(name: str, policy: EnvPolicy) -> None:
    assert forbidden_env(name, policy)


@given(name=st.sampled_from(sorted(PROXIES)).flatmap(cased), policy=st.sampled_from(POLICIES))
def test_proxy_stays_allowed_in_any_case(name: str, policy: EnvPolicy) -> None:
    assert forbidden_env(name, policy) is None


@given(name=st.text(max_size=12) | st.from_regex(r"[A-Z_]{1,12}", fullmatch=True))
def test_strict_policy_allows_nothing_that_the_other_forbids(name: str) -> None:
    if forbidden_env(name, "deny"):
        assert forbidden_env(name, "allowlist")
