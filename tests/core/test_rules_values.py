"""What an attempt checks when its options are resolved: the same table as the rules, and the URLs."""

from __future__ import annotations

import pytest

from datacube_flows.core.urls import check_url, repository_name
from datacube_flows.core.values import OPTIONS, VALUE_RULES, check_characters

pytestmark = pytest.mark.t0

REFUSED_URLS = {
    "": "no scheme",
    "github.com/o/r": "no scheme",
    "/etc/passwd": "no scheme",
    "./repo": "no scheme",
    "--upload-pack=touch x": "blank",
    "--upload-pack=touch": "begins with '-'",
    "-oProxyCommand=x": "begins with '-'",
    "git@github.com:o/r.git": "SSH",
    "github.com:o/r.git": "SSH",
    "ssh://git@github.com/o/r": "SSH",
    "git+ssh://h/r": "scheme",
    "git://h/r": "scheme",
    "file:///etc": "scheme",
    "file://localhost/etc": "scheme",
    "ext::sh -c x": "blank",
    "ext::sh%20-c%20x": "scheme",
    "fd::17": "scheme",
    "https::x": "scheme",
    "ftp://h/r": "scheme",
    "HTTPS://h/r": "scheme",
    "hTtP://h/r": "scheme",
    "http://h/r": "plain HTTP",
    "javascript://x": "scheme",
    "https://": "no host",
    "https:///o/r": "no host",
    "https://@/o/r": "no host",
    "https://-oProxyCommand=x/r": "no host",
    "https://h:99999/r": "port",
    "https://h:x/r": "port",
    "https://[::1/r": "host",
    "https://h/r\n": "control",
    "https://h\r/r": "control",
    "https://h/\x00": "control",
    "https://h/a b": "blank",
    "https://h\\@evil/r": "backslash",
    "https://h/\x85": "control",
}


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_url_is_refused(url: str) -> None:
    assert REFUSED_URLS[url] in (check_url(url) or "accepted")


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/o/r.git",
        "https://x-access-token:abc@github.com/o/r",
        "https://h:8443/r",
        "https://[::1]:8443/r",
        "https://h/o/r%20s/",
    ],
)
def test_url_is_accepted(url: str) -> None:
    assert check_url(url) is None


def test_url_may_have_any_scheme_that_is_allowed() -> None:
    assert check_url("http://h/r", ("https", "http")) is None
    assert "https:// or http://" in (check_url("ftp://h/r", ("https", "http")) or "")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/owner/repo.git", "repo"),
        ("https://github.com/owner/repo", "repo"),
        ("https://github.com/owner/repo.git/", "repo"),
        ("https://token@github.com/owner/re.po", "re.po"),
        ("git@host:o/r.git", "r"),
        ("host:r.git", "r"),
        ("https://github.com/", ""),
        ("https://github.com", ""),
        ("https://h/o/.git", ""),
        ("https://h/o/..", ""),
        ("https://h/.datacube.git", ""),
    ],
)
def test_repository_name_is_the_last_part(url: str, name: str) -> None:
    assert repository_name(url) == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token", "abc\n"),
        ("url", "https://h/\r"),
        ("ref", "a\x00"),
        ("commit-message", "a\r"),
        ("s3-uri", "s3://b\x85"),
    ],
)
def test_resolved_value_with_a_control_character_is_refused(name: str, value: str) -> None:
    assert "control character" in (check_characters(name, value) or "accepted")


@pytest.mark.parametrize(
    ("name", "value"),
    [("token", "-abc"), ("ref", ""), ("s3-uri", "s3://bucket/a b/ü"), ("commit-message", "- one\n\t- two")],
)
def test_resolved_value_of_other_characters_is_accepted(name: str, value: str) -> None:
    assert check_characters(name, value) is None


def test_value_rules_speak_of_options_that_exist() -> None:
    assert {name for rule in VALUE_RULES for name in rule.names} == set(OPTIONS)
