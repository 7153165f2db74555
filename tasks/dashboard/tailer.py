"""The one reader of new events in this process; it publishes them to this process's sockets.

Workers are other processes and publish nothing: what they commit is found here by polling, on
PostgreSQL at once, after a nudge of the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.db import Error as DatabaseTrouble
from django.db.models import Max

from tasks.feed import LogGrowth, Notice, Nudge, publish
from tasks.models import Event, PhaseRun
from tasks.models.nudge import Listener, can_listen

log = logging.getLogger(__name__)

POLL_S = 0.25
NUDGED_POLL_S = 2.0  # where the database nudges: only for the nudge that got lost
LONGEST_PAUSE_S = 5.0  # between tries while the database is in trouble
BATCH = 500


@dataclass(frozen=True)
class _Look:
    seq: int
    notices: tuple[Notice, ...]
    logs: tuple[LogGrowth, ...]


class Ear(threading.Thread):
    """Hears the database's nudges while the loop goes on, and sets `heard` there."""

    TURN_S = 0.5  # how long it may outlive its tailer
    OUTAGE_PAUSE_S = 1.0

    def __init__(self) -> None:
        super().__init__(name="feed ear", daemon=True)
        self.heard = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._is_over = threading.Event()

    def run(self) -> None:
        """Listen until told to stop. While the database is away, the tailer's polls say so."""
        listener = Listener()
        while not self._is_over.is_set():
            try:
                if listener.wait(self.TURN_S):
                    self._tell()
            except DatabaseTrouble:
                self._is_over.wait(self.OUTAGE_PAUSE_S)
        listener.close()

    def stop(self) -> None:
        """Have it end soon."""
        self._is_over.set()

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self.heard.set)
        except RuntimeError:  # the loop is closed, so nobody listens to this any more
            self._is_over.set()


class Tailer:
    """Runs while sockets are open: the first to join starts it, the last to leave stops it."""

    def __init__(self) -> None:
        self._sockets = 0
        self._watched: Counter[str] = Counter()
        self._seq: int | None = None
        self._ready = asyncio.Event()
        self._run: asyncio.Task[None] | None = None
        self._ear: Ear | None = None
        self._sizes: dict[tuple[str, int], int] = {}

    @property
    def is_running(self) -> bool:
        """Tell whether anything is being read."""
        return self._run is not None and not self._run.done()

    async def join(self, task_id: str | None) -> None:
        """Count one more socket, which watches the log of `task_id`.

        Returns when every event that commits from now on will be published; that waits for the
        database. Whoever joined, even if this was cancelled, has to leave.
        """
        self._sockets += 1
        if task_id:
            self._watched[task_id] += 1
        if not self.is_running:
            if can_listen() and self._ear is None:
                self._ear = Ear()
                self._ear.start()
            self._run = asyncio.create_task(self._tail(), name="feed tailer")
        await self._ready.wait()

    def leave(self, task_id: str | None) -> None:
        """Count one socket less; after the last one nothing is read any more."""
        self._sockets -= 1
        if task_id:
            self._watched -= Counter([task_id])
        if self._sockets == 0 and self._run is not None:
            self._run.cancel()
            self._run, self._seq = None, None
            if self._ear is not None:
                self._ear.stop()
                self._ear = None
            self._ready.clear()
            self._sizes.clear()

    async def _tail(self) -> None:
        trouble_s = POLL_S
        while True:
            if self._ear is not None:
                self._ear.heard.clear()  # before the look: what is heard from here on may be newer
            try:
                look = await database_sync_to_async(read_rows)(self._seq, list(self._watched))
            except DatabaseTrouble as error:
                pause_s = trouble_s = min(LONGEST_PAUSE_S, trouble_s * 2)
                log.warning(
                    "The live feed cannot read events, next try in %.1f s: %s", pause_s, error
                )
            else:
                trouble_s = POLL_S
                pause_s = 0.0 if len(look.notices) == BATCH else self._poll_s()
                await self._tell(look)
            await self._rest(pause_s)

    def _poll_s(self) -> float:
        """Return the longest wait between two looks; logs are files, and nobody nudges for them."""
        return NUDGED_POLL_S if self._ear is not None and not self._watched else POLL_S

    async def _rest(self, pause_s: float) -> None:
        """Wait until it is time for the next look, or until the database nudges."""
        if self._ear is None:
            await asyncio.sleep(pause_s)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ear.heard.wait(), pause_s)

    async def _tell(self, look: _Look) -> None:
        before, self._seq = self._seq, look.seq
        self._ready.set()
        if before is not None and look.notices:
            await publish(Nudge(before, look.seq, look.notices))
        sizes = {(growth.task, growth.run): growth.size_bytes for growth in look.logs}
        for growth in look.logs:
            if self._sizes.get((growth.task, growth.run)) != growth.size_bytes:
                await publish(growth)
        self._sizes = sizes


def read_rows(seq: int | None, watched: Iterable[str]) -> _Look:
    """Read the events after `seq`, at most BATCH, and the sizes of the running logs of `watched`.

    None for `seq` finds where the feed stands. Blocks on the database.
    """
    if seq is None:
        seq, rows = newest_seq(), []
    else:
        new = Event.objects.after(seq).values_list("seq", "kind", "task__task_id")
        rows = list(new[:BATCH])
    notices = tuple(Notice(*row) for row in rows)
    return _Look(notices[-1].seq if notices else seq, notices, tuple(_log_sizes(watched)))


def newest_seq() -> int:
    """Return the number of the newest event, 0 if there is none. Blocks on the database."""
    return Event.objects.aggregate(newest=Max("seq"))["newest"] or 0


def _log_sizes(watched: Iterable[str]) -> Iterable[LogGrowth]:
    names = list(watched)
    if not names:
        return
    open_runs = PhaseRun.objects.filter(task__task_id__in=names, verdict="")
    for run in open_runs.select_related("task"):
        try:
            size_bytes = run.log_path.lstat().st_size
        except OSError:
            size_bytes = 0
        yield LogGrowth(run.task.task_id, run.number, size_bytes)


_tailers: WeakKeyDictionary[asyncio.AbstractEventLoop, Tailer] = WeakKeyDictionary()


def tailer() -> Tailer:
    """Return the tailer of the running event loop; a server process has one loop, so one tailer."""
    return _tailers.setdefault(asyncio.get_running_loop(), Tailer())
