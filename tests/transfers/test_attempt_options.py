"""What an attempt takes as options, and what it refuses before a transfer starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from datacube_flows.api.reasons import Reason
from datacube_flows.api.report import TransferReport
from datacube_flows.transfers.run import deliver, make_attempt, parse_arguments
from tests.canary import CANARY
from tests.support import run_here

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.t0


def test_attempt_takes_no_variable_of_the_user_for_an_option(tmp_path: Path) -> None:
    arguments = parse_arguments(
        ["git-download", "--folder", str(tmp_path), "--report", str(tmp_path / "r"), "--pass-env", "REF"]
    )
    attempt = make_attempt(arguments, {"URL": "https://h/o/r", "REF": "v1", "TOKEN": CANARY}, tmp_path)
    assert attempt.options == {"url": "https://h/o/r", "token": CANARY}
    assert attempt.env == {"REF": "v1"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"url": "https://127.0.0.1:1/o/r", "token": f"{CANARY}\n"},
            "option 'token': the value holds a control character",
        ),
        ({"url": "https://127.0.0.1:1/o/r", "ref": "a\x00b"}, "option 'ref': the value holds a control character"),
        ({"url": ""}, "option 'url' is empty"),
    ],
)
def test_attempt_refuses_a_resolved_option_before_it_starts(
    tmp_path: Path, options: dict[str, str], words: str
) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    report = run_here("git-download", folder, options, scratch=tmp_path / "scratch")
    assert report.reason is Reason.INVALID_SPEC
    assert words in report.message
    assert CANARY not in report.message
    assert not list(folder.iterdir())


def test_outputs_hold_nothing_that_a_workflow_engine_would_evaluate(tmp_path: Path) -> None:
    arguments = parse_arguments(
        ["s3-download", "--folder", "/d", f"--report={tmp_path / 'report'}", f"--outputs={tmp_path / 'outputs'}"]
    )
    deliver(TransferReport(Reason.TRANSFER_COMPLETE, files=2, path="dev/{{=1+1}}"), arguments)
    assert (tmp_path / "outputs/path").read_text() == "dev/{ {=1+1}}"
    assert (tmp_path / "outputs/files").read_text() == "2"
