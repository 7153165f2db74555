"""Taking up a task that had ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from tasks.lifecycle import ROUTE, Phase
from tasks.models import Task, TaskStateError
from tasks.outcome import MADE_BY, Checkpoint, TestReport, forgotten_from

MADE = {
    "base_sha": "a" * 40,
    "baseline": TestReport(frozenset({"t"}), frozenset()).as_json(),
    "test_path": "tests/e2e/test_it.py",
    "test_sha": "b" * 40,
    "red_reason": "not there",
    "draft_sha": "c" * 40,
    "code_sha": "c" * 40,
    "review_decision": "approved",
    "deployment_url": "http://x.localhost:1",
    "validation_status": "failed",
}


@pytest.fixture
def failed(submit: Callable[..., Task]) -> Task:
    """Return a task that has failed in its last phase, with all that it had made."""
    task = submit()
    Task.objects.filter(pk=task.pk).update(
        status="failed",
        phase="FAILED",
        stopped_in="E2E_VALIDATION",
        rounds=3,
        attempts=2,
        completed_at=timezone.now(),
        findings=[{"rule": "e2e-failed", "message": "no", "file": "", "line": 0}],
        **MADE,
    )
    task.refresh_from_db()
    return task


def made(task: Task) -> dict[str, object]:
    return {name: getattr(task, name) for name in MADE}


def test_every_field_of_the_checkpoint_is_made_by_one_phase() -> None:
    names = [name for phase in ROUTE for name in MADE_BY[phase]]
    assert sorted(names) == sorted(Checkpoint.__dataclass_fields__)


def test_where_it_stopped_it_goes_on_with_all_that_it_has(failed: Task) -> None:
    failed.retry()
    assert (failed.status, failed.phase) == ("queued", "E2E_VALIDATION")
    assert (failed.rounds, failed.attempts, failed.completed_at) == (0, 0, None)
    assert made(failed) == MADE
    assert len(failed.findings) == 1


@pytest.mark.parametrize("phase", ROUTE)
def test_a_named_phase_starts_anew(failed: Task, phase: Phase) -> None:
    failed.retry(phase)
    forgotten = forgotten_from(phase)
    assert failed.phase == phase
    assert made(failed) == {**MADE, **forgotten}
    assert set(MADE_BY[phase]) <= set(forgotten)
    assert failed.findings == []  # they were about what is forgotten


def test_a_phase_that_was_never_reached_is_refused(failed: Task) -> None:
    Task.objects.filter(pk=failed.pk).update(stopped_in="RED_VERIFICATION")
    with pytest.raises(TaskStateError, match="never reached"):
        failed.retry(Phase.CODE_IMPLEMENTATION)


def test_a_task_that_is_open_is_refused(submit: Callable[..., Task]) -> None:
    with pytest.raises(TaskStateError, match="only failed or cancelled"):
        submit().retry()
