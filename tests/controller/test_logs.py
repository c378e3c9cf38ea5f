"""Log entries: one line each, names and reasons only."""

from __future__ import annotations

import io
import json
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from datacube_operator.logs import Log, frames, log_libraries

from tests.canary import CANARY

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextmanager
def logged_libraries(stream: io.StringIO) -> Iterator[None]:
    """Has libraries log into a stream; afterwards logging is as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []  # they are pytest's own, and would be closed
    try:
        log_libraries(Log(stream))
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = before
        root.setLevel(level)


def test_warning_of_a_library_is_an_entry_without_its_text() -> None:
    stream = io.StringIO()
    with logged_libraries(stream):
        logging.getLogger("some.library").warning("token %s is stale", CANARY)
        logging.getLogger("some.library").info("not written")
        try:
            fail_twice()
        except KeyError:
            logging.getLogger("asyncio").exception("failed with %s", CANARY)
    warned, failed = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (warned["level"], warned["logger"]) == ("warning", "some.library")
    assert warned["place"].startswith("test_logs.py:")
    assert (failed["level"], failed["logger"], failed["error"]) == ("error", "asyncio", "KeyError")
    assert failed["trace"][-1].endswith("fail_twice")
    assert CANARY not in stream.getvalue()


def test_warning_of_python_is_an_entry_without_its_text() -> None:
    stream = io.StringIO()
    with logged_libraries(stream), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(CANARY, UserWarning, stacklevel=1)
    (entry,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert entry["logger"] == "py.warnings"
    assert CANARY not in stream.getvalue()


def test_record_that_cannot_be_written_is_not_printed_instead(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    stream.close()
    with logged_libraries(stream):
        logging.getLogger("some.library").warning("token %s is stale", CANARY)
    assert capsys.readouterr().err == ""
