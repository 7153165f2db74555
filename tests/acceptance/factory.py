"""A factory at work, for acceptance tests: the daemon, projects, tasks by HTTP, and the rows."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tasks.workspace import staging
from tests.acceptance import scripts
from tests.acceptance.daemon import Daemon, free_port
from tests.acceptance.engine import ROOT, wait_for

SLOTS = 5
SITE = "https://shop.example/"
DEMO = "demo-scripted"  # the demo's repository, worked on by a scripted agent
DEMO_SERVE = "python -m bookshop --port {port}"
DEMO_LAYOUT = "bookshop/templates/base.html"


@dataclass(frozen=True)
class Run:
    """One try at a phase, as its row has it; times in seconds since the epoch."""

    task_id: str
    phase: str
    attempt: int
    worker: str
    fence: int
    verdict: str
    reason: str
    started_at: float
    finished_at: float


@dataclass(frozen=True)
class Sample:
    """What the API said of all tasks, at some moment between two times."""

    asked_at: float
    answered_at: float
    tasks: dict[str, dict[str, Any]]


class Factory:
    """A home with the demo, and a small shop that the scripted agent of `play` works on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        self.play = folder / "play"
        scripts.good_author(self.play)
        scripts.good_coder(self.play)
        self.daemon = Daemon(self.home, free_port(), **usual_options())
        self.supervisor: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start the factory for the first time, and register projects as a person would."""
        self.start()
        shop = {
            "--repository": str(scripts.make_repository(self.folder / "repository")),
            "--target-url": SITE,
            "--test": "python -m pytest -q -p no:cacheprovider tests",
            "--serve": scripts.SERVE,
            "--author": f"scripted:{self.play}",
            "--coder": f"scripted:{self.play}",
        }
        self._register("shop", shop)
        play = self.folder / "demo-play"
        scripts.good_author(play)
        layout = (ROOT / "demo" / DEMO_LAYOUT).read_text()
        banner = layout.replace("</header>", f"</header>\n  {scripts.BANNER}")
        scripts.write(play, {f"coder/files/{DEMO_LAYOUT}": banner})
        demo = {
            "--repository": str(self.home / "demo.git"),
            "--target-url": "https://demo.example/",
            "--test": "python -m pytest -q tests",
            "--serve": DEMO_SERVE,
            "--author": f"scripted:{play}",
            "--coder": f"scripted:{play}",
        }
        self._register(DEMO, demo)

    def _register(self, name: str, options: dict[str, str]) -> None:
        words = [f"{option}={value}" for option, value in options.items()]
        added = self.daemon.manage("project", "add", name, *words)
        assert added.returncode == 0, added.stdout + added.stderr

    def start(self, **options: str) -> None:
        """Start the factory if it does not run; wait until all its workers are there."""
        if self.supervisor is not None and self.supervisor.poll() is None:
            return
        self.daemon.options = {**usual_options(), **options}
        self.supervisor = self.daemon.start()
        wait_for(lambda: len(self.workers()) == SLOTS, 30, "all workers")

    def terminate(self, within_s: float) -> int:
        """Send SIGTERM to the factory and wait for its end; return its exit code."""
        assert self.supervisor is not None
        self.daemon.family(self.supervisor)
        self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(timeout=within_s)

    def submit(self, feature: str, project: str = "shop", **fields: Any) -> str:
        """POST a feature request and return the task's id."""
        (url,) = self.rows("SELECT target_url FROM tasks_project WHERE name = ?", project)[0]
        body = {"feature": feature, "target_url": url, "project": project, **fields}
        code, said = self.daemon.ask("/api/tasks", body)
        assert (code, said["project"]) == (201, project), said
        return str(said["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """GET a task."""
        code, said = self.daemon.ask(f"/api/tasks/{task_id}")
        assert code == 200, said
        return said

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers that /health lists; none while nobody answers."""
        return list((self.daemon.health() or {}).get("workers", []))

    def watch(self, task_ids: Iterable[str], within_s: float) -> list[Sample]:
        """Ask for all tasks, ten times a second, until the named ones have ended."""
        wanted = set(task_ids)
        until = time.monotonic() + within_s
        samples: list[Sample] = []
        while True:
            asked_at = time.time()
            _, said = self.daemon.ask("/api/tasks?page_size=200")
            tasks = {each["task_id"]: each for each in said["results"] if each["task_id"] in wanted}
            samples.append(Sample(asked_at, time.time(), tasks))
            if all(each["status"] not in {"queued", "running"} for each in tasks.values()):
                return samples
            assert time.monotonic() < until, f"no end within {within_s} s: {tasks}"
            time.sleep(0.1)

    def await_end(self, task_id: str, within_s: float) -> dict[str, Any]:
        """Wait until a task has ended and return it."""
        return self.watch([task_id], within_s)[-1].tasks[task_id]

    @contextlib.contextmanager
    def coder(self, mode: str) -> Iterator[None]:
        """Have the coder misbehave within the block; see scripted_runner for the modes."""
        path = self.play / "coder" / "mode.txt"
        path.write_text(mode)
        try:
            yield
        finally:
            path.unlink()

    def await_agent(self, task_id: str) -> tuple[psutil.Process, set[psutil.Process]]:
        """Wait until the coder misbehaves; return the worker it works for, and all that it runs."""
        logs = f"tasks/{task_id}/*-code_implementation/log.txt"
        wait_for(
            lambda: any("I am told to" in log.read_text() for log in self.home.glob(logs)),
            60,
            "the coder",
        )
        (pid,) = [each["pid"] for each in self.workers() if each["task"] == task_id]
        worker = psutil.Process(pid)
        family = set(worker.children(recursive=True))
        assert any(str(self.play) in process.cmdline() for process in family)
        return worker, family

    def runs(self, *task_ids: str) -> list[Run]:
        """Return the tries of these tasks, in order; an open one has no end yet: now."""
        rows = self.rows(
            "SELECT t.task_id, r.phase, r.attempt, r.worker, r.fence, r.verdict, r.reason, "
            "r.started_at, r.finished_at "
            "FROM tasks_phaserun r JOIN tasks_task t ON t.id = r.task_id ORDER BY r.id"
        )
        return [
            Run(*row[:-2], seconds(row[-2]), seconds(row[-1]) if row[-1] else time.time())
            for row in rows
            if row[0] in task_ids
        ]

    def rows(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what the database holds: the truth, to the microsecond."""
        with contextlib.closing(sqlite3.connect(self.home / "tasks.db", timeout=20)) as database:
            return database.execute(question, values).fetchall()

    def let_silence_pass(self, seconds_: int) -> None:
        """Have workers been heard from that much longer ago: the clock is all that is faked."""
        with contextlib.closing(sqlite3.connect(self.home / "tasks.db", timeout=20)) as database:
            database.execute(
                "UPDATE tasks_worker SET seen_at = strftime('%Y-%m-%d %H:%M:%f', seen_at, ?)",
                (f"-{seconds_} seconds",),
            )
            database.commit()

    def git(self, *words: str, project: str = "shop") -> str:
        """Ask the project's bare repository."""
        path = self.home / "repositories" / f"{project}.git"
        done = subprocess.run(["git", *words], cwd=path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def end(self) -> None:
        """End everything: the factory, and the staged sites, which outlive it."""
        self.daemon.end()
        with contextlib.suppress(sqlite3.Error):
            for pid, started in self.rows("SELECT pid, pid_started FROM tasks_deployment"):
                staging.end(pid, started)


def usual_options() -> dict[str, str]:
    """Return the options of a factory as people run it, with this machine's browser."""
    chosen = {"CHIMERA_MAX_WORKERS": str(SLOTS), "CHIMERA_CHROMIUM": "", "CHIMERA_DEMO": "1"}
    names = ("CHIMERA_CHROMIUM", "CHIMERA_SANDBOX")
    return chosen | {name: os.environ[name] for name in names if name in os.environ}


def seconds(text: str) -> float:
    """Return a time of the database in seconds since the epoch."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; zombies don't."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
