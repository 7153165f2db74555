"""What a restore refuses, and what it says. One that works: tests/acceptance/test_backup.py."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from tasks.lifecycle import Verdict
from tasks.models import Event, Project, Task
from tasks.workflow import backup, dump
from tasks.workflow.backup import Progress
from tasks.workflow.first_start import FirstStartError, prepare
from tasks.workflow.pidfile import PidFile
from tasks.workflow.restore import RestoreError, is_known, refuse_unfit, restore
from tasks.workspace.archive import ArchiveError

KNOWN = {("tasks", "0001_initial"), ("tasks", "0002_more")}
GOOD: dict[str, Any] = {
    "format": 1,
    "version": "9.9",
    "engine": "sqlite",
    "migrations": {"tasks": "0001_initial"},
    "members": {"secret_key": {}, "database.sqlite3": {}},
}


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    """Return an empty home that is this installation's for a while."""
    folder = tmp_path / "home"
    folder.mkdir()
    settings.CHIMERA = replace(django_settings.CHIMERA, home=folder)
    return folder


def try_to_restore(file: Path) -> str:
    """Return why it was refused."""
    with pytest.raises(RestoreError) as caught:
        restore(file, timezone.now(), lambda _: None)
    return str(caught.value)


def test_an_older_schema_of_the_same_kind_is_fit() -> None:
    refuse_unfit(GOOD, "sqlite", KNOWN)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"format": 2}, "format is 2"),
        ({"engine": "postgresql"}, "made of a postgresql database, and this one is sqlite"),
        ({"migrations": {"tasks": "0003_newer"}}, r"newer version \(9.9\).*0003_newer.*update"),
        ({"migrations": None}, "newer version"),
        ({"members": {"secret_key": {}}}, "it lacks database.sqlite3"),
        ({"members": {"database.sqlite3": {}}}, "it lacks secret_key"),
    ],
)
def test_what_this_version_cannot_take_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ArchiveError, match=why):
        refuse_unfit({**GOOD, **changed}, "sqlite", KNOWN)


@pytest.mark.parametrize("name", ["secret_key", "tasks/chimera-abc123/001-x/log.txt"])
def test_what_a_backup_writes_is_known(name: str) -> None:
    assert is_known(name)


@pytest.mark.parametrize(
    "name",
    [
        *("manage.py", "daemon.pid", "secret_key.old", "repositories/a/b.bundle"),
        *("repositories/../x.bundle", "tasks/x", "tasks/../x/y", "static/evil.js"),
    ],
)
def test_anything_else_is_not(name: str) -> None:
    assert not is_known(name)


def test_a_home_that_is_in_use_is_left_alone(home: Path, db: None) -> None:
    (home / "tasks").mkdir()
    (home / "tasks" / "chimera-1").mkdir()
    (home / "notes.txt").write_text("mine")
    assert "is in use: it holds notes.txt, tasks." in try_to_restore(home / "x")
    assert (home / "notes.txt").read_text() == "mine"
    assert not (home / ".restore").exists()


@pytest.mark.parametrize("what", ["tasks", "projects"])
def test_a_database_that_is_in_use_is_left_alone(home: Path, project: Project, what: str) -> None:
    Project.objects.update(is_demo=what == "tasks")
    if what == "tasks":
        Task.submit(project, "x", project.target_url)
    assert f"holds {what} already" in try_to_restore(home / "x")


def test_a_home_where_chimera_runs_is_left_alone(home: Path, db: None) -> None:
    running = PidFile(home / "daemon.pid")
    running.take("http://localhost:8000")
    try:
        assert "stop it first" in try_to_restore(home / "x")
    finally:
        running.leave()


def test_a_bad_file_leaves_a_fresh_home_fresh(home: Path, db: None) -> None:
    (home / "secret_key").write_text("fresh")
    (home / "static").mkdir()
    file = home.parent / "x.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    assert "no plain file inside" in try_to_restore(file)
    assert "no such file" in try_to_restore(home.parent / "nowhere")
    assert sorted(path.name for path in home.iterdir()) == ["secret_key", "static"]
    assert (home / "secret_key").read_text() == "fresh"


def test_a_home_whose_restore_did_not_end_is_not_started(home: Path, db: None) -> None:
    (home / ".restore").mkdir()
    with pytest.raises(FirstStartError, match=r"manage\.py restore again"):
        prepare()
    try_to_restore(home.parent / "nowhere")
    assert (home / ".restore").exists()


def test_tasks_at_work_are_put_back_with_nothing_spent(submit: Callable[..., Task]) -> None:
    open_, between, waits = submit(), submit(), submit()
    now = timezone.now()
    leases = [Task.objects.claim("w", now) for _ in range(2)]
    assert leases[0]
    assert Task.objects.open_run(leases[0], now)
    assert Task.objects.put_back_running("Restored.", now) == 2
    for task in (open_, between, waits):
        task.refresh_from_db()
        assert (task.status, task.attempts, task.crashes, task.holder) == ("queued", 0, 0, "")
    assert (open_.fence, waits.fence) == (2, 0)
    assert open_.phase_runs.get().verdict == Verdict.INTERRUPTED
    assert Event.objects.filter(kind="task.restored").count() == 2
    assert not Task.objects.renew(leases[0], now)


def test_progress_is_told_only_once_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = [0.0]
    monkeypatch.setattr(backup, "time", type("Clock", (), {"monotonic": lambda: clock[0]}))
    progress = Progress(said.append)
    progress.begin("copying the database")
    progress.moved(5_000_000)
    assert said == []
    clock[0] = 1.0
    progress.moved(7_000_000)
    progress.moved(7_000_000)
    assert said == ["  copying the database, 12 MB …"]


def test_the_programs_of_postgresql_are_found_or_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(dump, "_PLACES", tmp_path)
    with pytest.raises(dump.DumpError, match="pg_dump is not installed here"):
        dump.find_program("pg_dump")
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "pg_dump").touch()
    assert dump.find_program("pg_dump") == str(tmp_path / "17" / "bin" / "pg_dump")


def test_the_password_is_in_no_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    given = {"HOST": "db", "PORT": 5432, "USER": "me", "PASSWORD": "s3cret", "NAME": "chimera"}
    monkeypatch.setattr(dump, "connection", SimpleNamespace(settings_dict=given))
    monkeypatch.setattr(
        dump, "run", lambda command, **_: seen.append(command) or SimpleNamespace(ok=True)
    )
    dump._call("pg_dump", "--format=custom")
    assert "s3cret" not in " ".join(seen[0].argv)
    assert seen[0].env["PGPASSWORD"] == "s3cret"
    assert "SECRET_KEY" not in seen[0].env
