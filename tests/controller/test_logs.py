"""Log entries: one line each, names and reasons only."""

from __future__ import annotations

import io
import json

import pytest
from datacube_operator.logs import Log, frames

from tests.canary import CANARY

pytestmark = pytest.mark.t0


def fail_twice() -> None:
    try:
        int(CANARY)
    except ValueError as error:
        raise KeyError(CANARY) from error


def test_log_writes_one_line_whatever_a_field_holds() -> None:
    stream = io.StringIO()
    Log(stream).info("started", reason="two\nlines", number=3, other=ValueError)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["message"], entry["reason"], entry["number"]) == ("info", "started", "two\nlines", 3)


def test_frames_tell_the_way_of_an_error_and_of_its_cause_without_their_texts() -> None:
    with pytest.raises(KeyError) as caught:
        fail_twice()
    told = frames(caught.value)
    assert [frame.split()[-1] for frame in told] == ["fail_twice", "KeyError", *[f.split()[-1] for f in told[2:]]]
    assert told[-1].endswith("fail_twice")
    assert CANARY not in "".join(told)
