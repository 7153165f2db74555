"""Noticing that somebody has written to the database, at the cost that this database allows.

A change only says "look": one that is missed is found a second later, by the clock.
"""

from __future__ import annotations

import ctypes
import logging
import sqlite3
import sys
import time
from pathlib import Path

from django.conf import settings
from django.db import connection

from tasks.models.nudge import Listener, can_listen

if sys.platform == "linux":
    import inotify_simple
    from inotify_simple import INotify, flags

logger = logging.getLogger(__name__)

# The kernel tells of a commit's last write a moment before SQLite lets anybody see the commit.
COMMIT_TAKES_S = 0.05
COMMIT_LOOK_S = 0.001
PAUSE_S = 0.005  # between two looks: many commits in a row are one change
MISSES_ALLOWED = 3


class SQLiteChanges:
    """Notices commits by other connections: hears of a write, then asks SQLite for one number.

    Where the kernel tells of no writes (another system, some network folders), it asks every
    CHIMERA_POLL_INTERVAL. For one process; it may be made before a fork.
    """

    def __init__(self) -> None:
        self._interval_s = float(settings.CHIMERA.poll_interval_s)
        self._writes: Writes | None = None
        self._can_hear = sys.platform == "linux"
        self._heard_at: float | None = time.monotonic()
        self._seen_at = float("-inf")
        self._version: int | None = None
        self._misses = 0

    def wait(self, at_most_s: float) -> None:
        """Wait for a write; while one was heard of and not seen yet, for the next look. Blocks."""
        if self._heard_at is not None:
            is_new = time.monotonic() - self._heard_at < COMMIT_TAKES_S
            time.sleep(min(COMMIT_LOOK_S if is_new else self._interval_s, self._interval_s))
        elif not self._can_hear:
            time.sleep(self._interval_s)
        elif self._hear(at_most_s):
            time.sleep(max(0.0, self._seen_at + PAUSE_S - time.monotonic()))

    def seen(self) -> bool:
        """Say whether another connection has committed since the last call."""
        self._hear(0)
        connection.ensure_connection()
        raw: sqlite3.Connection = connection.connection  # a cursor of Django's costs far more
        with connection.wrap_database_errors:
            version = int(raw.execute("PRAGMA data_version").fetchone()[0])
        is_first, changed = self._version is None, version != self._version
        self._version = version
        now = time.monotonic()
        if changed:
            self._note_miss(is_missed=not is_first and self._can_hear and self._heard_at is None)
            self._heard_at, self._seen_at = None, now
        elif self._heard_at is not None and now - self._heard_at > COMMIT_TAKES_S:
            self._heard_at = None  # a checkpoint, or a write that was taken back
        return changed

    def _hear(self, at_most_s: float) -> bool:
        """Listen; True once a write was heard of."""
        if not self._can_hear:
            return False
        try:
            if self._writes is None:
                self._writes = Writes(Path(connection.settings_dict["NAME"]))
            heard = self._writes.wait(at_most_s)
        except OSError as error:
            self._give_up(str(error))
            return False
        if heard and self._heard_at is None:
            self._heard_at = time.monotonic()
        return heard

    def _note_miss(self, *, is_missed: bool) -> None:
        """Count changes that were not heard of. The write comes first, so none should be."""
        self._misses = self._misses + 1 if is_missed else 0
        if self._misses >= MISSES_ALLOWED:
            self._give_up("changes were seen that it did not tell of")

    def _give_up(self, reason: str) -> None:
        logger.warning("The kernel does not tell of writes to the database; polling: %s", reason)
        self._can_hear = False


class Writes:
    """What the kernel tells of writes to a database's log (its file `-wal`)."""

    def __init__(self, database: Path) -> None:
        """Listen from now on. Raises OSError."""
        self._log = f"{database.name}-wal"
        # It would start other programs to find this.
        inotify_simple._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = INotify()
        # The folder, not the file: that is deleted and made anew when nobody has it open.
        self._inotify.add_watch(database.resolve().parent, flags.MODIFY | flags.CREATE)

    def __del__(self) -> None:
        if hasattr(self, "_inotify"):
            self._inotify.close()

    def wait(self, at_most_s: float) -> bool:
        """Say whether there was a write since the last call, or is one soon. Blocks."""
        until = time.monotonic() + at_most_s
        while True:
            left_ms = max(0, round((until - time.monotonic()) * 1000))
            events = list(self._inotify.read(timeout=left_ms))
            if any(event.name == self._log for event in events):
                return True
            if left_ms == 0 or not events:
                return False


class PostgreSQLChanges:
    """Hears of changes from PostgreSQL itself."""

    def __init__(self) -> None:
        self._listener = Listener()
        self._heard = True
        self._interval_s = float(settings.CHIMERA.poll_interval_s)

    def wait(self, at_most_s: float) -> None:
        """Wait for a nudge; for somebody idle, if one was heard that nobody could take. Blocks."""
        if self._heard:
            time.sleep(self._interval_s)
        else:
            self._heard = self._listener.wait(at_most_s)

    def seen(self) -> bool:
        """Say whether a nudge was heard since the last call."""
        heard, self._heard = self._heard, False
        return heard


def watch_changes() -> SQLiteChanges | PostgreSQLChanges:
    """Return the cheapest way to notice changes in this database."""
    return PostgreSQLChanges() if can_listen() else SQLiteChanges()
