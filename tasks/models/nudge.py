"""Waking those who wait for changes, where the database can: LISTEN and NOTIFY of PostgreSQL.

A nudge only says "look", so one that is lost does no harm: everybody looks by a clock too. On
SQLite there is nothing to send; its readers ask whether the file has changed.
"""

from __future__ import annotations

import time

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

CHANNEL = "chimera"
# Tells a connection that hears nothing for so long from one that is dead.
PROVE_ALIVE_EVERY_S = 30.0


def nudge(using: str) -> None:
    """Wake all listeners when the transaction at hand commits. Nothing but PostgreSQL does it."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


def nudge_in_turn(using: str, turnstile: int) -> None:
    """Nudge, after waiting until no transaction that passed the same turnstile is open. Blocks.

    SQLite has one writer at a time, so there is nothing to wait for.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            ask = "SELECT pg_advisory_xact_lock(%s), pg_notify(%s, '')"
            cursor.execute(ask, [turnstile, CHANNEL])


def can_listen(using: str = "default") -> bool:
    """Say whether this database sends nudges."""
    return connections[using].vendor == "postgresql"


class Listener:
    """Hears nudges on a connection of its own, which it makes again when it was lost.

    For one thread. It connects at the first wait, so it may be made before a fork.
    """

    def __init__(self, using: str = "default") -> None:
        self._using = using
        self._own: BaseDatabaseWrapper | None = None
        self._proven_at = 0.0

    def wait(self, timeout_s: float) -> bool:
        """Say whether something may have changed; at the latest after `timeout_s`. Blocks.

        True as well after a new connection was made: nobody knows what was missed. Raises
        django.db.Error while the database is away.
        """
        if self._own is None:
            self._connect()
            return True
        try:
            return self._hear(self._own, timeout_s)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def __del__(self) -> None:
        self.close()

    def _connect(self) -> None:
        own = connections[self._using].copy()
        own.inc_thread_sharing()  # the garbage collector may close it in any thread
        try:
            with own.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            own.close()
            raise
        self._own = own
        self._proven_at = time.monotonic()

    def _hear(self, own: BaseDatabaseWrapper, timeout_s: float) -> bool:
        raw = own.connection
        with own.wrap_database_errors:
            heard = any(True for _ in raw.notifies(timeout=timeout_s, stop_after=1))
            if not heard and time.monotonic() - self._proven_at > PROVE_ALIVE_EVERY_S:
                raw.execute("SELECT 1")
                self._proven_at = time.monotonic()
        return heard
