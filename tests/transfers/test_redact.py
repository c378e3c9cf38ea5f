"""No secret value passes, in whatever form a tool writes it, and nothing can dress up a terminal."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from datacube_flows.transfers.redact import MASK, MIN_SECRET, Redactor
from tests.canary import CANARY

pytestmark = pytest.mark.t0

SECRETS = st.text(min_size=6, max_size=40).filter(lambda s: len(s.strip()) > 5) | st.builds(
    "{}{}".format, st.just(CANARY), st.text("aZ09+/=@:%&<>\"'\\ é?#", max_size=12)
)
AROUND = st.text("ab :=,\n\"'{}", max_size=10)


def go_userinfo(text: str) -> str:
    return quote(text, safe="$&+,;=-_.~")


def go_json(text: str) -> str:
    found = json.dumps(text, ensure_ascii=False)[1:-1]
    return found.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


FORMS = {
    "raw": str,
    "url": lambda s: quote(s, safe=""),
    "url, slashes kept": quote,
    "url, as Go writes user and password": go_userinfo,
    "url, lower case": lambda s: quote(s, safe="").replace("%3A", "%3a").replace("%2F", "%2f").replace("%2B", "%2b"),
    "form": quote_plus,
    "url twice": lambda s: quote(quote(s, safe=""), safe=""),
    "form twice": lambda s: quote_plus(quote_plus(s)),
    "url thrice": lambda s: quote(quote(quote(s, safe=""), safe=""), safe=""),
    "json": lambda s: json.dumps(s)[1:-1],
    "json, characters kept": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "json, as Go writes it": go_json,
}
EXAMPLES = [
    f"{CANARY}",
    f"{CANARY}+/=@:%41",
    f"{CANARY} with blank",
    f'{CANARY}"quoted"\\back',
    f"{CANARY}<&>é\u4e2d",
    f"%25{CANARY}%",
    f"{CANARY}\x7fctl\x1b[31mred",
    f"{CANARY}\ttab",
]


@pytest.mark.parametrize("secret", EXAMPLES)
@pytest.mark.parametrize("form", FORMS)
def test_secret_is_masked_in_every_form(form: str, secret: str) -> None:
    text = Redactor([secret])(f"before {FORMS[form](secret)} after")
    assert text == f"before {MASK} after"


@given(secret=SECRETS, before=AROUND, after=AROUND, form=st.sampled_from(sorted(FORMS)))
def test_random_secret_never_passes(secret: str, before: str, after: str, form: str) -> None:
    assume(len(Redactor()(secret)) >= MIN_SECRET)  # without its control characters it would be too short to be one
    written = FORMS[form](secret)
    found = Redactor([secret])(before + written + after)
    assert MASK in found
    assert len(written) < 4 or written not in found.replace(MASK, "\0")


@pytest.mark.parametrize("secret", [CANARY, f"{CANARY}!", f"{CANARY}!!", f"{CANARY}~~~\xff"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", [b"", b"u", b"ux", b"user:", b"x-access-token:"])
@pytest.mark.parametrize("after", [b"", b"\n", b"@h"])
def test_secret_is_masked_inside_base64(secret: str, encode: object, before: bytes, after: bytes) -> None:
    text = encode(before + secret.encode() + after).decode()  # type: ignore[operator]
    found = Redactor([secret])(f"Authorization: Basic {text}")
    assert MASK in found
    assert len(found.removeprefix("Authorization: Basic ").replace(MASK, "")) <= len(before) * 4 // 3 + 8


def test_every_line_of_a_secret_is_masked() -> None:
    redact = Redactor([f"-----BEGIN-----\n{CANARY}1234\n-----END-----\n"])
    assert redact(f"got {CANARY}1234\n") == f"got {MASK}\n"


def test_longer_secret_is_masked_whole_when_another_is_its_beginning() -> None:
    assert Redactor([CANARY, f"{CANARY}tail"])(f"{CANARY}tail") == MASK


def test_short_value_is_no_secret() -> None:
    assert Redactor(["abc", ""])("abc") == "abc"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pass@host/x", f"https://{MASK}@host/x"),
        ("https://tok@host", f"https://{MASK}@host"),
        ("https://user:p@ss@host/x", f"https://{MASK}@host/x"),
        ("fatal: 'https://u:p@h/' and http://v:q@i/", f"fatal: 'https://{MASK}@h/' and http://{MASK}@i/"),
        ("mail me@example.com", "mail me@example.com"),
        ("https://host/a@b", "https://host/a@b"),
        ("\x1b[1;31mred\x1b[0m\x07\x00\r!", "red!"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("right\u202eleft\u2066\u200b", "rightleft"),
        ("name\udcff.bin", "name?.bin"),
    ],
)
def test_redactor_without_secrets_cleans_text(text: str, expected: str) -> None:
    assert Redactor()(text) == expected


@pytest.mark.parametrize("hidden", ["\x1b[31m", "\x00", "\u200b", "\x1b[0m\x1b[1m"])
def test_secret_with_invisible_characters_in_it_is_masked(hidden: str) -> None:
    assert Redactor([CANARY])(CANARY[:5] + hidden + CANARY[5:]) == MASK


@given(text=st.text())
def test_redacted_text_can_always_be_written(text: str) -> None:
    found = Redactor([CANARY])(text)
    assert found.encode().decode() == found
    assert "\x1b" not in found
    assert Redactor([CANARY])(found) == found


@pytest.mark.parametrize("text", ["%25" * 20_000, "\\" * 60_000, "%" * 60_000, "a%" * 30_000, "://" * 20_000])
def test_redactor_takes_no_time_over_odd_text(text: str) -> None:
    redact = Redactor([f"%25%25%25\\\\\\\\{CANARY}", "%" * 40 + "x", "\\" * 40 + "x", "a%a%a%a%b"])
    start = time.perf_counter()
    redact(text)
    assert time.perf_counter() - start < 2
