"""The database as one file, and what its rows say of tasks at that very moment."""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from tasks.workspace.mirror import Standing
from tasks.workspace.process import Command, ProcessError, run

SQLITE, POSTGRESQL = "database.sqlite3", "database.pgdump"
TIMEOUT_S = 6 * 3600.0
_PLACES = Path("/usr/lib/postgresql")  # Debian keeps the programs of each version here
_TASKS = (
    "SELECT p.name, t.task_id, t.fence, t.base_sha, t.test_sha, t.draft_sha, t.code_sha "
    "FROM tasks_task t JOIN tasks_project p ON p.id = t.project_id"
)
_RUNS = (
    "SELECT t.task_id, MAX(r.number) FROM tasks_phaserun r "
    "JOIN tasks_task t ON t.id = r.task_id GROUP BY t.task_id"
)
_MIGRATIONS = "SELECT app, name FROM django_migrations ORDER BY id"


class DumpError(Exception):
    """The database cannot be copied, or put back; the text says why and what to do."""


@dataclass(frozen=True)
class Rows:
    """What the copy of the database holds, as far as files and repositories depend on it."""

    standings: dict[str, dict[str, Standing]]  # by project, by task
    runs: dict[str, int]  # the number of the last try, by task
    migrations: dict[str, str]  # the last one, by app


def engine() -> str:
    """Return what kind of database this installation has."""
    return connection.vendor


def copy(folder: Path) -> tuple[Path, Rows]:
    """Copy the database into a file in `folder`, as it is at one moment. Raises DumpError."""
    if connection.vendor == "sqlite":
        return _copy_sqlite(folder / SQLITE)
    return _dump_postgresql(folder / POSTGRESQL)


def put_back(file: Path) -> None:
    """Make the content of `file` the database of this installation. Raises DumpError."""
    if connection.vendor == "sqlite":
        _put_back_sqlite(file, Path(connection.settings_dict["NAME"]))
    else:
        _restore_postgresql(file)


def _copy_sqlite(file: Path) -> tuple[Path, Rows]:
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    connection.ensure_connection()
    target = sqlite3.connect(file)
    try:
        # All pages in one step: a reader of WAL neither waits for writers nor has to begin anew.
        connection.connection.backup(target, pages=-1)
        target.execute("PRAGMA journal_mode=DELETE")
        said = target.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise DumpError(f"The database is damaged: {said}")
        return file, _read(target.cursor())
    except sqlite3.Error as error:
        raise DumpError(f"The database cannot be copied: {error}") from error
    finally:
        target.close()


def _put_back_sqlite(file: Path, target: Path) -> None:
    connection.close()
    draft = target.with_name(f"{target.name}.restored")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(file, draft)  # the database may lie on another disk
    for old in (f"{target.name}-wal", f"{target.name}-shm"):
        target.with_name(old).unlink(missing_ok=True)
    draft.replace(target)


def _dump_postgresql(file: Path) -> tuple[Path, Rows]:
    program = find_program("pg_dump")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # This session keeps the moment, and does nothing else while the other one copies.
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot = cursor.fetchone()[0]
        options = ("--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}")
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _call(program, *options, f"--file={file}")
        return file, _read(cursor)


def _restore_postgresql(file: Path) -> None:
    program = find_program("pg_restore")
    connection.close()
    _call(
        program,
        *("--clean", "--if-exists", "--no-owner", "--no-privileges"),
        *("--single-transaction", "--exit-on-error"),
        *(f"--dbname={connection.settings_dict['NAME']}", str(file)),
    )


def find_program(name: str) -> str:
    """Return a program of PostgreSQL's: from the PATH, else of the newest version installed.

    Raises DumpError.
    """
    installed = sorted(_PLACES.glob(f"*/bin/{name}"), key=lambda path: _version(path.parts[-3]))
    found = shutil.which(name) or (str(installed[-1]) if installed else "")
    if not found:
        raise DumpError(
            f"{name} is not installed here; it comes with PostgreSQL's client programs "
            "(on Debian: apt-get install postgresql-client), of the server's version or newer."
        )
    return found


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _call(program: str, *arguments: str) -> None:
    argv = (program, *arguments)
    try:
        done = run(Command(argv, _environment(), Path("/")), timeout_s=TIMEOUT_S)
    except ProcessError as error:
        raise DumpError(str(error)) from error
    if not done.ok:
        name = Path(program).name
        raise DumpError(f"{name} ended with code {done.returncode}: {done.output_tail.strip()}")


def _environment() -> dict[str, str]:
    """Return where the server is, and who we are there; a password belongs into no argument."""
    given = connection.settings_dict
    options = given.get("OPTIONS", {})
    values = {
        "PGHOST": given["HOST"],
        "PGPORT": given["PORT"],
        "PGUSER": given["USER"],
        "PGPASSWORD": given["PASSWORD"],
        "PGDATABASE": given["NAME"],
        "PGSSLMODE": options.get("sslmode"),
        "PGSSLROOTCERT": options.get("sslrootcert"),
        "PGPASSFILE": options.get("passfile"),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LC_ALL": "C",
    }
    return {name: str(value) for name, value in values.items() if value}


def _read(cursor: Any) -> Rows:
    standings: dict[str, dict[str, Standing]] = {}
    cursor.execute(_TASKS)
    for project, task_id, fence, base, test, draft, code in cursor.fetchall():
        standing = Standing(fence, code or test, (base, test, draft, code))
        standings.setdefault(project, {})[task_id] = standing
    cursor.execute(_RUNS)
    runs = dict(cursor.fetchall())
    cursor.execute(_MIGRATIONS)
    return Rows(standings, runs, dict(cursor.fetchall()))
