"""Log lines for programs."""

from __future__ import annotations

import json
import logging

from chimera_site.logs import JsonFormatter


def test_an_event_is_one_line_whatever_its_text_holds() -> None:
    text = 'a\nb "c" \u2028 \x1b[31m'
    record = logging.LogRecord("tasks", logging.INFO, "x.py", 1, "task: %s", (text,), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line)["message"] == f"task: {text}"


def test_an_exception_keeps_its_trace_in_the_same_line() -> None:
    try:
        raise ValueError("no\nluck")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("tasks", logging.ERROR, "x.py", 1, "broke", (), info)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: no\nluck" in json.loads(line)["exception"]
