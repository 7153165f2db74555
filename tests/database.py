"""The database of a test, whichever it is: how another process gets there, how to disturb it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

from django.db import connection, connections

from tests import postgres


def child_environment() -> dict[str, str]:
    """Return the options that have a child process work on the database of this test."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return {"CHIMERA_DB_PATH": name}
    return {"CHIMERA_DATABASE_URL": postgres.own().url_of(name)}


@contextlib.contextmanager
def locked_for(seconds: float) -> Iterator[None]:
    """Let nobody write for so long, by a clock: SQLite's one lock, or that of the Task table.

    This connection gives up on a lock after a tenth of a second, not after twenty.
    """
    other: Any
    if connection.vendor == "sqlite":
        _say("PRAGMA busy_timeout = 100")
        other = sqlite3.connect(connection.settings_dict["NAME"], check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
    else:
        _say("SET lock_timeout = 100")
        other = postgres.own().connect(connection.settings_dict["NAME"])
        other.autocommit = False
        other.execute("LOCK TABLE tasks_task IN ACCESS EXCLUSIVE MODE")
    timer = threading.Timer(seconds, other.rollback)
    timer.start()
    try:
        yield
    finally:
        timer.join()
        other.close()


@contextlib.contextmanager
def outage() -> Iterator[None]:
    """Have no PostgreSQL within the block: it ends like in a crash and starts again afterwards."""
    server = postgres.own()
    server.stop()
    try:
        yield
    finally:
        server.start()
        connections.close_all()


def end_listeners() -> int:
    """End the connections that listen, as a network may; return how many there were."""
    ask = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"
    with contextlib.closing(postgres.own().connect()) as other:
        return len(other.execute(ask).fetchall())


def _say(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
