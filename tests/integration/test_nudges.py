"""PostgreSQL wakes those who wait; a nudge that is lost does no harm."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from tasks.lifecycle import Hold, Verdict
from tasks.models import Breaker, Project, Task, event, nudge
from tasks.models.nudge import Listener
from tasks.outcome import Outcome
from tasks.workflow import board, broker, pids
from tasks.workflow.board import Board
from tasks.workflow.broker import TaskBroker
from tests.acceptance.engine import wait_for
from tests.database import end_listeners, outage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.only_on("postgresql", "SQLite has no LISTEN"),
]
Submit = Callable[..., Task]
NEVER_S = 3600.0


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskBroker]:
    """Return a broker that listens, and has seen all there is; one worker is idle."""
    made = Board("here:1:1", seats=1)
    monkeypatch.setattr(board, "_installed", made)
    made.take_seat(pids.current())
    monkeypatch.setattr(broker, "TURN_S", 0.1)
    found = TaskBroker("chimera")
    assert found.dequeue() is None
    monkeypatch.setattr(broker, "TURN_S", 10.0)
    yield found
    made.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Return a listener that listens."""
    made = Listener()
    assert made.wait(0) is True
    assert made.wait(0.05) is False
    yield made
    made.close()


def soon(call: Callable[[], Any]) -> threading.Timer:
    """Call in another thread, on a connection of its own, in a moment."""

    def in_thread() -> None:
        try:
            call()
        finally:
            connection.close()

    timer = threading.Timer(0.2, in_thread)
    timer.start()
    return timer


def test_a_submission_wakes_the_broker(
    queue: TaskBroker, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "LOOK_EVERY_S", NEVER_S)
    timer = soon(submit)
    assert queue.dequeue() is not None
    timer.join()


def test_a_task_whose_nudge_was_lost_is_found_within_a_second(
    queue: TaskBroker, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event, "nudge_in_turn", lambda *_: None)
    assert broker.LOOK_EVERY_S <= 1
    timer = soon(submit)
    assert queue.dequeue() is not None  # within one turn, which nothing else would end early
    timer.join()


def test_the_broker_listens_again_after_its_connection_was_lost(
    queue: TaskBroker, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "OUTAGE_PAUSE_S", 0.01)
    monkeypatch.setattr(broker, "LOOK_EVERY_S", NEVER_S)
    assert end_listeners() >= 1
    assert queue.dequeue() is None  # it notices
    monkeypatch.setattr(broker, "TURN_S", 0.1)
    assert queue.dequeue() is None  # it connects
    monkeypatch.setattr(broker, "TURN_S", 10.0)
    timer = soon(submit)
    assert queue.dequeue() is not None
    timer.join()


def test_a_broker_whose_database_is_away_waits_for_it(
    queue: TaskBroker, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()
    monkeypatch.setattr(broker, "OUTAGE_PAUSE_S", 0.01)
    with outage():
        assert [queue.dequeue() for _ in range(3)] == [None] * 3
    assert wait_for(queue.dequeue, 10)


def test_a_listener_hears_of_a_committed_change_and_of_no_other(
    listener: Listener, project: Project
) -> None:
    with transaction.atomic():
        Task.submit(project, "Never", project.target_url)
        transaction.set_rollback(True)
    assert listener.wait(0.05) is False
    Task.submit(project, "Now", project.target_url)
    assert listener.wait(5) is True
    assert listener.wait(0.05) is False


def test_an_order_to_retry_is_a_nudge(listener: Listener, submit: Submit) -> None:
    task = submit()
    task.cancel()
    hear_all(listener)
    task.retry()
    assert listener.wait(5) is True


def test_a_freed_lease_is_a_nudge(listener: Listener, submit: Submit) -> None:
    submit()
    lease = Task.objects.claim("host:1:1", timezone.now())
    assert lease is not None
    task = Task.objects.get(pk=lease.task_pk)
    hear_all(listener)
    assert Task.objects.free(task, timezone.now())
    assert listener.wait(5) is True


def test_a_settled_phase_is_a_nudge(listener: Listener, submit: Submit) -> None:
    submit()
    lease = Task.objects.claim("host:1:1", timezone.now())
    assert lease is not None
    run = Task.objects.open_run(lease, timezone.now())
    assert run is not None
    hear_all(listener)
    Task.objects.settle(lease, run, Outcome(Verdict.INTERRUPTED), timezone.now())
    assert listener.wait(5) is True


def test_tasks_whose_agent_is_let_go_are_a_nudge(listener: Listener, submit: Submit) -> None:
    breaker = Breaker.objects.create(digest="x", agent="command:./coder")
    Task.objects.filter(pk=submit().pk).update(hold=Hold.AGENT, paused_agent=breaker)
    hear_all(listener)
    assert breaker.release() == 1
    assert listener.wait(5) is True
    assert breaker.release() == 0
    assert listener.wait(0.05) is False


def test_a_lost_connection_is_an_error_and_then_made_again(listener: Listener) -> None:
    assert end_listeners() >= 1
    with pytest.raises(DatabaseError):
        listener.wait(5)
    assert listener.wait(0) is True
    assert listener.wait(0.05) is False


def test_a_listener_that_proves_to_be_alive_still_hears(
    listener: Listener, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nudge, "PROVE_ALIVE_EVERY_S", 0.0)
    assert [listener.wait(0.02) for _ in range(3)] == [False] * 3
    submit()
    assert listener.wait(5) is True


def hear_all(listener: Listener) -> None:
    """Hear all that was sent so far."""
    while listener.wait(0.05):
        pass
