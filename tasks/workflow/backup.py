"""Backup: everything that cannot be made again, in one file, while work goes on."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from tasks.workflow import dump, pids
from tasks.workspace import mirror
from tasks.workspace.archive import Writer, writing
from tasks.workspace.plumbing import GitError

FORMAT = 1
SECRET_KEY = "secret_key"  # noqa: S105 - the name of a file
DEMO = "demo.git"
QUIET_FOR_S = 1.0  # what takes no longer is done without a word, and then a word a second
_RUN_FOLDER = re.compile(r"(\d+)-")

Say = Callable[[str], None]


class BackupError(Exception):
    """The backup cannot be made; the text says why and what to do."""


class Progress:
    """Says what is being done, and how far it is, once it takes long."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told_at = time.monotonic()
        self._doing = ""
        self._moved_bytes = 0

    def begin(self, doing: str) -> None:
        """Go on to the next thing."""
        self._doing = doing
        self._moved_bytes = 0
        self.moved(0)

    def moved(self, size_bytes: int) -> None:
        """Note that so many bytes more are done."""
        self._moved_bytes += size_bytes
        now = time.monotonic()
        if now - self._told_at >= QUIET_FOR_S:
            self._told_at = now
            far = f", {self._moved_bytes // 10**6} MB" if self._moved_bytes else ""
            self._say(f"  {self._doing}{far} …")


def make(file: Path, now: datetime, say: Say, *, with_evidence: bool = True) -> int:
    """Write a backup to `file`, which must not exist yet; return its size in bytes.

    The database is copied first. What belongs to its rows, commits and evidence, exists by then
    and isn't changed any more, so copying it afterwards is safe. Blocks. Raises BackupError.
    """
    if file.exists():
        raise BackupError(f"{file} exists already; name a new file.")
    home: Path = settings.CHIMERA.home
    progress = Progress(say)
    try:
        with (
            tempfile.TemporaryDirectory(dir=file.parent, prefix=".chimera-backup-") as folder,
            writing(file, progress.moved) as archive,
        ):
            progress.begin("copying the database")
            database, rows = dump.copy(Path(folder))
            archive.add(database.name, database)
            if not archive.add(SECRET_KEY, home / SECRET_KEY):
                raise BackupError(f"{home / SECRET_KEY} cannot be read.")
            _add_repositories(archive, home, rows, Path(folder), progress)
            if with_evidence:
                progress.begin("copying logs and evidence")
                for name, path in _evidence(home / "tasks", rows):
                    archive.add(name, path)
            progress.begin("finishing")
            archive.finish(_about(now, rows, with_evidence=with_evidence), now.timestamp())
    except FileExistsError:
        raise BackupError(f"{file} exists already; name a new file.") from None
    except (OSError, dump.DumpError, GitError) as error:
        raise BackupError(f"The backup cannot be made: {error}") from error
    return file.stat().st_size


def _about(now: datetime, rows: dump.Rows, *, with_evidence: bool) -> dict[str, object]:
    return {
        "format": FORMAT,
        "version": _version(),
        "made_at": now.astimezone(UTC).isoformat(timespec="seconds"),
        "engine": dump.engine(),
        "migrations": rows.migrations,
        "host": pids.host_name(),
        "home": str(settings.CHIMERA.home),
        "tasks": sum(map(len, rows.standings.values())),
        "has_evidence": with_evidence,
    }


def _version() -> str:
    try:
        return importlib.metadata.version("chimera-daemon")
    except importlib.metadata.PackageNotFoundError:  # a checkout that was never installed
        return "unknown"


def _add_repositories(
    archive: Writer, home: Path, rows: dump.Rows, folder: Path, progress: Progress
) -> None:
    found = sorted((home / "repositories").glob("*.git"))
    for path in [*found, home / DEMO]:
        if not path.is_dir():
            continue
        progress.begin(f"copying {path.name}")
        bundle = folder / f"{path.stem}.bundle"
        is_demo = path.name == DEMO and path.parent == home
        standings = {} if is_demo else rows.standings.get(path.stem, {})
        if mirror.bundle(path, bundle, standings):
            archive.add(bundle.name if is_demo else f"repositories/{bundle.name}", bundle)
            bundle.unlink()


def _evidence(folder: Path, rows: dump.Rows) -> Iterator[tuple[str, Path]]:
    """Yield the files of all tries that the rows know, each with its name in the archive."""
    for task_id, last in sorted(rows.runs.items()):
        for path in _files(folder / task_id):
            inside = path.relative_to(folder / task_id)
            run = _RUN_FOLDER.match(inside.parts[0])
            if run is None or int(run[1]) <= last:
                yield f"tasks/{task_id}/{inside.as_posix()}", path


def _files(folder: Path) -> Iterator[Path]:
    """Yield the plain files below a folder, following no link."""
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(place) / name
            if path.is_file() and not path.is_symlink():
                yield path
