"""Measure the demo task, and how soon a submission is picked up, on this machine.

    make bench [ARGS="--runs 3 --submissions 50 --json build/bench.json"]

All figures come from one run, in a CHIMERA_HOME of its own that is gone afterwards.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

from chimera_daemon import ChimeraClient
from chimera_daemon.values import ROUTE

if TYPE_CHECKING:
    from tasks.models import Task
    from tasks.workflow.showcase import Factory

FEATURE = "Add dark mode toggle"
TASK_LIMIT_S = 600.0
# What issue and design promise for the demo on two cores.
TOTAL_LIMIT_S = 25.0
OUTSIDE_LIMIT_S = 3.0
PAGE = "<!doctype html><title>Bench</title><h1>Bench</h1>"


def main() -> int:
    """Run everything, print it, write it as JSON."""
    options = _parse()
    with tempfile.TemporaryDirectory(prefix="chimera-bench-") as home:
        _enter(home, options.port)
        with _factory() as factory, ChimeraClient(factory.url) as client:
            report = {"machine": machine()}
            _print_machine(report["machine"])
            report["demo"] = demo(client, options.runs)
            _print_demo(report["demo"])
            report["pick_up"] = pick_up(client, Path(home), options.submissions)
            _print_pick_up(report["pick_up"])
    target = Path(options.json)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten to {target}")
    return 0


def demo(client: ChimeraClient, runs: int) -> dict[str, Any]:
    """Run the demo task `runs` times, one after the other; seconds, medians with their range."""
    from tasks.models import Task

    totals, outside, phases = [], [], {phase: [] for phase in ROUTE}  # type: ignore[var-annotated]
    for number in range(1, runs + 1):
        task_id = _submit(client, "demo", "http://demo.localhost/", FEATURE)
        ended = client.wait(task_id, TASK_LIMIT_S, poll_s=0.1)
        if ended.status != "completed":
            raise SystemExit(f"{task_id} {ended.status} in {ended.phase}: {ended.reason}")
        task = Task.objects.get(task_id=task_id)
        totals.append(_seconds(task.created_at, task.completed_at))
        outside.append(totals[-1] - _in_children(task))
        for phase in ROUTE:
            tries = task.phase_runs.filter(phase=phase)
            phases[phase].append(sum(_seconds(run.started_at, run.finished_at) for run in tries))
        print(f"  demo {number}/{runs}: {totals[-1]:.1f} s, {outside[-1]:.2f} s of it outside")
    return {
        "runs": runs,
        "total_s": spread(totals),
        "outside_children_s": spread(outside),
        "phases_s": {phase: spread(values) for phase, values in phases.items()},
    }


def pick_up(client: ChimeraClient, home: Path, submissions: int) -> dict[str, Any]:
    """Measure from just before POST to the start of the first phase, on an idle factory.

    The scripted agent does nothing, so each task ends soon after its first phase.
    """
    from tasks.models import Task

    _register_scripted(home)
    waits_ms = []
    for number in range(1, submissions + 1):
        before = time.time()
        task_id = _submit(client, "bench", "http://bench.localhost/", f"Feature {number}")
        client.wait(task_id, TASK_LIMIT_S, poll_s=0.05)
        first = Task.objects.get(task_id=task_id).phase_runs.get(number=1)
        waits_ms.append((first.started_at.timestamp() - before) * 1000)
        if number % 10 == 0:
            print(f"  {number}/{submissions} submissions")
    return {
        "submissions": submissions,
        "p50_ms": round(percentile(waits_ms, 50), 1),
        "p95_ms": round(percentile(waits_ms, 95), 1),
        "max_ms": round(max(waits_ms), 1),
    }


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that `share` percent of all values don't exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * share / 100) - 1)]


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and most."""
    figures = {"p50": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 3) for name, value in figures.items()}


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    import psutil
    from django.conf import settings

    from tasks.workspace import browser

    chromium = browser.find_chromium(settings.CHIMERA.chromium)
    asked = subprocess.run([chromium, "--version"], capture_output=True, text=True, check=False)
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "django": django.get_version(),
        "database": settings.DATABASES["default"]["ENGINE"].rpartition(".")[2],
        "browser": asked.stdout.strip() or chromium,
        "slots": settings.CHIMERA.max_workers,
    }


def _enter(home: str, port: int) -> None:
    """Make Django ready in a home of our own; nothing of the caller's factory is touched."""
    for name in ("CHIMERA_DATABASE_URL", "CHIMERA_DB_PATH", "CHIMERA_DEMO", "CHIMERA_CONFIG"):
        os.environ.pop(name, None)
    os.environ |= {
        "CHIMERA_HOME": home,
        "CHIMERA_API_PORT": str(port),
        "CHIMERA_LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
    }
    django.setup()


@contextmanager
def _factory() -> Iterator[Factory]:
    from tasks.workflow import first_start, showcase

    first_start.prepare()
    factory = showcase.open_factory()
    try:
        showcase.await_health(factory)
        yield factory
    finally:
        showcase.close_factory(factory)


def _submit(client: ChimeraClient, project: str, url: str, feature: str) -> str:
    return client.submit_task(feature=feature, target_url=url, project=project).id


def _register_scripted(home: Path) -> None:
    """Register a page with nothing to install or to test, and an author who does nothing."""
    from tasks.models import Project
    from tasks.workspace import git

    site, script = home / "bench-site", home / "bench-script"
    site.mkdir()
    (site / "index.html").write_text(PAGE)
    (script / "author").mkdir(parents=True)
    (script / "author" / "mode.txt").write_text("nothing")
    git.create_from_folder(site, home / "bench.git")
    Project.objects.create(
        name="bench",
        repository=str(home / "bench.git"),
        target_url="http://bench.localhost/",
        serve_command="python -m http.server {port}",
        author=f"scripted:{script}",
        coder=f"scripted:{script}",
    )


def _in_children(task: Task) -> float:
    """Return the seconds in which the task's phases waited for child processes."""
    return float(sum(run.facts["children_s"] for run in task.phase_runs.all()))


def _seconds(start: datetime, end: datetime | None) -> float:
    assert end is not None
    return (end - start).total_seconds()


def _print_machine(found: dict[str, Any]) -> None:
    print("  ".join(f"{name} {value}" for name, value in found.items()), flush=True)


def _print_demo(figures: dict[str, Any]) -> None:
    print(f"\nDemo task, {figures['runs']} runs        p50      min      max   (seconds)")
    rows = [("from POST to completed", figures["total_s"])]
    rows += [("outside child processes", figures["outside_children_s"])]
    rows += [(f"  {phase}", values) for phase, values in figures["phases_s"].items()]
    for name, values in rows:
        print(f"{name:<24} {values['p50']:8.2f} {values['min']:8.2f} {values['max']:8.2f}")
    for name, limit_s in (("total_s", TOTAL_LIMIT_S), ("outside_children_s", OUTSIDE_LIMIT_S)):
        word = "within" if figures[name]["p50"] <= limit_s else "OVER"
        print(f"{name} is {word} its limit of {limit_s:.0f} s (set for two cores)")


def _print_pick_up(figures: dict[str, Any]) -> None:
    print(
        f"\nPOST to the first phase, {figures['submissions']} submissions on an idle factory: "
        f"p50 {figures['p50_ms']:.0f} ms, p95 {figures['p95_ms']:.0f} ms, "
        f"max {figures['max_ms']:.0f} ms"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="of the demo task")
    parser.add_argument("--submissions", type=int, default=50)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--json", default="build/bench.json", help="where to write the figures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
