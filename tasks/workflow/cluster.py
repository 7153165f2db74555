"""The main process of a cluster: it starts django-q2, watches it, and ends it with all it has.

django-q2 alone lives on in pieces: without its main process, without its sentinel, with a queue
that a killed worker has locked. Here a cluster is whole or gone, and gone means exit code 1,
so whatever supervises it starts a new one. Running phases are taken up from their rows.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone
from django_q.cluster import Cluster
from django_q.conf import Conf

from tasks.models import Task
from tasks.workflow import board, worker
from tasks.workflow.board import Board, Seat
from tasks.workflow.housekeeping import Housekeeper
from tasks.workflow.stopsignal import StopSignal
from tasks.workspace import leash, temporary

logger = logging.getLogger(__name__)

DRAIN_S = 27.0  # for running phases to come to a checkpoint
HURRIED_DRAIN_S = 2.0  # after a second signal
WEDGED_DRAIN_S = 10.0  # before a wedged cluster is given up: what runs there is not to blame
STOP_S = 3.0  # for idle processes to end; together with DRAIN_S within the promised 30 s
TICK_S = 0.25


def run(*, run_once: bool = False) -> int:
    """Run a cluster until it is told to stop; return its exit code. Blocks.

    With `run_once` it ends by itself once nothing is left to claim.
    """
    temporary.keep_in_home(settings.CHIMERA.home)
    shared = board.install(seats=2 * Conf.WORKERS + 8)
    leash.leash_forks(led_by=os.getpid(), lead_group=_lead_group)
    worker.follow_django_q()
    _load_for_all()
    connections.close_all()  # a SQLite connection must not cross a fork
    cluster = Cluster()
    stop = StopSignal(shared.drain)
    # The collector writes to every object that it looks at, and what is written is shared no more.
    gc.collect()
    gc.freeze()
    cluster.start()
    # Threads only from here on: a fork copies no thread, but every lock that one holds.
    housekeeper = Housekeeper(shared, Conf.WORKERS)
    housekeeper.start()
    try:
        return _watch(cluster, shared, stop, housekeeper, run_once=run_once)
    finally:
        housekeeper.stop()
        end_group(cluster.sentinel)


def _load_for_all() -> None:
    """Load what every worker needs before they are forked, so that they share its memory."""
    from tasks.workflow import executor  # noqa: F401

    with contextlib.suppress(DatabaseError):  # the first query of a process builds many tables
        Task.objects.has_claimable(timezone.now())


def _watch(
    cluster: Cluster, shared: Board, stop: StopSignal, housekeeper: Housekeeper, *, run_once: bool
) -> int:
    """Wait for the first thing that ends the cluster, and end it; return the exit code."""
    while True:
        ended = multiprocessing.connection.wait([cluster.sentinel.sentinel], timeout=TICK_S)
        if stop.count:
            logger.info("Stopping: no task is claimed any more, running phases are asked to stop")
            return 0 if drain(cluster, shared, stop, DRAIN_S) else 1
        if ended:
            logger.critical("The sentinel died; ending its processes")
            return 1
        if housekeeper.is_wedged:
            logger.critical("There is work and room for it, and no message gets through")
            drain(cluster, shared, stop, WEDGED_DRAIN_S)
            return 1
        if run_once and _is_all_done(shared):
            return 0 if drain(cluster, shared, stop, DRAIN_S) else 1


def drain(cluster: Cluster, shared: Board, stop: StopSignal, limit_s: float) -> bool:
    """Let everything come to its end; True if no worker is left with work in hand.

    Blocks for `limit_s` and three seconds at most.
    """
    shared.drain()
    _await_idle(cluster, shared, stop, limit_s)
    # The sentinel may have died with the event's lock in hand, so this thread may hang for ever.
    threading.Thread(target=cluster.stop_event.set, daemon=True).start()
    cluster.sentinel.join(timeout=STOP_S)
    return not shared.workers(Seat.BUSY)


def _await_idle(cluster: Cluster, shared: Board, stop: StopSignal, limit_s: float) -> None:
    until = time.monotonic() + limit_s
    is_hurried = False
    while shared.workers(Seat.BUSY) and cluster.sentinel.is_alive():
        if stop.count > 1 and not is_hurried:
            until = min(until, time.monotonic() + HURRIED_DRAIN_S)
            is_hurried = True
        if time.monotonic() >= until:
            return
        time.sleep(TICK_S / 5)


def end_group(sentinel: multiprocessing.Process) -> None:
    """Kill what is left of the sentinel's group, and reap the sentinel itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(sentinel.pid or 0, signal.SIGKILL)
    sentinel.join(timeout=STOP_S)
    if sentinel.is_alive():
        logger.critical("The sentinel cannot be ended")
        os._exit(1)  # an orderly exit would wait for it


def _is_all_done(shared: Board) -> bool:
    busy = shared.is_nudge_under_way or shared.workers(Seat.BUSY)
    try:
        return not busy and not Task.objects.has_claimable(timezone.now())
    except DatabaseError:  # asked again at the next tick
        connections.close_all()
        return False


def _lead_group() -> None:
    """Begin a group with the sentinel: it gets no Ctrl-C, and can be ended as a whole."""
    os.setpgid(0, 0)
