"""What an operator is started with: flags, variables, defaults, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from datacube_operator.settings import Settings, find_own_namespace, make_identity, read_settings

from datacube_flows import __version__
from datacube_flows.core.plan import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.t0


def read(*argv: str, own_namespace: str = "", **environ: str) -> Settings:
    return read_settings(argv, environ, identity="me", own_namespace=own_namespace)


def test_settings_without_flags_are_those_of_a_pod_that_looks_at_all_namespaces() -> None:
    assert read() == Settings(identity="me")
    assert read(own_namespace="here").lease_namespace == "here"
    assert read("--lease-namespace=there", own_namespace="here").lease_namespace == "there"


@pytest.mark.parametrize(
    ("flag", "value", "field", "wanted"),
    [
        ("kubeconfig", "/a/b", "kubeconfig", Path("/a/b")),
        ("namespace", "team-a", "namespace", "team-a"),
        ("lease-namespace", "team-a", "lease_namespace", "team-a"),
        ("lease-name", "one.two", "lease_name", "one.two"),
        ("identity", "host 1", "identity", "host 1"),
        ("transfer-image", "host:5000/a/b:1@sha256:0", "transfer_image", "host:5000/a/b:1@sha256:0"),
        ("image-pull-policy", "Never", "image_pull_policy", "Never"),
        ("allow-http", "true", "allow_http", True),
        ("ca-config-map", "authorities", "ca_config_map", "authorities"),
        ("engine", "argo", "engine", "argo"),
        ("argo-url", "https://argo.example.org/ui/", "argo_url", "https://argo.example.org/ui"),
        ("listen", "[::1]:0", "host", "::1"),
        ("listen", ":9090", "host", Settings.host),
        ("listen", "127.0.0.1:9090", "port", 9090),
        ("no-accounts", "yes", "has_accounts", False),
        ("no-progress", "TRUE", "has_progress", False),
        ("keep-seconds", "3600", "keep_seconds", 3600),
        ("workers", "8", "workers", 8),
        ("env-policy", "allowlist", "env_policy", "allowlist"),
    ],
)
def test_flag_and_its_variable_say_the_same(flag: str, value: str, field: str, wanted: object) -> None:
    variable = {f"DATACUBE_{flag.upper().replace('-', '_')}": value}
    assert getattr(read(f"--{flag}", value), field) == wanted
    assert getattr(read(**variable), field) == wanted


def test_flag_counts_more_than_its_variable_and_an_empty_variable_is_none() -> None:
    assert read("--workers=2", DATACUBE_WORKERS="8").workers == 2
    assert read("--allow-http=false", DATACUBE_ALLOW_HTTP="true").allow_http is False
    assert read(DATACUBE_WORKERS="").workers == 4


def test_switch_without_a_value_is_on() -> None:
    found = read("--allow-http", "--no-accounts", "--no-progress")
    assert (found.allow_http, found.has_accounts, found.has_progress) == (True, False, False)


def test_settings_give_what_manifests_and_plans_are_made_with() -> None:
    found = read("--allow-http", "--ca-config-map=ca", "--keep-seconds=60", "--env-policy=allowlist")
    assert found.policy == Policy(env_policy="allowlist", allowed_schemes=("https", "http"))
    assert (found.installation.allow_http, found.installation.ca_config_map) == (True, "ca")
    assert found.installation.image == f"datacube/transfer:{__version__}"
    assert found.argo.ttl_seconds == 60


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (["--workers=0"], {}, "argument --workers: expected a whole number from 1 to 64, not '0'"),
        ([], {"DATACUBE_WORKERS": "many"}, "variable DATACUBE_WORKERS: expected a whole number"),
        (["--keep-seconds=5"], {}, "from 60 to"),
        (["--engine=other"], {}, "expected argo or prefect, not 'other'"),
        (["--engine=prefect"], {}, "expected --prefect-url"),
        (["--env-policy=none"], {}, "expected deny or allowlist"),
        (["--image-pull-policy=never"], {}, "expected Always or IfNotPresent or Never"),
        (["--namespace=A_b"], {}, "the name of a namespace"),
        (["--namespace=a\n"], {}, "the name of a namespace"),
        (["--lease-name=-x"], {}, "a name of lower-case letters"),
        (["--transfer-image=a b"], {}, "expected an image"),
        (["--listen=8080"], {}, "0.0.0.0:8080"),
        (["--listen=a:99999"], {}, "0.0.0.0:8080"),
        (["--allow-http=perhaps"], {}, "true or false"),
        (["--argo-url=ftp://x"], {}, "expected an address"),
        (["--identity="], {}, "at most 128"),
        (["--kubeconfig="], {}, "expected a file"),
        (["--worker=3"], {}, "unrecognized arguments"),
        (["leftover"], {}, "unrecognized arguments: leftover"),
    ],
)
def test_settings_name_what_is_wrong(
    argv: Sequence[str], environ: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read(*argv, **environ)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_url_with_a_password_is_refused_and_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--argo-url=https://user:word@argo.example.org")
    assert "word" not in capsys.readouterr().err


def test_version_and_help_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--version", "--help"):
        with pytest.raises(SystemExit) as caught:
            read(flag)
        assert caught.value.code == 0
    told = capsys.readouterr().out
    assert __version__ in told
    assert "--lease-namespace NS" in told
    assert "(default: 0.0.0.0:8080)" in told


def test_own_namespace_is_what_the_service_account_says(tmp_path: Path) -> None:
    assert find_own_namespace(tmp_path / "none") == ""
    (tmp_path / "namespace").write_text("here\n")
    assert find_own_namespace(tmp_path / "namespace") == "here"


def test_identities_differ_on_one_host_and_fit_an_event() -> None:
    assert make_identity() != make_identity()
    assert read(f"--identity={make_identity()}").identity
