"""Prefect's pages of a run, in a real browser: what people look for is there, and no secret.

With DATACUBE_RECORD=1 the pictures of the README are taken anew.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Final

import pytest

from datacube_flows.api.reasons import Reason
from tests.canary import has_canary
from tests.controller.api_proxy import Fault
from tests.controller.played_kubelet import fail, hang
from tests.controller.prefect_pages import artifacts_of, ask, run_in, server_of
from tests.controller.scenarios_documents import download
from tests.support import ROOT, needs
from tests.ui.browser import open_browser

if TYPE_CHECKING:
    from pathlib import Path

    from tests.controller.prefect_pages import Run
    from tests.controller.scenarios_bench import Stage
    from tests.ui.browser import Browser

pytestmark = [pytest.mark.t2, pytest.mark.anyio]

WITH_PREFECT = True
OPERATOR_FLAGS = ("--allow-http",)

PICTURE: Final = ROOT / "examples" / "prefect" / "run.png"
MOST_BYTES: Final = 150_000
COUNTERS: Final = {"percent": 60, "bytesDone": 600, "bytesTotal": 1000, "filesDone": 1, "filesTotal": 3}
LINES: Final = ({"notice": "2 files are unchanged"}, {"log": "rclone: copied set/a"}, {"progress": COUNTERS})
IS_RECORDED: Final = bool(os.environ.get("DATACUBE_RECORD"))
"""Read at once: no test sees variables of whoever runs it."""

FLAKY: Final = fail(Reason.SERVER_ERROR, "the server answers 503 again and again")


def log_of(stage: Stage) -> Fault:
    """What the kubelet would answer."""
    text = "".join(json.dumps(line) + "\n" for line in LINES)
    return Fault(f"^GET /api/v1/namespaces/{stage.namespace}/pods/.*/log", status=200, text=text, times=99)


async def progress_of(stage: Stage, run: Run) -> float:
    """Returns how far the progress artifact is, as soon as there is one."""
    async with asyncio.timeout(60):
        while True:
            for key, data in await artifacts_of(stage, run):
                if key.endswith("-progress"):
                    return float(data)
            await asyncio.sleep(0.5)


async def test_pages_show_a_run_with_its_attempts_progress_result_and_log(stage: Stage, tmp_path: Path) -> None:
    needs("chromium-headless-shell")
    stage.world.proxy.faults.append(log_of(stage))
    await stage.claim()
    script = hang()
    await stage.create(download("train-data", backoffLimit=2), FLAKY, script)
    await stage.until("train-data", lambda seen: len(seen.attempts) == 2 and seen.phase == "Running", 40)
    run = await run_in(stage, "RUNNING", "train-data")
    assert await progress_of(stage, run) == 60
    script.release()
    await stage.ends("train-data")
    await run_in(stage, "COMPLETED", "train-data")
    await logged(stage, run)
    picture = await asyncio.to_thread(look, stage, run, tmp_path)
    assert picture.stat().st_size < MOST_BYTES
    if IS_RECORDED:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_bytes(picture.read_bytes())


async def logged(stage: Stage, run: Run) -> None:
    """Returns once the server has what the attempts said; logs come in bundles."""
    wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
    async with asyncio.timeout(30):
        while not any(
            "rclone: copied" in entry["message"] for entry in await ask(stage, "POST", "/logs/filter", wanted)
        ):
            await asyncio.sleep(0.5)


def look(stage: Stage, run: Run, folder: Path) -> Path:
    """Looks at the run's page and its tabs as a person does; returns a picture of the first."""
    title = f"{stage.namespace}/train-data"
    with open_browser(server_of(stage)) as browser:
        shown = browser.show(f"/runs/flow-run/{run['id']}", title, "Completed", "store:s3", "direction:download")
        picture = browser.take_picture(folder / "run.png")
        shown += browser.wait_for("2 files are unchanged", "rclone: copied set/a", "the server answers 503")
        shown += browser.show(f"/v2/runs/flow-run/{run['id']}", title, "Completed")
        shown += look_at_tabs(browser)
    assert not has_canary(shown)
    return picture


def look_at_tabs(browser: Browser) -> str:
    """The tabs of the newer page, one after the other."""
    shown = browser.press("Task Runs", "attempt 1", "attempt 2", "provision", "report")
    shown += browser.press("Artifacts", "attempts", "result", "progress")
    return shown + browser.press("Parameters", "s3://bucket/set", "pvc:data/set")
