"""Tier T3: the search for credentials, which each run of these tests ends with, finds one wherever it is to be seen."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from tests.canary import CANARY

if TYPE_CHECKING:
    from tests.cluster.pods.bench import Bench

pytestmark = pytest.mark.t3


def test_search_finds_a_credential_in_an_object_a_log_and_a_volume_and_not_in_secrets(bench: Bench) -> None:
    encoded = b64encode(CANARY.encode()).decode()
    bench.make_volume("planted")
    assert bench.leaks("planted") == []
    bench.on_volume("plant", f"echo {encoded} > /data/file; base64 -d /data/file", "planted")
    found = " ".join(bench.leaks("planted"))
    assert all(where in found for where in ("pods: ", "log of plant, main: ", "volume of planted: file")), found
    bench.on_volume("clear-planted", "rm /data/file", "planted")
    bench.cluster.kubectl("delete", "pod", "plant", bench.here)
    bench.seen[:] = [text for text in bench.seen if encoded not in text and CANARY not in text]
    assert bench.leaks("planted") == []


def test_credentials_stand_in_the_secrets_that_attempts_read(bench: Bench) -> None:
    secrets = json.dumps(bench.cluster.get("secrets", bench.here))
    assert b64encode(bench.stage.hub.token.encode()).decode() in secrets
