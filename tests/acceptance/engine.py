"""A real cluster of workers for acceptance tests: start it, look at its processes, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.db import connection

from tasks.models import Project, Task, Worker
from tasks.workflow import pids
from tests.database import child_environment

ROOT = Path(__file__).resolve().parents[2]


def wait_for(claim: Callable[[], Any], within_s: float, what: str = "") -> Any:
    """Wait until `claim` holds and return its value; fail after `within_s`."""
    until = time.monotonic() + within_s
    while True:
        value = claim()
        if value:
            return value
        assert time.monotonic() < until, f"not within {within_s} s: {what or claim}"
        time.sleep(0.02)


class Engine:
    """One cluster, started as a program, on the database of the test."""

    def __init__(self, log: Path, *, workers: int, lease_s: float = 30, module: str) -> None:
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")
        }
        environ |= {
            "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
            "CHIMERA_HOME": str(settings.CHIMERA.home),
            **child_environment(),
            "CHIMERA_MAX_WORKERS": str(workers),
            "CHIMERA_LEASE_SECONDS": str(lease_s),
        }
        self.log = log
        with log.open("ab") as output:
            self.main = subprocess.Popen(
                [sys.executable, "-m", module],
                env=environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.family: set[psutil.Process] = set()

    def await_workers(self, number: int) -> list[Worker]:
        """Wait until so many workers have shown themselves and return their rows."""

        def enough() -> list[Worker]:
            assert self.main.poll() is None, self.log.read_text()
            rows = [row for row in Worker.objects.all() if is_alive(row.pid)]
            return rows if len(rows) == number else []

        rows = wait_for(enough, 60, f"{number} workers")
        self.remember()
        return list(rows)

    def remember(self) -> None:
        """Take note of every process that belongs to the cluster now."""
        process = psutil.Process(self.main.pid)
        self.family |= {process, *process.children(recursive=True)}

    @property
    def sentinel(self) -> psutil.Process:
        """Return django-q2's guard, the only child of the main process."""
        (child,) = psutil.Process(self.main.pid).children()
        return child

    def suspend_sentinel(self) -> None:
        """Stop the guard, but not while it holds SQLite's one lock for writing.

        It looks for schedules in a transaction; stopped in there it would stop everybody.
        """
        sentinel = self.sentinel
        for _ in range(20):
            sentinel.suspend()
            if connection.vendor != "sqlite":
                return
            path = connection.settings_dict["NAME"]
            with contextlib.closing(sqlite3.connect(path, timeout=0.2)) as own:
                try:
                    own.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError:
                    sentinel.resume()
        raise AssertionError("the guard holds the lock whenever one looks")

    def survivors(self) -> list[psutil.Process]:
        """Return what still runs of all processes that were ever taken note of."""
        return [process for process in self.family if is_alive(process.pid, process)]

    def await_code(self, within_s: float) -> int:
        """Wait for the main process to end and return its exit code."""
        return int(self.main.wait(timeout=within_s))

    def end(self) -> None:
        """End everything, with force."""
        with contextlib.suppress(psutil.Error):
            self.remember()
        for process in self.family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            self.main.kill()
        self.main.wait(timeout=10)


@contextlib.contextmanager
def engine(folder: Path, **options: Any) -> Iterator[Engine]:
    """Run a cluster of recorded phases within the block, and leave nothing of it behind."""
    options.setdefault("module", "tests.acceptance.stub_cluster")
    cluster = Engine(folder / "engine.log", **options)
    try:
        yield cluster
    finally:
        cluster.end()


def is_alive(pid: int, process: psutil.Process | None = None) -> bool:
    """Say whether a process runs; a zombie doesn't, nor does another with the same number."""
    if process is not None and not process.is_running():
        return False
    return pids.start_of(pid) is not None


def kill(pid: int) -> None:
    """Send SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def submit(project: Project, phase_s: float = 0.05, **order: Any) -> Task:
    """Queue a task whose phases last `phase_s` seconds each; see stub_cluster for `order`."""
    feature = json.dumps({"phase_s": phase_s, **order})
    return Task.submit(project, feature, "https://shop.example/")
