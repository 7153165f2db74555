"""Measure how soon a cluster on default settings recovers, and how soon `/health` answers.

    make bench, or: python -m benchmarks.recovery   (CHIMERA_DATABASE_URL chooses PostgreSQL)

`manage.py qcluster` runs alone, without the supervisor, and with the default lease of 30 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import engine
from benchmarks.bench import percentile
from tests.escape import processes_with

PHASE = "CODE_IMPLEMENTATION"
MANY = 20_000


def main() -> int:
    """Measure everything and print it as it comes."""
    options = _parse()
    with tempfile.TemporaryDirectory(prefix="chimera-recovery-") as home:
        engine._enter(home)
        project = engine._prepare()
        from django.db import connection

        report: dict[str, Any] = {"database": connection.vendor, "cores": os.cpu_count()}
        report["busy"] = _told("busy", killed_busy_workers(project, options.rounds))
        report["idle"] = _told("idle", killed_idle_workers(project, options.rounds))
        report["processes"] = _told("processes", left_processes(project, Path(home)))
        report["health"] = _told("health", health(project))
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


def killed_busy_workers(project: Any, rounds: int) -> dict[str, float]:
    """Kill a busy worker; seconds until its lease is free, and until the phase begins again."""
    from django.utils import timezone

    from tasks.models import PhaseRun, Task

    noticed, resumed = [], []
    with _cluster() as main:
        for _ in range(rounds):
            _await_workers(main, 2)
            task = _submit(project, for_ever_in=PHASE)
            runs = PhaseRun.objects.filter(task=task, phase=PHASE)
            first = _wait_for(lambda runs=runs: runs.filter(verdict="").first())
            pid = int(first.worker.split(":")[1])
            began = time.monotonic()
            psutil.Process(pid).kill()
            held = Task.objects.filter(pk=task.pk, fence=first.fence)
            _wait_for(
                lambda held=held: not held.filter(lease_expires_at__gt=timezone.now()).exists()
            )
            noticed.append(time.monotonic() - began)
            _wait_for(runs.exclude(pk=first.pk).exists)
            resumed.append(time.monotonic() - began)
            Task.objects.get(pk=task.pk).cancel()
    return {
        "rounds": rounds,
        "noticed_p50_s": statistics.median(noticed),
        "noticed_max_s": max(noticed),
        "resumed_p50_s": statistics.median(resumed),
        "resumed_max_s": max(resumed),
    }


def killed_idle_workers(project: Any, rounds: int) -> dict[str, float]:
    """Kill all idle workers; seconds until a new task is done, with a new cluster if need be."""
    took, ended = [], 0
    for _ in range(rounds):
        with contextlib.ExitStack() as stack:
            main = stack.enter_context(_cluster())
            for process in _await_workers(main, 2):
                process.kill()
            began = time.monotonic()
            task = _submit(project)
            while not _is_completed(task):
                if not main.is_running() or main.status() == psutil.STATUS_ZOMBIE:
                    ended += 1  # a supervisor, or systemd, starts another
                    main = stack.enter_context(_cluster())
                time.sleep(0.02)
            took.append(time.monotonic() - began)
    return {"rounds": rounds, "restarts": ended, "healed_max_s": max(took)}


def left_processes(project: Any, home: Path) -> dict[str, float]:
    """Kill a worker, or cancel its task; seconds until no process of the task is alive.

    The task's program has forked twice, begun sessions, and ignores SIGTERM.
    """
    from tasks.models import PhaseRun

    figures = {}
    with _cluster() as main:
        for mode in ("auto", "off"):
            for end in ("crash", "cancel"):
                _await_workers(main, 2)
                folder = home / f"{end}-{mode}"
                folder.mkdir()
                order = {"runs": str(folder), "sandbox": mode, "limit_s": 600}
                task = _submit(project, **order)
                _wait_for((folder / "hangs").exists)
                run = PhaseRun.objects.get(task=task, verdict="")
                began = time.monotonic()
                if end == "cancel":
                    task.cancel()
                else:
                    psutil.Process(int(run.worker.split(":")[1])).kill()
                _wait_for(lambda folder=folder: not processes_with(str(folder)))
                figures[f"{end}_{mode}_s"] = time.monotonic() - began
    return figures


def health(project: Any) -> dict[str, float]:
    """Return the milliseconds of `/health` with 20,000 tasks in the table."""
    from django.test import Client

    engine._empty()
    engine._fill(project, MANY)
    client = Client(HTTP_HOST="localhost")
    spent_ms = []
    for _ in range(50):
        began = time.perf_counter()
        assert client.get("/health").json()["tasks_queued"] == MANY
        spent_ms.append((time.perf_counter() - began) * 1000)
    return {"tasks": MANY, "p50_ms": percentile(spent_ms, 50), "p95_ms": percentile(spent_ms, 95)}


@contextlib.contextmanager
def _cluster() -> Iterator[psutil.Process]:
    """Run a cluster of two recorded workers within the block."""
    env = {**os.environ, "CHIMERA_MAX_WORKERS": "2", "CHIMERA_LOG_LEVEL": "ERROR"}
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.stub_cluster"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(timeout=60)


def _await_workers(main: psutil.Process, number: int) -> list[psutil.Process]:
    """Wait until so many workers are idle."""
    from tasks.models import Worker

    def idle() -> list[psutil.Process]:
        alive = {each.pid: each for each in main.children(recursive=True)}
        free = Worker.objects.filter(task=None, is_draining=False, pid__in=alive)
        found = [alive[pid] for pid in free.values_list("pid", flat=True)]
        return found if len(found) == number else []

    found: list[psutil.Process] = _wait_for(idle)
    return found


def _submit(project: Any, **order: Any) -> Any:
    from tasks.models import Task

    return Task.submit(project, json.dumps({"phase_s": 0, **order}), project.target_url)


def _is_completed(task: Any) -> bool:
    task.refresh_from_db()
    return bool(task.status == "completed")


def _wait_for(claim: Callable[[], Any]) -> Any:
    limit = time.monotonic() + 120
    while not (found := claim()):
        if time.monotonic() > limit:
            raise TimeoutError("it did not happen within two minutes")
        time.sleep(0.005)
    return found


def _told(name: str, figures: dict[str, float]) -> dict[str, float]:
    return engine._told(name, {key: round(value, 2) for key, value in figures.items()})


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recovery", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", default="build/recovery.json", help="where to write the figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
