"""Restore: a backup becomes an installation again, and its tasks go on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader

from tasks.lifecycle import Status
from tasks.models import Deployment, Project, Task, Worker
from tasks.workflow import dump, pids
from tasks.workflow.backup import DEMO, FORMAT, SECRET_KEY, Progress, Say
from tasks.workflow.first_start import RESTORE_DRAFT
from tasks.workflow.pidfile import AlreadyRunningError, PidFile
from tasks.workspace import mirror
from tasks.workspace.archive import ArchiveError, extract
from tasks.workspace.plumbing import GitError

# What merely looking at an empty home, or the first start, leaves there.
FRESH = {
    *(SECRET_KEY, DEMO, f"{DEMO}.lock", "static", "cache", "run", "tmp"),
    *("tasks.db", "tasks.db-wal", "tasks.db-shm", "first_start.lock", "daemon.pid", "demo.log"),
}
REPLACED = ("tasks", "repositories", DEMO)
_NAME = re.compile(
    r"secret_key|database\.(sqlite3|pgdump)|demo\.bundle|repositories/[\w-]{1,60}\.bundle|"
    r"tasks/chimera-[0-9a-z]{1,32}/.+",
    re.DOTALL,
)


class RestoreError(Exception):
    """The backup cannot be restored here; the text says why and what to do."""


@dataclass(frozen=True)
class Restored:
    """What came back: when it was made, and how many tasks were at work, or wait."""

    made_at: str
    running: int
    queued: int


def restore(file: Path, now: datetime, say: Say) -> Restored:
    """Bring the backup back into this home, which must be empty or fresh; its tasks are queued.

    One that is cut short is begun anew by calling it again. Blocks. Raises RestoreError.
    """
    home: Path = settings.CHIMERA.home
    lock = PidFile(home / "daemon.pid")
    try:
        lock.take("manage.py restore")  # whoever would start the factory meanwhile is told
    except AlreadyRunningError:
        raise RestoreError(
            "Chimera runs in this home; stop it first: chimera-daemon stop"
        ) from None
    try:
        _refuse_used(home)
        progress = Progress(say)
        manifest = _unpack(file, home, progress)
        _put_in_place(home, manifest, progress)
        restored = _resume(manifest, now)
        shutil.rmtree(home / RESTORE_DRAFT)
        return restored
    except ArchiveError as error:
        raise RestoreError(f"{file} is not restored: {error}.") from error
    except (OSError, DatabaseError, dump.DumpError, GitError) as error:
        raise RestoreError(f"{file} cannot be restored: {error}") from error
    finally:
        lock.leave()


def _refuse_used(home: Path) -> None:
    """Raise RestoreError unless nothing would be lost."""
    if (home / RESTORE_DRAFT).exists():
        return  # all that is here came from a restore that did not end
    strange = sorted(path.name for path in home.iterdir() if not is_fresh(path))
    if strange:
        names = ", ".join(strange[:5])
        raise RestoreError(
            f"{home} is in use: it holds {names}. Restore into an empty folder, named by "
            "CHIMERA_HOME."
        )
    if {Task._meta.db_table, Project._meta.db_table} <= set(connection.introspection.table_names()):
        rows = connection.cursor()
        for table, what in (
            ("tasks_task", "tasks"),
            ("tasks_project WHERE NOT is_demo", "projects"),
        ):
            rows.execute(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - of the two above
            if rows.fetchone()[0]:
                raise RestoreError(f"The database holds {what} already; name an empty one.")


def is_fresh(path: Path) -> bool:
    """Say whether an entry of a home is one of those that hold nothing worth keeping."""
    if path.name in FRESH or path == Path(connection.settings_dict["NAME"]):
        return True
    return path.is_dir() and not path.is_symlink() and next(path.iterdir(), None) is None


def _unpack(file: Path, home: Path, progress: Progress) -> dict[str, Any]:
    draft = home / RESTORE_DRAFT
    was_begun = draft.exists()
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        progress.begin("unpacking")
        if not file.is_file():
            raise ArchiveError("there is no such file")
        manifest = extract(file, draft, is_known, progress.moved)
        refuse_unfit(manifest, dump.engine(), MigrationLoader(None).disk_migrations)
    except ArchiveError:
        if not was_begun:  # nothing has been put in place yet
            shutil.rmtree(draft, ignore_errors=True)
        raise
    return manifest


def is_known(name: str) -> bool:
    """Say whether a backup may hold a file of that name."""
    return _NAME.fullmatch(name) is not None


def refuse_unfit(manifest: dict[str, Any], engine: str, known: Iterable[tuple[str, str]]) -> None:
    """Raise ArchiveError unless this version, with this kind of database, can take it."""
    if manifest.get("format") != FORMAT:
        raise ArchiveError(f"its format is {manifest.get('format')!r}, and {FORMAT} is known here")
    if manifest.get("engine") != engine:
        raise ArchiveError(
            f"it was made of a {manifest.get('engine')} database, and this one is {engine}"
        )
    migrations = manifest.get("migrations")
    strange = set(migrations.items() if isinstance(migrations, dict) else {("", "")}) - set(known)
    if strange:
        raise ArchiveError(
            f"it was made by a newer version ({manifest.get('version')}), whose schema this one "
            f"does not know ({', '.join(sorted(name for _, name in strange))}); update first"
        )
    missing = {SECRET_KEY, _database(engine)} - manifest["members"].keys()
    if missing:
        raise ArchiveError(f"it lacks {', '.join(sorted(missing))}")


def _put_in_place(home: Path, manifest: dict[str, Any], progress: Progress) -> None:
    """Move everything to where it belongs, the database last."""
    draft = home / RESTORE_DRAFT
    for name in REPLACED:
        shutil.rmtree(home / name, ignore_errors=True)
    for bundle in sorted(draft.glob("repositories/*.bundle")):
        progress.begin(f"unpacking {bundle.stem}")
        mirror.unbundle(bundle, home / "repositories" / f"{bundle.stem}.git")
    if (draft / "demo.bundle").exists():
        mirror.unbundle(draft / "demo.bundle", home / DEMO, branch="main")
    if (draft / "tasks").exists():
        (draft / "tasks").replace(home / "tasks")
    (draft / SECRET_KEY).replace(home / SECRET_KEY)
    progress.begin("restoring the database")
    dump.put_back(draft / _database(manifest["engine"]))
    call_command("migrate", interactive=False, verbosity=0)


def _resume(manifest: dict[str, Any], now: datetime) -> Restored:
    """Queue what was at work, and forget processes that are not ours."""
    Worker.objects.all().delete()
    here = (pids.host_name(), str(settings.CHIMERA.home))
    if (manifest.get("host"), manifest.get("home")) != here:
        # Perhaps they live, for the installation that the backup was made of: they are its.
        kept = Deployment.objects.filter(ended_at=None).exclude(host="")
        kept.update(ended_at=now, boot_id="")
    queued = Task.objects.filter(status=Status.QUEUED).count()
    running = Task.objects.put_back_running(
        "Chimera was restored from a backup; this phase begins anew.", now
    )
    return Restored(str(manifest.get("made_at")), running, queued)


def _database(engine: str) -> str:
    return dump.SQLITE if engine == "sqlite" else dump.POSTGRESQL
