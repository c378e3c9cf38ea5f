from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from datacube_operator.client import Client, connect
from datacube_operator.fence import Fence
from datacube_operator.metrics import Metrics
from datacube_operator.resource import LEASES

from tests.canary import CANARY
from tests.controller.api_proxy import write_kubeconfig
from tests.controller.server import CLOCK

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.t1, pytest.mark.anyio]

SERVER = "https://api.example.test:6443"
PROXY = "http://proxy.example.test:3128"


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, PROXY),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "localhost,.example.test"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "other.test"}, PROXY),
    ],
)
async def test_connection_goes_through_the_proxy_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with connect(write_kubeconfig(tmp_path / "kubeconfig", SERVER)) as api:
        assert api.rest_client.proxy == proxy


async def test_request_shows_no_password_of_a_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login ada password {CANARY}")
    monkeypatch.setenv("NETRC", str(netrc))
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connect(write_kubeconfig(tmp_path / "kubeconfig", url, "token")) as api:
            await Client(api, Fence.none(CLOCK), Metrics()).get(LEASES, "default", "one")
    assert b"authorization: bearer token" in heads[0].lower()
    assert b"basic" not in heads[0].lower()
