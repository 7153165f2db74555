"""The thread that tidies: it comes back after any failure, and ends when told."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

import pytest

from tasks.workflow import housekeeping
from tasks.workflow.housekeeping import Tidier
from tasks.workflow.retention import Freed


def run(monkeypatch: pytest.MonkeyPatch, answers: list[Freed | Exception]) -> list[datetime]:
    """Let a tidier make passes with these answers; return when it made them."""
    made: list[datetime] = []
    is_done = threading.Event()

    def tidy(now: datetime, tell: object, **options: Any) -> Freed:
        made.append(now)
        if len(made) == len(answers):
            is_done.set()
        answer = answers[len(made) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(housekeeping.pruning, "tidy", tidy)
    monkeypatch.setattr(housekeeping, "TIDY_AFTER_S", 0.01)
    tidier = Tidier()
    tidier.start()
    assert is_done.wait(timeout=10)
    tidier.stopping.set()
    tidier.join(timeout=10)
    assert not tidier.is_alive()
    return made


def test_a_pass_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "TIDY_EVERY_S", 0.01)
    assert len(run(monkeypatch, [RuntimeError("any"), Freed(0, 0, has_more=False)])) >= 2


def test_while_there_is_more_it_does_not_wait_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    more, enough = Freed(1, 1, has_more=True), Freed(0, 0, has_more=False)
    assert len(run(monkeypatch, [more, more, enough])) == 3
