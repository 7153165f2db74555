"""What the web server has answered to outlives a power cut too, on SQLite."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


def install() -> None:
    """Have every connection of this process wait for the disk at each commit.

    Workers don't: what a power cut takes from them is a phase that is done again.
    """
    connection_created.connect(_wait_for_the_disk, dispatch_uid="chimera.durable")


def _wait_for_the_disk(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous=FULL")
