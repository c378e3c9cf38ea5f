"""The accounts of a namespace are made once, and again where they may be gone."""

from __future__ import annotations

import asyncio

import pytest
from datacube_operator.accounts import AGAIN_SECONDS, Accounts
from datacube_operator.errors import Forbidden
from datacube_operator.resource import ROLE_BINDINGS, SERVICE_ACCOUNTS

from datacube_flows.engines.argo_accounts import DEFAULTS
from tests.controller.fake_api import FakeApi
from tests.controller.fake_clock import FakeClock

pytestmark = [pytest.mark.t0, pytest.mark.anyio]

MADE = 4
"""Two accounts, and a binding for each."""


def accounts(api: FakeApi, *, is_on: bool = True) -> Accounts:
    return Accounts(api.client, api.clock, DEFAULTS, is_on=is_on)


@pytest.fixture
def api(clock: FakeClock) -> FakeApi:
    return FakeApi(clock)


async def test_accounts_are_made_with_their_bindings(api: FakeApi) -> None:
    await accounts(api).ensure("n")
    names = {obj["metadata"]["name"] for obj in api.all(SERVICE_ACCOUNTS)}
    bound = {obj["subjects"][0]["name"] for obj in api.all(ROLE_BINDINGS)}
    assert names == bound == {"datacube-runner", "datacube-provisioner"}
    assert len(api.calls) == MADE


async def test_accounts_are_made_once_for_all_who_ask_at_once(api: FakeApi) -> None:
    made = accounts(api)
    await asyncio.gather(*(made.ensure("n") for _ in range(5)), made.ensure("m"))
    assert len(api.calls) == 2 * MADE


async def test_accounts_that_are_there_are_left_as_they_are(api: FakeApi) -> None:
    await accounts(api).ensure("n")
    before = dict(api.objects)
    await accounts(api).ensure("n")
    assert api.objects == before


async def test_accounts_are_looked_after_again_after_a_while(api: FakeApi) -> None:
    made = accounts(api)
    await made.ensure("n")
    api.objects.clear()
    api.clock.move(AGAIN_SECONDS - 1)
    await made.ensure("n")
    assert api.objects == {}
    api.clock.move(1)
    await made.ensure("n")
    assert len(api.objects) == MADE


async def test_refusal_is_not_taken_for_done(api: FakeApi) -> None:
    made = accounts(api)
    api.fail("create rolebindings", Forbidden("create", 403, "Forbidden"))
    with pytest.raises(Forbidden):
        await made.ensure("n")
    await made.ensure("n")
    assert len(api.objects) == MADE


async def test_namespace_that_is_made_anew_gets_its_accounts(api: FakeApi) -> None:
    made = accounts(api)
    await made.ensure("n")
    api.objects.clear()
    made.forget("n")
    made.forget("never seen")
    await made.ensure("n")
    assert len(api.objects) == MADE


async def test_accounts_are_not_made_where_others_make_them(api: FakeApi) -> None:
    await accounts(api, is_on=False).ensure("n")
    assert api.calls == []
