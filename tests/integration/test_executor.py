"""The executor's writes, when the database is away for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from tasks.lifecycle import Phase, Verdict
from tasks.models import Lease, Task
from tasks.outcome import Outcome
from tasks.workflow import executor
from tests.database import locked_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lease(submit: Callable[..., Task]) -> Lease:
    submit()
    claimed = Task.objects.claim("host:1:1", timezone.now())
    assert claimed is not None
    return claimed


def test_an_outcome_waits_for_the_database(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: Any) -> Outcome:
        outage.__enter__()
        return Outcome(Verdict.REJECTED, "The base is broken.")

    outage = locked_for(1.5)
    monkeypatch.setattr(executor, "perform", work)
    try:
        executor.run(lease, lambda: False)
    finally:
        outage.__exit__(None, None, None)
    task = Task.objects.get(pk=lease.task_pk)
    assert (task.status, task.stopped_in) == ("failed", Phase.WORKSPACE_PREPARATION)
    assert [run.verdict for run in task.phase_runs.all()] == ["rejected"]
    assert task.crashes == 0


def test_a_stop_ends_the_waiting(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "OUTAGE_PAUSE_S", 0.01)
    asked: list[int] = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    def away(*_: Any, **__: Any) -> None:
        raise executor.OperationalError("away")

    monkeypatch.setattr(Task.objects, "open_run", away)
    with pytest.raises(executor.OperationalError):
        executor.run(lease, should_stop)
    assert len(asked) == 4


def test_an_outcome_that_cannot_be_written_is_an_error(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        executor, "perform", lambda *_: Outcome(Verdict.PASSED, "x", facts={"a": 1j})
    )
    executor.run(lease, lambda: False)
    task = Task.objects.get(pk=lease.task_pk)
    assert (task.status, task.attempts) == ("queued", 1)
    assert "cannot be recorded" in task.reason
