"""JSON lines of drivers and workers: the unit in hand is in each, and tracebacks are."""

import json
import logging
import threading
import warnings
from collections.abc import Iterator

import pytest

from pipeline.messages import about_unit, unit_in_hand
from pipeline.monitoring.log_lines import LOGGERS, as_json, log_as_worker


@pytest.fixture
def _loggers() -> Iterator[None]:
    """Loggers as they were, afterwards."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, [*logger.handlers], logger.level, logger.propagate) for logger in loggers]
    logging.captureWarnings(False)  # a test before may have asked for it under warning filters of its own
    yield
    logging.captureWarnings(False)
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def line(message: str = "m") -> dict[str, object]:
    found: dict[str, object] = json.loads(as_json(logging.makeLogRecord({"msg": message, "levelname": "INFO"})))
    return found


def elsewhere() -> str:
    """The unit that another thread sees."""
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(unit_in_hand()))
    thread.start()
    thread.join()
    return seen[0]


def test_a_line_names_the_unit_in_hand_whichever_thread_writes_it() -> None:
    assert "unit" not in line() and elsewhere() == ""
    with about_unit("a-1"):
        assert line()["unit"] == "a-1" and elsewhere() == "a-1"
        with about_unit("b-1"):
            assert line()["unit"] == "b-1" and elsewhere() == "", "two are made: nobody knows whose line it is"
        assert line()["unit"] == "a-1"
    assert "unit" not in line()


@pytest.mark.usefixtures("_loggers")
def test_a_worker_writes_json_lines_with_unit_branch_and_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    log_as_worker("styled")
    with about_unit("styled-1"), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("an odd file", UserWarning, stacklevel=1)
        try:
            raise ValueError("no pixels")
        except ValueError:
            logging.getLogger("pipeline.somewhere").exception("it failed")
    logging.getLogger("pipeline.somewhere").debug("not shown")
    warned, failed = (json.loads(text) for text in capsys.readouterr().err.splitlines())
    assert (warned["unit"], warned["branch"], warned["level"]) == ("styled-1", "styled", "warning")
    assert "UserWarning: an odd file" in warned["message"]
    assert (failed["unit"], failed["level"], failed["message"]) == ("styled-1", "error", "it failed")
    assert failed["traceback"].endswith("ValueError: no pixels")
    assert {"time", "event", "node", "pid"} <= set(failed)
