"""The memory that the processes of a cluster share, and the watch over stuck queues."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tasks.workflow import pids
from tasks.workflow.board import Board, Seat
from tasks.workflow.housekeeping import SUSPECT_WEDGED_AFTER_S, WEDGED_AFTER_S, WedgeWatch
from tasks.workflow.pids import ProcessId

ME = pids.current()
GONE = ProcessId(ME.pid, ME.start - 1)


@pytest.fixture
def shared() -> Iterator[Board]:
    """Return an empty board."""
    made = Board("here:1:1", seats=2)
    yield made
    made.close()


def in_child(call: object) -> None:
    """Fork, call, and wait for the child's end."""
    pid = os.fork()
    if pid == 0:
        try:
            call()  # type: ignore[operator]
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_a_forked_child_writes_what_the_parent_reads(shared: Board) -> None:
    in_child(shared.drain)
    assert shared.is_draining is True


def test_a_worker_is_idle_until_it_is_marked_busy(shared: Board) -> None:
    place = shared.take_seat(ME)
    assert [seated.process for seated in shared.workers(Seat.IDLE)] == [ME]
    shared.mark(place, ME, Seat.BUSY)
    assert shared.workers(Seat.IDLE) == []
    assert [seated.process for seated in shared.workers(Seat.BUSY)] == [ME]
    assert shared.has_dead() is False
    shared.leave(place)
    assert shared.workers(Seat.BUSY) == []


def test_a_worker_that_died_in_its_seat_is_told_once(shared: Board) -> None:
    in_child(lambda: shared.take_seat(pids.current()))
    assert shared.workers(Seat.IDLE) == []
    assert shared.has_dead() is True
    (dead,) = shared.remove_dead()
    assert dead.seat == Seat.IDLE
    assert shared.remove_dead() == []
    assert shared.has_dead() is False


def test_two_workers_never_share_a_seat(shared: Board) -> None:
    in_child(lambda: shared.take_seat(pids.current()))
    assert shared.take_seat(ME) == 1  # the dead keep theirs until they were told of
    with pytest.raises(RuntimeError):
        shared.take_seat(ME)


def test_a_lock_that_a_killed_process_held_is_free_again(shared: Board) -> None:
    def die_with_the_lock() -> None:
        with shared._locked():
            os._exit(1)

    in_child(die_with_the_lock)
    assert shared.take_seat(ME) == 0


def test_a_taken_nudge_is_no_longer_under_way(shared: Board) -> None:
    assert shared.is_nudge_under_way is False
    shared.nudge_sent()
    assert shared.is_nudge_under_way is True
    in_child(shared.nudge_taken)
    assert shared.is_nudge_under_way is False
    assert shared.dispatched_at > 0


def test_a_pid_alone_does_not_make_a_process_alive() -> None:
    assert ME.is_alive is True
    assert GONE.is_alive is False


def test_a_zombie_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pids.start_of(pid) is None
    os.waitpid(pid, 0)


def test_a_name_leads_back_to_its_process() -> None:
    assert pids.parse_name(pids.name_of(ME)) == (pids.host_name(), ME)


@pytest.mark.parametrize("text", ["", "host", "host:1", "host:one:2", "host:1:2:3", "host:-1:2"])
def test_other_texts_are_no_names(text: str) -> None:
    assert pids.parse_name(text) is None


class TestWedgeWatch:
    """Work beside an idle worker may wait for a while only."""

    def test_work_that_waits_too_long_is_a_wedge(self) -> None:
        watch = WedgeWatch()
        assert watch.look(has_work=True, dispatched_at=0, now=100) is False
        assert watch.look(has_work=True, dispatched_at=0, now=100 + WEDGED_AFTER_S) is False
        assert watch.look(has_work=True, dispatched_at=0, now=101 + WEDGED_AFTER_S) is True

    def test_a_worker_that_looked_starts_the_wait_again(self) -> None:
        watch = WedgeWatch()
        watch.look(has_work=True, dispatched_at=0, now=100)
        assert watch.look(has_work=True, dispatched_at=110, now=120) is False
        assert watch.look(has_work=True, dispatched_at=110, now=111 + WEDGED_AFTER_S) is True

    def test_an_outage_starts_the_wait_again(self) -> None:
        watch = WedgeWatch()
        watch.look(has_work=True, dispatched_at=0, now=100)
        watch.start_over()
        assert watch.look(has_work=True, dispatched_at=0, now=101 + WEDGED_AFTER_S) is False

    def test_a_moment_without_work_starts_the_wait_again(self) -> None:
        watch = WedgeWatch()
        watch.look(has_work=True, dispatched_at=0, now=100)
        watch.look(has_work=False, dispatched_at=0, now=110)
        assert watch.look(has_work=True, dispatched_at=0, now=101 + WEDGED_AFTER_S) is False

    def test_suspicion_shortens_the_wait_until_a_message_gets_through(self) -> None:
        watch = WedgeWatch()
        watch.is_suspect = True
        watch.look(has_work=True, dispatched_at=0, now=100)
        late = 101 + SUSPECT_WEDGED_AFTER_S
        assert watch.look(has_work=True, dispatched_at=0, now=late) is True
        assert watch.look(has_work=True, dispatched_at=late, now=late) is False
        assert watch.is_suspect is False
