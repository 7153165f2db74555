"""How a commit on SQLite is noticed: by what the kernel tells, and by asking where it is silent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from tasks.workflow import changes
from tasks.workflow.changes import SQLiteChanges, Writes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.only_on("sqlite")]
FAR_S = 600.0  # longer than any test may last: only a write ends such a wait


@pytest.fixture
def other() -> Iterator[sqlite3.Connection]:
    """Return another connection to the database of the test."""
    made = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=60)
    made.execute("CREATE TABLE IF NOT EXISTS written (x)")
    yield made
    made.execute("DROP TABLE written")
    made.close()


@pytest.fixture
def watch(other: sqlite3.Connection) -> SQLiteChanges:
    """Return a watch that has seen everything so far and hears of all that follows."""
    made = SQLiteChanges()
    settle(made)
    return made


def settle(watch: SQLiteChanges) -> None:
    while watch.seen() or watch._heard_at is not None:
        watch.wait(0)


def write(other: sqlite3.Connection) -> None:
    other.execute("INSERT INTO written VALUES (1)")


def test_a_commit_ends_the_waiting_and_is_seen(
    watch: SQLiteChanges, other: sqlite3.Connection
) -> None:
    write(other)
    while not watch.seen():
        watch.wait(FAR_S)
    assert watch.seen() is False


def test_a_commit_that_was_heard_of_too_early_is_waited_for(
    watch: SQLiteChanges, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "COMMIT_TAKES_S", FAR_S)
    watch._heard_at = changes.time.monotonic()  # the kernel was first, SQLite shows nothing yet
    assert watch.seen() is False
    watch.wait(FAR_S)  # comes back by itself, without another write
    write(other)
    assert watch.seen() is True


def test_what_nobody_could_look_at_is_seen_later(
    watch: SQLiteChanges, other: sqlite3.Connection
) -> None:
    write(other)
    watch.wait(FAR_S)
    for _ in range(3):
        watch.wait(FAR_S)  # returns, as long as the change is not seen
    assert watch.seen() is True


def test_without_word_from_the_kernel_it_asks(
    other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(_: Path) -> Writes:
        raise OSError("no such thing here")

    monkeypatch.setattr(changes, "Writes", deaf)
    watch = SQLiteChanges()
    settle(watch)
    write(other)
    watch.wait(FAR_S)
    assert watch.seen() is True


def test_a_kernel_that_tells_of_nothing_is_given_up(
    watch: SQLiteChanges,
    other: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Writes, "wait", lambda *_: False)
    for _ in range(changes.MISSES_ALLOWED):
        write(other)
        assert watch.seen() is True
    assert "polling" in caplog.text
    watch.wait(FAR_S)  # asks at its interval from now on


def test_a_log_that_was_deleted_and_made_anew_is_heard(tmp_path: Path) -> None:
    database = tmp_path / "some.db"
    writes = Writes(database)
    for _ in range(2):
        log = tmp_path / "some.db-wal"
        log.write_bytes(b"x")
        assert writes.wait(FAR_S) is True
        log.unlink()


def test_other_files_of_the_folder_are_nobodys_business(tmp_path: Path) -> None:
    writes = Writes(tmp_path / "some.db")
    (tmp_path / "daemon.log").write_bytes(b"x")
    assert writes.wait(0.01) is False
