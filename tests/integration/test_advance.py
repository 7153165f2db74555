"""Settling one try and opening the next in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from tasks.lifecycle import ROUTE, Phase, Status, Verdict
from tasks.models import Breaker, Event, Lease, LeaseLostError, PhaseRun, Project, Task
from tasks.outcome import AgentStart, Finding, Outcome

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=timezone.get_default_timezone())
PASSED = Outcome(Verdict.PASSED)
pytestmark = pytest.mark.django_db


def opened(worker: str = "w", now: datetime = NOW) -> tuple[Lease, PhaseRun]:
    """Claim the only task and open a try."""
    lease = Task.objects.claim(worker, now)
    assert lease is not None
    run = Task.objects.open_run(lease, now)
    assert run is not None
    return lease, run


def columns(task: Task) -> dict[str, Any]:
    return {field.attname: getattr(task, field.attname) for field in Task._meta.concrete_fields}


def test_the_next_try_is_open_and_counted_when_the_last_one_is_settled(
    submit: Callable[..., Task],
) -> None:
    submit()
    lease, run = opened()
    advance = Task.objects.advance(lease, run, PASSED, NOW)
    assert advance.run is not None
    assert (advance.run.phase, advance.run.number, advance.run.attempt) == (ROUTE[1], 2, 1)
    assert (advance.run.fence, advance.run.worker) == (lease.fence, "w")
    assert [run.verdict for run in PhaseRun.objects.order_by("number")] == ["passed", ""]
    told = list(Event.objects.order_by("seq").values_list("kind", flat=True))
    assert told == ["task.queued", "phase.started", "phase.passed", "phase.started"]


def test_what_it_returns_is_what_the_row_says(submit: Callable[..., Task]) -> None:
    submit()
    lease, run = opened()
    following: PhaseRun | None = run
    while following is not None:
        made = {"test_sha": "a" * 40} if following.phase == ROUTE[1] else {}
        advance = Task.objects.advance(
            lease, following, Outcome(Verdict.PASSED, "fine", checkpoint=made), NOW
        )
        assert columns(advance.task) == columns(Task.objects.get(pk=lease.task_pk))
        following = advance.run
    assert (advance.task.status, advance.task.phase) == (Status.COMPLETED, Phase.COMPLETE)


def test_doing_it_again_changes_nothing_and_returns_the_open_try(
    submit: Callable[..., Task],
) -> None:
    submit()
    lease, run = opened()
    first = Task.objects.advance(lease, run, PASSED, NOW)
    events = Event.objects.count()
    again = Task.objects.advance(lease, run, PASSED, NOW + timedelta(seconds=1))
    assert first.run is not None
    assert again.run is not None
    assert again.run.pk == first.run.pk
    assert (again.task.phase, again.task.attempts) == (ROUTE[1], 1)
    assert (PhaseRun.objects.count(), Event.objects.count()) == (2, events)


def test_doing_the_last_one_again_returns_the_completed_task(submit: Callable[..., Task]) -> None:
    submit()
    lease, run = opened()
    rejected = Outcome(Verdict.REJECTED, "The base is broken.")
    Task.objects.advance(lease, run, rejected, NOW)
    again = Task.objects.advance(lease, run, rejected, NOW)
    assert (again.task.status, again.run) == (Status.FAILED, None)


def test_a_stale_holder_cannot_advance(submit: Callable[..., Task]) -> None:
    submit()
    stale, run = opened("frozen")
    later = NOW + timedelta(hours=1)
    lease, other = opened("w", later)
    with pytest.raises(LeaseLostError):
        Task.objects.advance(stale, run, PASSED, later)
    assert [run.verdict for run in PhaseRun.objects.order_by("number")] == ["errored", ""]
    assert Task.objects.advance(lease, other, PASSED, later).task.phase == ROUTE[1]


def test_a_cancelled_task_cannot_be_advanced(submit: Callable[..., Task]) -> None:
    task = submit()
    lease, run = opened()
    task.cancel()
    with pytest.raises(LeaseLostError):
        Task.objects.advance(lease, run, PASSED, NOW)
    assert PhaseRun.objects.count() == 1


def test_a_row_that_changed_under_the_same_fence_is_believed(submit: Callable[..., Task]) -> None:
    submit()
    lease, run = opened()
    Task.objects.filter(pk=lease.task_pk).update(rounds=2)
    advance = Task.objects.advance(lease, run, PASSED, NOW)
    assert (advance.task.rounds, advance.task.phase) == (2, ROUTE[1])


def test_a_failure_on_the_way_leaves_the_try_open(
    submit: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("away")

    submit()
    lease, run = opened()
    with monkeypatch.context() as patch:
        patch.setattr(Event.objects, "append_all", away)
        with pytest.raises(OperationalError):
            Task.objects.advance(lease, run, PASSED, NOW)
    assert PhaseRun.objects.get().verdict == ""
    advance = Task.objects.advance(lease, run, PASSED, NOW)
    assert (advance.task.phase, advance.task.attempts) == (ROUTE[1], 1)


def test_a_project_mended_meanwhile_counts_after_a_rejection(submit: Callable[..., Task]) -> None:
    submit()
    lease, run = opened()
    after = Task.objects.advance(lease, run, PASSED, NOW)
    assert after.run is not None
    Project.objects.update(author="scripted:mended")
    refused = Outcome(Verdict.REJECTED, "no", findings=(Finding("no-test", "no"),))
    back = Task.objects.advance(lease, after.run, refused, NOW)
    assert back.run is not None
    assert back.run.task.project.author == "scripted:mended"
    assert back.task.findings[0]["rule"] == "no-test"


def test_an_agent_that_is_paused_by_then_keeps_the_next_try_from_opening(
    submit: Callable[..., Task],
) -> None:
    submit()
    lease, run = opened()
    now = timezone.now()  # breakers are asked about the time that it is
    author = run.task.project.author
    for _ in range(5):
        _note_failure(author, run.task, now)
    advance = Task.objects.advance(lease, run, PASSED, now)
    task = Task.objects.get(pk=lease.task_pk)
    assert advance.run is None
    assert (task.status, task.hold, task.phase) == ("queued", "agent", ROUTE[1])
    assert (task.attempts, task.holder) == (0, "")


def _note_failure(agent: str, task: Task, now: datetime) -> None:
    Breaker.objects.note(AgentStart(agent, "no such program"), task, now)


def test_a_passed_phase_costs_a_bounded_number_of_statements(
    submit: Callable[..., Task], django_assert_max_num_queries: Any
) -> None:
    submit()
    lease, run = opened()
    # Savepoint and its release, the lock of PostgreSQL, task, run, agent, new run, events.
    with django_assert_max_num_queries(10):
        Task.objects.advance(lease, run, PASSED, NOW)
