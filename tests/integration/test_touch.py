"""An outage, a freeze or a jump of the clock takes no lease from a holder that is well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from tasks.models import Lease, Task, Worker
from tasks.workflow import board, heartbeat, touch, worker
from tasks.workflow.board import Board
from tasks.workflow.heartbeat import Heart
from tasks.workflow.touch import Touch
from tests.acceptance.engine import wait_for

Submit = Callable[..., Task]
true_time, true_clock = timezone.now, time.monotonic


class Clock:
    """What the process takes for the time, and for the time since it began."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.later_s = 0.0

    def now(self) -> datetime:
        return true_time() + timedelta(seconds=self.ahead_s + self.later_s)

    def monotonic(self) -> float:
        return true_clock() + self.later_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that only this test moves; the database's goes with it."""
    made = Clock()
    monkeypatch.setattr(timezone, "now", made.now)
    monkeypatch.setattr(touch.time, "monotonic", made.monotonic)
    monkeypatch.setattr(touch, "skew_s", lambda: 0.0)
    return made


@pytest.fixture
def kept(clock: Clock) -> Touch:
    """Return what is in touch."""
    made = Touch()
    made.made()
    return made


def test_a_worker_that_has_just_begun_may_judge() -> None:
    assert Touch().is_lost is False


def test_regular_beats_keep_in_touch(kept: Touch, clock: Clock) -> None:
    for _ in range(5):
        clock.later_s += heartbeat.beat_s()
        assert kept.is_lost is False
        kept.made()
    assert kept.is_lost is False


def test_after_an_outage_holders_have_a_moment_to_come_back(kept: Touch, clock: Clock) -> None:
    clock.later_s += settings.CHIMERA.lease_s
    assert kept.is_lost is True
    kept.made()
    assert kept.is_lost is True
    clock.later_s += touch.COME_BACK_S
    assert kept.is_lost is False


@pytest.mark.parametrize("jump_s", [7200, -7200])
def test_so_have_they_when_the_clock_has_jumped(kept: Touch, clock: Clock, jump_s: float) -> None:
    clock.ahead_s = jump_s
    assert kept.has_jumped
    assert kept.is_lost is True
    kept.made()
    assert not kept.has_jumped
    assert kept.is_lost is True
    clock.later_s += touch.COME_BACK_S
    assert kept.is_lost is False


@pytest.mark.only_on("postgresql", "SQLite has no clock of its own")
@pytest.mark.django_db
def test_a_host_whose_clock_is_wrong_judges_no_lease_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = Touch()
    kept.made()
    assert (kept.is_lost, touch.clock_trouble()) == (False, "")
    monkeypatch.setattr(timezone, "now", lambda: true_time() + timedelta(hours=2))
    wrong = Touch()
    wrong.made()
    assert wrong.is_lost is True
    assert "The clock of this host is 7200 s ahead of the database's" in touch.clock_trouble()


@pytest.fixture
def heart(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Heart]:
    """Return a heart that would beat once an hour."""
    shared = Board("here:1:1", seats=2)
    monkeypatch.setattr(board, "_installed", shared)
    monkeypatch.setattr(heartbeat, "BEAT_S", 3600.0)
    monkeypatch.setattr(heartbeat, "BEATS_PER_LEASE", 0.001)
    yield heartbeat.start()
    heartbeat.stop()
    shared.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("jump_s", [7200, -7200])
def test_a_jump_of_the_clock_takes_no_task_from_its_holder(
    heart: Heart, submit: Submit, clock: Clock, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    task = submit()
    performed: list[Lease] = []
    monkeypatch.setattr(worker, "perform", lambda lease, _: performed.append(lease))
    lease = Task.objects.claim(heart.name, timezone.now())
    assert lease is not None
    with heart.holding(lease) as should_stop:
        wait_for(lambda: Worker.objects.filter(task=task).exists(), 60)
        clock.ahead_s = jump_s
        assert worker.work() == 0  # another one's view: the lease seems to be two hours over

        def is_right() -> bool:
            task.refresh_from_db()
            assert task.lease_expires_at is not None
            left_s = (task.lease_expires_at - timezone.now()).total_seconds()
            return 0 < left_s <= settings.CHIMERA.lease_s

        wait_for(is_right, 60)
        clock.later_s += touch.COME_BACK_S
        assert worker.work() == 0
        assert should_stop() is False
    assert (task.fence, performed) == (lease.fence, [])
    task.cancel()
    assert (task.duration_s == 0) is (jump_s < 0)  # never below
