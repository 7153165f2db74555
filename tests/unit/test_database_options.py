"""What every connection to the embedded database is told."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from django.conf import settings

MIB = 2**20


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(settings.DATABASES["default"]["OPTIONS"]["init_command"])
    return connection


def test_the_log_of_writes_shrinks_again_after_a_burst(tmp_path: Path) -> None:
    log = tmp_path / "rows.db-wal"
    one, other = connect(tmp_path / "rows.db"), connect(tmp_path / "rows.db")
    one.execute("CREATE TABLE row (content BLOB)")
    one.execute("BEGIN")
    one.executemany("INSERT INTO row VALUES (?)", [(bytes(MIB),)] * 20)
    one.execute("COMMIT")
    assert log.stat().st_size > 20 * MIB
    other.execute("INSERT INTO row VALUES ('the next write')")
    assert log.stat().st_size <= 16 * MIB
    one.close()
    other.close()
