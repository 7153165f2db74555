"""Migrating a database that is in use: the schema that results, and nobody's rows lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

# Prints what the database looks like: columns and constraints of every table of ours.
DESCRIBE = """
import json
from django.apps import apps
from django.db import connection

found = {}
with connection.cursor() as cursor:
    for model in apps.get_app_config("tasks").get_models():
        table = model._meta.db_table
        columns = connection.introspection.get_table_description(cursor, table)
        rules = connection.introspection.get_constraints(cursor, table)
        indexes = cursor.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = %s AND sql > ''",
            [table],
        ).fetchall()
        found[table] = {
            "columns": sorted(
                [c.name, c.type_code, c.null_ok, str(c.default), c.pk] for c in columns
            ),
            "rules": sorted(
                [str(r["columns"]), r["unique"], r["check"], str(r["foreign_key"])]
                for r in rules.values()
            ),
            "indexes": sorted(sql for (sql,) in indexes if "CREATE INDEX" in sql),
        }
print(json.dumps(found))
"""
MIGRATE = """
import sys
import django
django.setup()
from django.core.management import call_command
call_command("migrate", *sys.argv[1:], verbosity=0)
"""
# The models alone, as if there had never been a migration.
WITHOUT_HISTORY = """
from django.conf import settings
import chimera_site.settings
chimera_site.settings.MIGRATION_MODULES = {"tasks": None}
import django
django.setup()
from django.core.management import call_command
call_command("migrate", run_syncdb=True, verbosity=0)
"""
# A program of the release before, as far as its tables go: submits, claims and settles.
OLD_PROGRAM = """
import sys
import threading
import time
import django
django.setup()
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.models import F
from django.utils import timezone

apps = MigrationLoader(connection).project_state(("tasks", sys.argv[1])).apps
Task = apps.get_model("tasks", "Task")
Project = apps.get_model("tasks", "Project")
project = Project.objects.get()
number = 0
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
print("ready", flush=True)
while not stop.is_set():
    number += 1
    time.sleep(0.005)
    now = timezone.now()
    task = Task.objects.create(
        project=project, task_id=f"chimera-old{number}", feature="x", target_url="http://a/",
        rank=number, due_at=now, created_at=now,
    )
    own = Task.objects.filter(pk=task.pk, fence=0, status="queued")
    with transaction.atomic():
        assert own.update(status="running", fence=F("fence") + 1, holder="old",
                          lease_expires_at=now) == 1
    held = Task.objects.filter(pk=task.pk, fence=1, status="running")
    assert held.update(status="completed", phase="COMPLETE", holder="", lease_expires_at=None,
                       completed_at=now) == 1
print(number)
"""


def environment(home: Path) -> dict[str, str]:
    """Return the environment of another installation."""
    return {
        "PATH": os.defpath,
        "CHIMERA_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
        "PYTHONPATH": str(settings.BASE_DIR),
    }


@contextmanager
def python(home: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python in another installation; it is over when the block is."""
    child = subprocess.Popen(
        [sys.executable, *words],
        env=environment(home),
        cwd=settings.BASE_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def run(home: Path, *words: str) -> str:
    """Run Python to its end and return what it printed."""
    with python(home, *words) as child:
        said, complained = child.communicate(timeout=60)
        assert child.returncode == 0, complained
        return said


@pytest.fixture(scope="module")
def first_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home whose database has the schema of the first migration, and rows in it."""
    home = tmp_path_factory.mktemp("first")
    run(home, "-c", MIGRATE, "tasks", "0001")
    with closing(sqlite3.connect(home / "tasks.db")) as database:
        insert(
            database,
            "tasks_project",
            name="shop",
            repository="/x",
            branch="main",
            target_url="http://a/",
            target_origin="http://a:80",
            serve_command="x",
            **dict.fromkeys(("install_command", "test_command", "reviewer"), ""),
            health_path="/",
            e2e_folder="tests/e2e",
            author="a",
            coder="c",
            protected_paths="[]",
            time_limits="{}",
            created_at="2030-01-01",
            **dict.fromkeys(("agent_network", "is_demo"), 0),
            max_changed_lines=1,
            max_changed_files=1,
        )
        database.commit()
    return home


@pytest.fixture
def home(first_release: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    shutil.copytree(first_release, tmp_path / "home")
    return tmp_path / "home"


def insert(database: sqlite3.Connection, table: str, **columns: Any) -> None:
    names, places = ", ".join(columns), ", ".join("?" for _ in columns)
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(columns.values()))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the schema of a database that is made by today's models alone."""
    home = tmp_path_factory.mktemp("fresh")
    return dict(json.loads(run(home, "-c", WITHOUT_HISTORY + DESCRIBE)))


def test_a_migrated_database_is_like_a_fresh_one_and_keeps_its_rows(
    fresh: dict[str, Any], home: Path
) -> None:
    assert json.loads(run(home, "-c", MIGRATE + DESCRIBE)) == fresh
    with closing(sqlite3.connect(home / "tasks.db")) as database:
        asked = "SELECT name, max_open_tasks, deploy_command FROM tasks_project"
        assert database.execute(asked).fetchall() == [("shop", 0, "")]


def test_a_program_of_the_release_before_works_on_while_the_schema_changes(home: Path) -> None:
    run(home, "-c", MIGRATE, "tasks", "0002")
    old = "0002_script_deployment_and_retention"
    with python(home, "-c", OLD_PROGRAM, old) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        run(home, "-c", MIGRATE)
        said, complained = program.communicate("stop\n", timeout=60)
    assert program.returncode == 0, complained
    assert int(said) > 0
    with closing(sqlite3.connect(home / "tasks.db")) as database:
        asked = "SELECT COUNT(*), MIN(fence), MAX(fence) FROM tasks_task WHERE status = 'completed'"
        assert database.execute(asked).fetchall() == [(int(said), 1, 1)]
        assert database.execute("SELECT COUNT(*) FROM tasks_task").fetchone() == (int(said),)
