"""What the main process of a cluster does beside watching: threads with connections of their own.

Housekeeping is no schedule in the pool, where busy workers would starve it.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from tasks.models import Task, Worker
from tasks.workflow import pruning, reaper
from tasks.workflow.board import Board, Seat
from tasks.workflow.diskspace import disk_trouble
from tasks.workflow.retention import Sizes
from tasks.workflow.touch import clock_trouble

logger = logging.getLogger(__name__)

SWEEP_EVERY_S = 1.0
LOOK_EVERY_S = 0.25  # at the seats of the workers, without the database
PROBE_EVERY_S = 60.0  # while there is trouble
TIDY_AFTER_S = 60.0  # the first time, and while there is more to do than fits in one pass
TIDY_EVERY_S = 3600.0
WEDGED_AFTER_S = 15.0
SUSPECT_WEDGED_AFTER_S = 3.0  # once an idle worker was killed: it may have locked the queue


class Housekeeper(threading.Thread):
    """Sweeps each second, and notices when messages stop getting through."""

    def __init__(self, shared: Board, workers: int) -> None:
        super().__init__(name="housekeeper", daemon=True)
        self._board = shared
        self._workers = workers
        self._stopping = threading.Event()
        self._wedge = WedgeWatch()
        self._probe = Probe()
        self._tidier = Tidier()
        self.is_wedged = False

    def start(self) -> None:
        """Start sweeping, and probing and tidying beside it."""
        self._probe.start()
        self._tidier.start()
        super().start()

    def stop(self) -> None:
        """Stop after the sweep at hand. Blocks for two seconds at most."""
        self._stopping.set()
        self._tidier.stopping.set()  # a pass at hand ends with the process, and is gone on with
        self.join(timeout=2)

    def run(self) -> None:
        """Sweep until stopped. A sweep that fails, for whatever reason, must not be the last."""
        ended_since: datetime | None = datetime.min.replace(tzinfo=UTC)  # once, look at all
        is_down = False
        while not self._stopping.is_set():
            try:
                reaper.sweep(timezone.now(), ended_since)
                ended_since = None
                self._show_trouble()
                self._watch_for_wedge()
                is_down = False
            except DatabaseError as error:
                if not is_down:
                    logger.warning("Housekeeping waits for the database: %s", error)
                is_down = True
                self._wedge.start_over()
                connections.close_all()
            except Exception:
                logger.exception("Housekeeping failed; trying again")
                connections.close_all()
            self._rest()
        connections.close_all()

    def _rest(self) -> None:
        """Wait for the next sweep, or for a worker's death, which shared memory and /proc tell."""
        until = time.monotonic() + SWEEP_EVERY_S
        while not self._stopping.wait(LOOK_EVERY_S) and time.monotonic() < until:
            if self._board.has_dead():
                return

    def _show_trouble(self) -> None:
        trouble = " ".join(filter(None, [self._probe.trouble, disk_trouble(), clock_trouble()]))
        rows = Worker.objects.filter(cluster=self._board.cluster).exclude(trouble=trouble)
        if rows.exists():  # a write each second would wake every process that waits for changes
            rows.update(trouble=trouble)

    def _watch_for_wedge(self) -> None:
        for seated in self._board.remove_dead():
            logger.warning("Worker %d was ended while %s", seated.process.pid, seated.seat.name)
            self._wedge.is_suspect |= seated.seat == Seat.IDLE
        # Not "a worker is idle": a guard that hangs doesn't replace those that were killed.
        has_room = len(self._board.workers(Seat.BUSY)) < self._workers
        can_serve = has_room and not self._board.is_draining and not disk_trouble()
        has_work = can_serve and Task.objects.has_claimable(timezone.now())
        self.is_wedged = self._wedge.look(
            has_work=has_work, dispatched_at=self._board.dispatched_at, now=time.monotonic()
        )


class Tidier(threading.Thread):
    """Removes what is older, or more, than may be kept: seldom, and never in anybody's way."""

    def __init__(self) -> None:
        super().__init__(name="tidier", daemon=True)
        self.stopping = threading.Event()

    def run(self) -> None:
        """Tidy until stopped; a pass that fails, for whatever reason, must not be the last."""
        sizes = Sizes()
        wait_s = TIDY_AFTER_S
        while not self.stopping.wait(wait_s):
            wait_s = TIDY_EVERY_S
            try:
                freed = pruning.tidy(timezone.now(), _tell, sizes=sizes)
                wait_s = TIDY_AFTER_S if freed.has_more else TIDY_EVERY_S
            except Exception:
                logger.exception("Tidying failed; trying again in an hour")
            connections.close_all()


def _tell(text: str) -> None:
    logger.info("Tidying: %s", text)


class WedgeWatch:
    """Decides how long work may wait while there is room for it. Times in monotonic seconds."""

    def __init__(self) -> None:
        self.is_suspect = False
        self._waiting_since: float | None = None

    def start_over(self) -> None:
        """Forget since when work waits: in an outage nobody can take it."""
        self._waiting_since = None

    def look(self, *, has_work: bool, dispatched_at: float, now: float) -> bool:
        """Say whether nobody can take the work that waits, as far as one can tell by now."""
        if not has_work:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        elif dispatched_at > self._waiting_since:
            self._waiting_since = dispatched_at
            self.is_suspect = False
        patience_s = SUSPECT_WEDGED_AFTER_S if self.is_suspect else WEDGED_AFTER_S
        return now - self._waiting_since > patience_s


class Probe(threading.Thread):
    """Finds out whether this host can make proofs; asks again only while it cannot."""

    def __init__(self) -> None:
        super().__init__(name="probe", daemon=True)
        self.trouble = ""

    def run(self) -> None:
        """Probe until there is no trouble."""
        from tasks.workspace import probe  # the browser's door: main alone needs it

        options = settings.CHIMERA
        while True:
            cache = options.home / "cache"
            self.trouble = probe.find_trouble(options.sandbox, options.chromium, cache)
            if not self.trouble:
                return
            logger.warning("This host cannot do its work: %s", self.trouble)
            time.sleep(PROBE_EVERY_S)
