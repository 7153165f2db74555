"""Measure the engine alone, on this machine: phases that do nothing, on one database.

`benchmarks.databases` runs it once for each database (CHIMERA_DATABASE_URL chooses PostgreSQL). All
figures of one database come from one run, in a CHIMERA_HOME of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.bench import percentile

if TYPE_CHECKING:
    from tasks.models import Project

BLOCKS_MS = 50
IDLE_S = 20.0


def main() -> int:
    """Measure everything and print it as it comes."""
    options = _parse()
    with tempfile.TemporaryDirectory(prefix="chimera-engine-") as home:
        _enter(home)
        from django.db import connection

        report: dict[str, Any] = {"database": connection.vendor, "cores": os.cpu_count()}
        project = _prepare()
        report["claim"] = _told("claim", claim_time(project, options.waiting))
        report["pick_up"] = _told("pick_up", pick_up(project, options.submissions))
        report["instant"] = _told(
            "instant", {"workflows_per_s": rate(project, 5, 0, options.tasks)}
        )
        report["gain"] = _told("gain", gains(project))
        report["memory"] = _told("memory", memory_and_idling())
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


def claim_time(project: Project, waiting: int) -> dict[str, float]:
    """Return the median milliseconds of a claim with 10 and with `waiting` tasks in the queue."""
    figures = {}
    for number in (10, waiting):
        _fill(project, number)
        figures[f"with_{number}_ms"] = round(statistics.median(_claims(50)), 3)
        _empty()
    figures["ratio"] = round(figures[f"with_{waiting}_ms"] / figures["with_10_ms"], 2)
    return figures


def pick_up(project: Project, submissions: int) -> dict[str, float]:
    """Return milliseconds from before the INSERT to the first phase, on an idle cluster."""
    waits_ms = []
    with _cluster(5):
        for _ in range(submissions):
            before = time.time()
            task = _submit(project, 0)
            _await_ended(1)
            first = task.phase_runs.get(number=1)
            waits_ms.append((first.started_at.timestamp() - before) * 1000)
            _empty()
    return {
        "submissions": submissions,
        "p50_ms": round(percentile(waits_ms, 50), 1),
        "p95_ms": round(percentile(waits_ms, 95), 1),
    }


def rate(project: Project, slots: int, blocks_ms: int, number: int) -> float:
    """Return workflows per second with `number` tasks waiting when the cluster is ready."""
    from tasks.models import PhaseRun

    with _cluster(slots):
        _fill(project, number, blocks_ms)
        _await_ended(number)
        runs = PhaseRun.objects.filter(task__project=project)
        began = runs.order_by("started_at").values_list("started_at", flat=True)[0]
        ended = runs.order_by("-finished_at").values_list("finished_at", flat=True)[0]
        _empty()
    return round(number / (ended - began).total_seconds(), 2)


def gains(project: Project) -> dict[str, float]:
    """Return how many times more workflows 5, 10 and 50 slots do than one, blocking phases."""
    rates = {
        slots: rate(project, slots, BLOCKS_MS, number)
        for slots, number in ((1, 5), (5, 40), (10, 80), (50, 300))
    }
    gained = {f"slots_{slots}": round(each / rates[1], 1) for slots, each in rates.items()}
    return {"blocks_ms": BLOCKS_MS, "one_slot_per_s": rates[1], **gained}


def memory_and_idling() -> dict[str, float]:
    """Return MB (PSS) of clusters of 5 and 15 slots, and the CPU seconds a minute of idling."""
    sizes = {}
    idle_s = 0.0
    for slots in (5, 15):
        with _cluster(slots) as main:
            family = _family(main)
            time.sleep(2)
            if slots == 5:
                idle_s = _spent(family)
                time.sleep(IDLE_S)
                idle_s = (_spent(family) - idle_s) * 60 / IDLE_S
            sizes[slots] = sum(process.memory_full_info().pss for process in family) / 1e6
    return {
        "slots_5_mb": round(sizes[5], 1),
        "each_further_slot_mb": round((sizes[15] - sizes[5]) / 10, 2),
        "idle_cpu_s_per_minute": round(idle_s, 2),
    }


def _claims(number: int) -> Iterator[float]:
    from django.utils import timezone

    from tasks.models import Task

    for _ in range(number):
        began = time.perf_counter()
        lease = Task.objects.claim("bench:1:1", timezone.now())
        spent_ms = (time.perf_counter() - began) * 1000
        assert lease is not None
        Task.objects.filter(pk=lease.task_pk).update(
            status="queued", holder="", lease_expires_at=None
        )
        yield spent_ms


def _fill(project: Project, number: int, blocks_ms: int = 0) -> None:
    """Put so many tasks of all priorities into the queue at once."""
    from django.utils import timezone

    from tasks.models import Task
    from tasks.models.task import rank_of

    now = timezone.now()
    rows = []
    for index in range(number):
        priority, created = index % 10 + 1, now - timedelta(milliseconds=number - index)
        rows.append(
            Task(
                project=project,
                feature=str(blocks_ms),
                target_url=project.target_url,
                priority=priority,
                rank=rank_of(created, priority),
                due_at=created,
                created_at=created,
            )
        )
    Task.objects.bulk_create(rows, batch_size=500)


def _submit(project: Project, blocks_ms: int) -> Any:
    from tasks.models import Task

    return Task.submit(project, str(blocks_ms), project.target_url)


def _await_ended(number: int) -> None:
    from tasks.models import Task

    limit = time.monotonic() + 300
    while Task.objects.filter(status="completed").count() < number:
        if time.monotonic() > limit:
            raise SystemExit("the tasks did not end within five minutes")
        time.sleep(0.02)


def _empty() -> None:
    from tasks.models import Event, Task

    Task.objects.all().delete()
    Event.objects.all().delete()


@contextlib.contextmanager
def _cluster(slots: int) -> Iterator[psutil.Process]:
    """Run a cluster within the block; it is ready when that begins."""
    from tasks.models import Worker

    env = {**os.environ, "CHIMERA_MAX_WORKERS": str(slots), "CHIMERA_LOG_LEVEL": "ERROR"}
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.recorded_cluster"], env=env)
    try:
        limit = time.monotonic() + 60
        while Worker.objects.count() < slots:
            if child.poll() is not None or time.monotonic() > limit:
                raise SystemExit("the cluster did not start")
            time.sleep(0.05)
        yield psutil.Process(child.pid)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=60)
        Worker.objects.all().delete()


def _family(main: psutil.Process) -> list[psutil.Process]:
    return [main, *main.children(recursive=True)]


def _spent(family: list[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in family))


def _enter(home: str) -> None:
    for name in ("CHIMERA_DB_PATH", "CHIMERA_CONFIG"):
        os.environ.pop(name, None)
    os.environ |= {
        "CHIMERA_HOME": home,
        "CHIMERA_DEMO": "0",
        "CHIMERA_LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
    }
    import django

    django.setup()


def _prepare() -> Project:
    from django.core.management import call_command

    from tasks.models import Project

    call_command("migrate", verbosity=0)
    return Project.objects.create(
        name="bench",
        repository="/nowhere",
        target_url="http://bench.localhost/",
        serve_command="x {port}",
    )


def _told(name: str, figures: dict[str, float]) -> dict[str, float]:
    print(f"{name:10}", *(f"{key} {value:g}" for key, value in figures.items()), flush=True)
    return figures


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="engine", description=__doc__.splitlines()[0])
    parser.add_argument("--submissions", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=300, help="of the run with instant phases")
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--json", default="build/engine.json", help="where to write the figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
