"""The browser of the tests shows what a Prefect server knows: a run that is made by hand, and its artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.canary import has_canary
from tests.support import needs
from tests.ui.browser import Browser, open_browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.prefect import PrefectServer

pytestmark = pytest.mark.t1

RUN, TAGS = "team-a/fetch-model", ["datacube", "store:s3", "direction:download"]
TASK = "fetch-model-1-0"
MESSAGE = "Moved 1,234 files"
ANALYTICS = "GET sr-client-cfg.amplitude.com"
"""Prefect's newer pages ask how to count their use before they know that they are not to; nothing is sent."""

PNG = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 150_000
"""What a picture may weigh in the repository."""


@pytest.fixture(scope="module")
def browser(prefect_server: PrefectServer) -> Iterator[Browser]:
    needs("chromium-headless-shell")
    with open_browser(prefect_server) as opened:
        yield opened


def make_run(server: PrefectServer) -> str:
    """Makes a flow run that has ended, with a task, a parameter and a table; returns its id."""
    flow = server.ask("POST", "/flows/", {"name": "transfer"})
    begun = {"flow_id": flow["id"], "name": RUN, "tags": TAGS, "parameters": {"path": "models/whisper"}}
    run = server.ask("POST", "/flow_runs/", begun | {"state": {"type": "PENDING"}})
    task = {"flow_run_id": run["id"], "task_key": "attempt", "dynamic_key": "0", "name": TASK}
    made = server.ask("POST", "/task_runs/", task | {"state": {"type": "PENDING"}})
    for kind in ("RUNNING", "COMPLETED"):
        state = {"type": kind, "name": kind.title(), "message": MESSAGE}
        server.ask("POST", f"/task_runs/{made['id']}/set_state", {"state": state, "force": True})
        server.ask("POST", f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    table = {"key": "result", "type": "table", "flow_run_id": run["id"], "data": '[{"files": 1234}]'}
    server.ask("POST", "/artifacts/", table)
    return str(run["id"])


def test_browser_shows_a_run_with_its_tags_task_and_table_to_whoever_has_logged_in(
    prefect_server: PrefectServer, browser: Browser, tmp_path: Path
) -> None:
    run = make_run(prefect_server)
    shown = browser.show(f"/v2/runs/flow-run/{run}", RUN, "Completed", *TAGS)
    shown += browser.press("Parameters", "models/whisper")
    shown += browser.press("Task Runs", "1 Completed", TASK)
    assert not has_canary(shown)
    picture = browser.take_picture(tmp_path / "run.png").read_bytes()
    assert picture.startswith(PNG)
    assert len(picture) < MOST_BYTES
    browser.press("Artifacts", "TABLE", "result")
    assert browser.outside <= {ANALYTICS}


def test_browser_says_what_is_shown_where_a_text_is_not(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.show("/v2/dashboard", "Logout")
    monkeypatch.setattr("tests.ui.browser.WAIT_MILLISECONDS", 300)
    with pytest.raises(AssertionError, match="no such text") as caught:
        browser.wait_for("no such text")
    assert "Actual value: Dashboard" in str(caught.value)
