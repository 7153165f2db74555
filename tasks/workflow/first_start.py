"""The first start on an empty home: the embedded database, and the demo as its first project."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from tasks.models import Project
from tasks.workspace import git

logger = logging.getLogger(__name__)

RESTORE_DRAFT = ".restore"  # unpacked by a restore; while it lies there, that has not ended
DEMO_NAME = "demo"
DEMO_ADDRESS = "http://demo.localhost/"  # where its people would use it; nothing listens there


class FirstStartError(Exception):
    """The home cannot be brought to the state that this version needs."""


def prepare() -> None:
    """Bring database and demo up to date. Safe to repeat, and to race with another process.

    Blocks. Raises FirstStartError, with what to do.
    """
    home: Path = settings.CHIMERA.home
    if (home / RESTORE_DRAFT).exists():
        raise FirstStartError(
            f"A backup was being restored into {home}, and that did not end. Run manage.py restore "
            "again; it begins anew."
        )
    with _alone(home / "first_start.lock"):
        try:
            bring_database_up()
            if settings.CHIMERA.demo:
                register_demo(Path(settings.BASE_DIR) / "demo", home / "demo.git")
        except (OperationalError, InterfaceError) as error:
            raise FirstStartError(f"The database does not answer: {error}") from error


def bring_database_up() -> None:
    """Migrate the embedded database; of a server's, only say that it has to be done.

    Other hosts may still work on a shared database with the schema of before, so migrating that
    one is left to the operator. Raises FirstStartError.
    """
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not missing:
        return
    if connection.vendor != "sqlite":
        raise FirstStartError(
            f"The database lacks {len(missing)} migrations. Run: .venv/bin/python manage.py migrate"
        )
    call_command("migrate", interactive=False, verbosity=0)


def register_demo(folder: Path, repository: Path) -> None:
    """Keep the bundled shop as a repository of its own, and as a project.

    An installation without the folder has no demo. Agents and commands that its owner has
    changed stay as they are. Raises FirstStartError.
    """
    if not folder.is_dir():
        return
    stranger = Project.objects.filter(name=DEMO_NAME, is_demo=False).exists()
    if stranger:
        logger.warning("A project of your own is called %r; the demo is left out", DEMO_NAME)
        return
    try:
        git.create_from_folder(folder, repository, branch="main", message="Open the bookshop")
    except git.GitError as error:
        raise FirstStartError(f"The demo's repository cannot be made: {error}") from error
    demo, _ = Project.objects.get_or_create(
        name=DEMO_NAME,
        defaults={
            "is_demo": True,
            "repository": str(repository),
            "branch": "main",
            "target_url": DEMO_ADDRESS,
            "serve_command": "python -m bookshop --port {port}",
            "test_command": "python -m pytest -q tests",
            "health_path": "/",
            "author": "playbook",
            "coder": "playbook",
        },
    )
    if demo.repository != str(repository):  # the home was moved
        Project.objects.filter(pk=demo.pk).update(repository=str(repository))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes waiting; the kernel gives the lock back if this one is killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
