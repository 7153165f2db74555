"""Puts down how everything stands when it is quiet again: rows, branches, what is left."""

from __future__ import annotations

import contextlib
import subprocess
from datetime import datetime
from pathlib import Path

import psutil

from tests.chaos.history import Branch, CopyRow, EventRow, History, RunRow, TaskRow
from tests.chaos.stage import Stage
from tests.chaos.work import read_request


def rows(history: History) -> None:
    """Put the rows into the history."""
    from django.db import connection

    from tasks.models import Deployment, Event, PhaseRun, Task

    names = dict(Task.objects.values_list("pk", "task_id"))
    history.tasks = [_task(task) for task in Task.objects.order_by("pk")]
    history.runs = [
        RunRow(
            names[run.task_id],
            *(run.number, run.phase, run.round, run.worker, run.fence, run.verdict, run.reason),
            *(_seconds(run.started_at), _seconds(run.finished_at)),
        )
        for run in PhaseRun.objects.order_by("pk")
    ]
    history.events = [
        EventRow(event.seq, event.kind, names.get(event.task_id, ""), event.data.get("run", 0))
        for event in Event.objects.order_by("seq")
    ]
    history.copies = [
        CopyRow(names[copy.task_id], copy.fence, copy.url, copy.commit_sha)
        for copy in Deployment.objects.order_by("pk")
    ]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            said = cursor.execute("PRAGMA integrity_check").fetchone()[0]
        history.damage = "" if said == "ok" else said


def _task(task) -> TaskRow:  # type: ignore[no-untyped-def]
    return TaskRow(
        task.task_id,
        read_request(task.feature).number,
        *(task.status, task.phase, task.reason, task.fence),
        *(task.base_sha, task.test_sha, task.code_sha),
    )


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else float("inf")


def branches(stage: Stage) -> list[Branch]:
    """Return every task's branch, with the commits that the project itself does not have."""
    bare = stage.home / "repositories" / "chaos.git"
    if not bare.exists():
        return []
    found = []
    for ref in _git(bare, "for-each-ref", "--format=%(refname)", "refs/heads/chimera"):
        commits = _git(bare, "rev-list", "--topo-order", ref, "--not", "refs/remotes/origin/main")
        found.append(Branch(ref.removeprefix("refs/heads/chimera/"), commits))
    return found


def _git(bare: Path, *words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=bare, check=True, capture_output=True, text=True)
    return done.stdout.split()


def leftovers(stage: Stage, *, is_stopped: bool = False) -> list[str]:
    """Return what nothing owns: workspaces, staged copies and processes, in words."""
    from tasks.models import Deployment

    live = set(Deployment.objects.filter(ended_at=None).values_list("pid", flat=True))
    found = [f"a workspace: {path.name}" for path in _inside(stage.home / "scratch")]
    for folder in _inside(stage.home / "staging"):
        if _pid_in(folder) not in live:
            found.append(f"a copy that no row knows of: {folder.name}")
    kept = set()
    for pid in live:
        with contextlib.suppress(psutil.Error):
            keeper = psutil.Process(pid)
            kept |= {pid, *(child.pid for child in keeper.children(recursive=True))}
    own = set() if is_stopped else {process.pid for process in stage.family()}
    for process in stage.traces():
        if process.pid not in kept | own:
            with contextlib.suppress(psutil.Error):
                found.append(f"process {process.pid}: {' '.join(process.cmdline())[:200]}")
    found += [f"copy {pid} is recorded as live and is gone" for pid in sorted(live - kept)]
    return found


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _pid_in(folder: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((folder / "keeper.pid").read_text())
    return 0
