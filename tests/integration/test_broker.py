"""When the broker nudges and when it keeps quiet."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from django_q.models import OrmQ
from django_q.signing import SignedPackage
from django_q.tasks import async_task

from tasks.lifecycle import Hold
from tasks.models import Task
from tasks.workflow import board, broker, pids, worker
from tasks.workflow.board import NUDGE_LOST_AFTER_S, Board, Seat
from tasks.workflow.broker import TaskBroker
from tasks.workflow.changes import PostgreSQLChanges, SQLiteChanges, watch_changes
from tasks.workflow.pids import ProcessId

Submit = Callable[..., Task]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """Return the board of a cluster without workers."""
    made = Board("here:1:1", seats=4)
    monkeypatch.setattr(board, "_installed", made)
    yield made
    made.close()


@pytest.fixture
def seat(shared: Board) -> int:
    """Seat one idle worker: this process."""
    return shared.take_seat(pids.current())


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "TURN_S", 0.05)


@pytest.fixture
def queue(db: None) -> TaskBroker:
    """Return a broker that has not looked at anything yet."""
    return TaskBroker("chimera")


def nudges(messages: Any) -> list[str]:
    """Return the functions that these messages ask for."""
    return [SignedPackage.loads(package)["func"] for _, package in messages or []]


def test_a_claimable_task_and_an_idle_worker_make_one_nudge(
    submit: Submit, seat: int, queue: TaskBroker
) -> None:
    submit()
    ((ack_id, package),) = queue.dequeue() or []
    message = SignedPackage.loads(package)
    assert ack_id is None  # nothing is stored, so nothing is to be acknowledged
    assert (message["func"], message["args"], message["kwargs"]) == (broker.WORK, (), {})
    assert OrmQ.objects.count() == 0


def test_a_nudge_calls_the_function_that_claims() -> None:
    module, _, function = broker.WORK.rpartition(".")
    assert (module, getattr(worker, function)) == (worker.__name__, worker.work)


def test_no_task_makes_no_nudge(seat: int, queue: TaskBroker) -> None:
    assert queue.dequeue() is None


def test_a_held_task_makes_no_nudge(submit: Submit, seat: int, queue: TaskBroker) -> None:
    Task.objects.filter(pk=submit().pk).update(hold=Hold.APPROVAL)
    assert queue.dequeue() is None


def test_without_an_idle_worker_there_is_no_nudge(
    submit: Submit, shared: Board, seat: int, queue: TaskBroker
) -> None:
    shared.mark(seat, pids.current(), Seat.BUSY)
    submit()
    assert queue.dequeue() is None
    shared.mark(seat, pids.current(), Seat.IDLE)
    assert nudges(queue.dequeue()) == [broker.WORK]


def test_a_dead_worker_is_not_idle(submit: Submit, shared: Board, queue: TaskBroker) -> None:
    shared.take_seat(ProcessId(os.getpid(), 1))  # this pid, but an earlier process
    submit()
    assert queue.dequeue() is None


def test_a_draining_cluster_is_not_nudged(
    submit: Submit, shared: Board, seat: int, queue: TaskBroker
) -> None:
    submit()
    shared.drain()
    assert queue.dequeue() is None


def test_a_host_whose_disk_is_nearly_full_is_not_nudged(
    submit: Submit, seat: int, queue: TaskBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()
    monkeypatch.setattr(broker, "disk_trouble", lambda: "The disk is nearly full.")
    assert queue.dequeue() is None
    monkeypatch.setattr(broker, "disk_trouble", lambda: "")
    monkeypatch.setattr(broker, "LOOK_EVERY_S", 0.0)
    assert nudges(queue.dequeue()) == [broker.WORK]


def test_only_one_nudge_is_under_way_at_a_time(
    submit: Submit, shared: Board, seat: int, queue: TaskBroker
) -> None:
    submit()
    submit()
    assert nudges(queue.dequeue()) == [broker.WORK]
    assert queue.dequeue() is None
    shared.nudge_taken()
    queue._looked_at = float("-inf")  # the change by the worker's claim, or a second later
    assert nudges(queue.dequeue()) == [broker.WORK]


def test_every_idle_worker_is_nudged_that_there_is_a_task_for(
    submit: Submit, shared: Board, queue: TaskBroker
) -> None:
    for _ in range(3):
        shared.take_seat(pids.current())
    submit()
    submit()
    assert nudges(queue.dequeue()) == [broker.WORK] * 2
    shared.nudge_taken()
    submit()
    submit()
    queue._looked_at = float("-inf")
    assert nudges(queue.dequeue()) == [broker.WORK] * 3


def test_a_lost_nudge_is_made_again(
    submit: Submit,
    shared: Board,
    seat: int,
    queue: TaskBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit()
    assert nudges(queue.dequeue()) == [broker.WORK]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + NUDGE_LOST_AFTER_S + 1)
    assert shared.is_nudge_under_way is False
    assert queue._nudges_due(shared) == 1


def test_an_ordinary_message_goes_before_a_nudge(
    submit: Submit, seat: int, queue: TaskBroker
) -> None:
    submit()
    async_task("os.getpid", broker=queue)
    OrmQ.objects.update(lock=timezone.now() - timezone.timedelta(seconds=1))
    ((ack_id, package),) = queue.dequeue() or []
    assert SignedPackage.loads(package)["func"] == "os.getpid"
    assert ack_id == OrmQ.objects.get().pk
    assert nudges(queue.dequeue()) == [broker.WORK]


def test_dequeue_comes_back_in_time_to_see_a_stop(queue: TaskBroker, shared: Board) -> None:
    began = time.monotonic()
    assert queue.dequeue() is None
    assert time.monotonic() - began < 1


def test_a_database_that_is_away_is_waited_for(
    queue: TaskBroker, shared: Board, seat: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(broker, "OUTAGE_PAUSE_S", 0.01)
    monkeypatch.setattr(TaskBroker, "_nudges_due", fail)
    monkeypatch.setattr(connection, "close", lambda: None)  # the test's own transaction
    assert queue.dequeue() is None


@pytest.fixture
def changes(transactional_db: None) -> SQLiteChanges | PostgreSQLChanges:
    """Return a watch that has seen everything so far."""
    watch = watch_changes()
    while watch.seen():
        watch.wait(0)
    watch.wait(0)
    watch.seen()
    return watch


def test_a_write_by_another_connection_is_seen_once(
    changes: SQLiteChanges | PostgreSQLChanges, submit: Submit
) -> None:
    assert not has_seen(changes, within_s=0.05)
    run_elsewhere(submit)
    assert has_seen(changes, within_s=5)
    assert not has_seen(changes, within_s=0.05)


def test_looking_without_a_change_costs_no_statement(
    changes: SQLiteChanges | PostgreSQLChanges,
    seat: int,
    shared: Board,
    django_assert_num_queries: Callable[..., Any],
) -> None:
    queue = TaskBroker("chimera")
    queue._nudges_due(shared)
    with django_assert_num_queries(0):
        for _ in range(3):
            assert queue._nudges_due(shared) == 0


def has_seen(changes: SQLiteChanges | PostgreSQLChanges, within_s: float) -> bool:
    """Say whether a change is seen; waits no longer than it takes."""
    until = time.monotonic() + within_s
    while not changes.seen():
        if time.monotonic() >= until:
            return False
        changes.wait(0.01)
    return True


def run_elsewhere(call: Callable[[], object]) -> None:
    """Call in a thread, which has a connection of its own."""

    def in_thread() -> None:
        try:
            call()
        finally:
            connection.close()

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(timeout=10)
