"""A backup that is made under load, restored elsewhere, where the work goes on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from tasks.lifecycle import Phase, Verdict
from tasks.models import Deployment, Project, Task
from tasks.outcome import Outcome
from tasks.workflow import backup, dump, pids
from tasks.workspace import git, staging
from tests import postgres
from tests.acceptance import journeys, scripts
from tests.acceptance.engine import wait_for
from tests.acceptance.factory import usual_options

NEW_DATABASE = "new_home"
FEATURE = "Spring sale"
TEST_PATH = "tests/e2e/test_spring_sale.py"
GO_ON = """
import sys
import django
django.setup()
from django.utils import timezone
from tasks.models import Task
from tasks.workflow import executor

Task.objects.exclude(task_id=sys.argv[1]).update(hold="approval")
lease = Task.objects.claim("new:1:1", timezone.now())
executor.run(lease, lambda: False)
task = Task.objects.get(task_id=sys.argv[1])
print(task.task_id == lease.task_id, task.status, task.attempts, task.crashes)
"""


class Load:
    """Threads that submit tasks and work on them, and what they were told."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._stopping = threading.Event()
        self.accepted: list[str] = []
        self.errors: list[Exception] = []
        self._threads = [
            threading.Thread(target=self._repeat, args=(step,))
            for step in (self._submit, self._submit, self._work)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _repeat(self, step: Any) -> None:
        try:
            while not self._stopping.is_set():
                step()
        except Exception as error:
            self.errors.append(error)
        finally:
            connection.close()

    def _submit(self) -> None:
        task = Task.submit(self._project, FEATURE, journeys.TARGET_URL)
        self.accepted.append(task.task_id)
        self._stopping.wait(0.002)

    def _work(self) -> None:
        lease = Task.objects.claim("other:1:1", timezone.now())
        run = lease and Task.objects.open_run(lease, timezone.now())
        if lease and run:
            Task.objects.settle(lease, run, Outcome(Verdict.PASSED), timezone.now())
        self._stopping.wait(0.02)  # SQLite's lock is not fair: else nobody else might ever write


@pytest.fixture
def half_done(shop: Project) -> Task:
    """Return a task whose worker is just deploying: its commits are there, its test has failed."""
    path = settings.CHIMERA.home / "repositories" / f"{shop.name}.git"
    repository = git.Repository.clone_or_fetch(path, shop.repository, timeout_s=60)
    base = repository.head("main")
    work = Path(shop.repository)
    test = scripts.TEST.format(start_path="/", feature=FEATURE)
    scripts.write(work, {TEST_PATH: test})
    test_sha = _commit(repository, work, base)
    scripts.write(
        work, {"index.html": scripts.PAGE.format(banner=f'<p role="status">{FEATURE}</p>')}
    )
    code_sha = _commit(repository, work, test_sha)
    task = Task.submit(shop, FEATURE, journeys.TARGET_URL)
    Task.objects.filter(pk=task.pk).update(
        phase=Phase.STAGING_DEPLOYMENT,
        base_sha=base,
        test_path=TEST_PATH,
        test_sha=test_sha,
        draft_sha=code_sha,
        code_sha=code_sha,
        review_decision="approved",
    )
    lease = Task.objects.claim("lost:1:1", timezone.now())
    assert lease is not None
    run = Task.objects.open_run(lease, timezone.now())
    assert run is not None
    run.folder.mkdir(parents=True)
    run.log_path.write_text("deploying\n")
    task.refresh_from_db()
    return task


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[Path]:
    """Return the place of another installation; what it stages is ended."""
    home = tmp_path / "new home"
    with contextlib.ExitStack() as stack:
        if connection.vendor == "postgresql":
            stack.enter_context(empty_database())
        yield home
        with contextlib.suppress(sqlite3.Error, psycopg.Error):
            for pid, started in rows(home, "SELECT pid, pid_started FROM tasks_deployment"):
                staging.end(pid, started)


@contextlib.contextmanager
def empty_database() -> Iterator[None]:
    """Have another database on the server of this test within the block."""
    with contextlib.closing(postgres.own().connect()) as server:
        server.execute(f"CREATE DATABASE {NEW_DATABASE}")
        yield
        server.execute(f"DROP DATABASE {NEW_DATABASE} WITH (FORCE)")


def _commit(repository: git.Repository, folder: Path, parent: str) -> str:
    return repository.commit(repository.import_tree(folder, base=parent).tree, [parent], "work")


def python(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python as another installation would."""
    env = {
        **usual_options(),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home.parent),
        "CHIMERA_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
        "PYTHONPATH": str(settings.BASE_DIR),
    }
    if connection.vendor == "postgresql":
        env["CHIMERA_DATABASE_URL"] = postgres.own().url_of(NEW_DATABASE)
    command = [sys.executable, *words]
    return subprocess.run(
        command, env=env, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=120
    )


def rows(home: Path, question: str) -> list[tuple[Any, ...]]:
    if connection.vendor == "postgresql":
        with contextlib.closing(postgres.own().connect(NEW_DATABASE)) as server:
            return server.execute(question).fetchall()  # type: ignore[call-overload, no-any-return]
    with contextlib.closing(sqlite3.connect(home / "tasks.db")) as database:
        return database.execute(question).fetchall()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.on_both
@pytest.mark.needs("pg_dump", "pg_restore")
def test_a_backup_under_load_is_restored_and_its_tasks_go_on(
    half_done: Task, shop: Project, new_home: Path, tmp_path: Path
) -> None:
    gone = {"host": pids.host_name(), "boot_id": staging.boot_id(), "pid": 1, "pid_started": 1.0}
    Deployment.objects.create(task=half_done, url="http://x/", commit_sha="a", fence=1, **gone)
    file = tmp_path / "chimera.tar.gz"
    with Load(shop) as load:
        wait_for(lambda: load.errors or len(load.accepted) >= 20, 20, "the load")
        before = list(load.accepted)
        backup.make(file, timezone.now(), lambda _: None)
    assert load.errors == []
    assert mode_of(file) == 0o600

    done = python(new_home, "manage.py", "restore", str(file))
    assert done.returncode == 0, done.stderr
    found = {task_id for (task_id,) in rows(new_home, "SELECT task_id FROM tasks_task")}
    assert {half_done.task_id, *before} <= found <= {half_done.task_id, *load.accepted}
    assert f"Tasks that will resume: {len(found)} (" in done.stdout
    assert rows(new_home, "SELECT 1 FROM tasks_task WHERE status = 'running'") == []
    assert rows(new_home, "SELECT 1 FROM tasks_deployment WHERE ended_at IS NULL") == []
    own_key = (settings.CHIMERA.home / "secret_key").read_bytes()
    assert (new_home / "secret_key").read_bytes() == own_key
    assert mode_of(new_home / "secret_key") == 0o600
    if connection.vendor == "sqlite":
        assert mode_of(new_home / "tasks.db") == 0o600
        assert rows(new_home, "PRAGMA integrity_check") == [("ok",)]
    log = new_home / "tasks" / half_done.task_id / "001-staging_deployment" / "log.txt"
    assert (log.read_text(), mode_of(log)) == ("deploying\n", 0o600)
    assert not (new_home / ".restore").exists()

    went = python(new_home, "-c", GO_ON, half_done.task_id)
    assert went.stdout == "True completed 1 0\n", went.stderr
    tries = "SELECT r.phase, r.verdict FROM tasks_phaserun r JOIN tasks_task t ON t.id = r.task_id"
    assert rows(new_home, f"{tries} WHERE t.task_id = '{half_done.task_id}' ORDER BY r.number") == [
        ("STAGING_DEPLOYMENT", "interrupted"),
        ("STAGING_DEPLOYMENT", "passed"),
        ("E2E_VALIDATION", "passed"),
    ]
    branch = (new_home / "repositories" / f"{shop.name}.git").resolve()
    sha = git.Repository.open(branch).ref(git.branch_ref(half_done.task_id))
    assert sha == half_done.code_sha

    again = python(new_home, "manage.py", "restore", str(file))
    assert again.returncode == 1
    assert "is in use" in again.stderr


@pytest.mark.django_db(transaction=True)
def test_without_evidence_it_holds_none_and_a_file_that_is_there_stays(
    half_done: Task, tmp_path: Path
) -> None:
    file = tmp_path / "chimera.tar.gz"
    backup.make(file, timezone.now() + timedelta(days=1), lambda _: None, with_evidence=False)
    with tarfile.open(file) as archive:
        names = archive.getnames()
        assert {member.mode for member in archive.getmembers()} == {0o600}
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert f"repositories/{half_done.project.name}.bundle" in names
    assert not [name for name in names if name.startswith("tasks/")]
    assert manifest["migrations"]["tasks"].startswith("000")
    content = file.read_bytes()
    with pytest.raises(backup.BackupError, match="exists already"):
        backup.make(file, timezone.now(), lambda _: None)
    assert file.read_bytes() == content


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "SQLite is copied in one step")
@pytest.mark.needs("pg_dump")
def test_a_dump_may_take_longer_than_a_transaction_may_be_idle(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "pg_dump"
    slow.write_text(f'#!/bin/sh\nsleep 1\nexec {dump.find_program("pg_dump")} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(dump, "find_program", lambda _: str(slow))
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 300")
    _, found = dump.copy(tmp_path)
    assert found.migrations["tasks"].startswith("000")
    connection.close()
