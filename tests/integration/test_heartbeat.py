"""The pulse of a worker process, and when it tells the work to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from tasks.models import Lease, Task, Worker
from tasks.workflow import board, heartbeat, pids, worker
from tasks.workflow.board import Board
from tasks.workflow.heartbeat import Heart
from tests.acceptance.engine import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
Submit = Callable[..., Task]


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """Give this process a board of its own."""
    made = Board("here:1:1", seats=2)
    monkeypatch.setattr(board, "_installed", made)
    yield made
    heartbeat.stop()
    made.close()


@pytest.fixture
def heart(monkeypatch: pytest.MonkeyPatch, shared: Board) -> Heart:
    """Return a heart that beats ten times a second, whatever the lease."""
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.1)
    monkeypatch.setattr(heartbeat, "TICK_S", 0.05)
    monkeypatch.setattr(heartbeat, "LOOK_S", 0.05)
    return heartbeat.start()


def claim() -> Lease:
    """Claim the one task there is."""
    lease = Task.objects.claim(pids.name_of(pids.current()), timezone.now())
    assert lease is not None
    return lease


def row() -> Worker:
    """Return this worker's row."""
    return Worker.objects.get(name=pids.name_of(pids.current()))


def shown() -> bool:
    """Say whether this worker has a row."""
    return Worker.objects.exists()


def test_a_worker_shows_itself_and_goes_on_doing_so(heart: Heart) -> None:
    wait_for(shown, 5)
    first = row()
    assert (first.host, first.cluster) == (pids.host_name(), "here:1:1")
    assert first.task is None
    assert first.is_draining is False
    wait_for(lambda: row().seen_at > first.seen_at, 5)
    assert row().started_at == first.started_at


def test_a_second_start_is_the_same_heart(heart: Heart) -> None:
    assert heartbeat.start() is heart


def test_a_worker_that_leaves_takes_its_row_along(heart: Heart) -> None:
    wait_for(shown, 5)
    heartbeat.stop()
    assert not shown()


def test_the_row_names_the_task_in_hand(heart: Heart, submit: Submit) -> None:
    task = submit()
    lease = claim()
    with heart.holding(lease):
        wait_for(lambda: shown() and row().task_id == task.pk, 5)
    wait_for(lambda: row().task_id is None, 5)


def test_a_lease_in_hand_is_renewed(heart: Heart, submit: Submit) -> None:
    task = submit()
    with heart.holding(claim()) as should_stop:
        Task.objects.update(lease_expires_at=timezone.now())

        def renewed() -> bool:
            task.refresh_from_db()
            assert task.lease_expires_at is not None
            return task.lease_expires_at > timezone.now() + timedelta(seconds=1)

        wait_for(renewed, 5)
        assert should_stop() is False


def test_a_cancelled_task_tells_its_work_to_stop(heart: Heart, submit: Submit) -> None:
    task = submit()
    with heart.holding(claim()) as should_stop:
        assert should_stop() is False
        task.cancel()
        wait_for(should_stop, 5)


def test_a_lease_that_was_taken_over_tells_its_work_to_stop(heart: Heart, submit: Submit) -> None:
    submit()
    lease = claim()
    assert Task.objects.claim("other", timezone.now() + timedelta(hours=1)) is not None
    with heart.holding(lease) as should_stop:
        wait_for(should_stop, 5)


def test_a_drain_is_seen_at_once(heart: Heart, submit: Submit, shared: Board) -> None:
    submit()
    with heart.holding(claim()) as should_stop:
        shared.drain()
        assert should_stop() is True
        wait_for(lambda: shown() and row().is_draining, 5)


def test_a_short_outage_is_survived(
    heart: Heart, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = submit()
    with heart.holding(claim()) as should_stop:
        with monkeypatch.context() as patch:
            failures = outage(patch)
            wait_for(lambda: len(failures) >= 3, 5)
            assert should_stop() is False
        wait_for(lambda: shown() and row().task_id == task.pk, 5)
        assert should_stop() is False


def test_a_lease_that_cannot_be_renewed_in_time_stops_the_work(
    heart: Heart, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()
    lease = claim()
    outage(monkeypatch)
    now = time.monotonic()
    with heart.holding(lease) as should_stop:
        assert should_stop() is False
        late = now + settings.CHIMERA.lease_s + 1
        monkeypatch.setattr(heartbeat.time, "monotonic", lambda: late)
        assert should_stop() is True


def outage(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make every beat fail; return the list that the failures are noted in."""
    failures: list[float] = []

    def fail(*_: Any) -> None:
        failures.append(time.monotonic())
        raise OperationalError("database is locked")

    monkeypatch.setattr(Heart, "_beat", fail)
    return failures


class TestWork:
    """What a worker does with a nudge."""

    @pytest.fixture
    def performed(self, monkeypatch: pytest.MonkeyPatch) -> list[Lease]:
        seen: list[Lease] = []

        def perform(lease: Lease, should_stop: Callable[[], bool]) -> None:
            seen.append(lease)
            Task.objects.get(pk=lease.task_pk).cancel()

        monkeypatch.setattr(worker, "perform", perform)
        return seen

    def test_all_that_can_be_claimed_is_performed_best_first(
        self, heart: Heart, submit: Submit, performed: list[Lease]
    ) -> None:
        low, high = submit(priority=1), submit(priority=9)
        assert worker.work() == 2
        assert [lease.task_pk for lease in performed] == [high.pk, low.pk]
        assert {lease.holder for lease in performed} == {heart.name}

    def test_nothing_is_claimed_while_draining(
        self, heart: Heart, submit: Submit, performed: list[Lease], shared: Board
    ) -> None:
        submit()
        shared.drain()
        assert worker.work() == 0
        assert performed == []

    def test_nothing_is_claimed_while_the_disk_is_nearly_full(
        self,
        heart: Heart,
        submit: Submit,
        performed: list[Lease],
        shared: Board,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        submit()
        shared.nudge_sent()
        monkeypatch.setattr(worker, "disk_trouble", lambda: "The disk is nearly full.")
        assert worker.work() == 0
        assert performed == []
        assert shared.is_nudge_under_way is False

    def test_after_a_minute_no_further_task_is_claimed(
        self,
        heart: Heart,
        submit: Submit,
        performed: list[Lease],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for _ in range(3):
            submit()
        monkeypatch.setattr(worker, "TAKE_FOR_S", 1.0)
        began = time.monotonic()
        clock = iter([began, began, began + 2])  # the deadline, then one look per task
        monkeypatch.setattr(worker, "time", type("Clock", (), {"monotonic": lambda: next(clock)}))
        assert worker.work() == 1

    def test_a_nudge_counts_as_taken_when_there_was_nothing_left(
        self, heart: Heart, performed: list[Lease], shared: Board
    ) -> None:
        shared.nudge_sent()
        assert worker.work() == 0
        assert shared.is_nudge_under_way is False
        assert shared.dispatched_at > 0
