"""One pass of tidying: evidence, and by the same age environments, trials and refs of claims."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import Error as DatabaseTrouble
from django.db.models import Min
from django_q import models as django_q

from tasks.lifecycle import OPEN, Status
from tasks.models import Deployment, Project, Task
from tasks.workflow.retention import AT_MOST, Freed, Limits, Sizes, Tell, tidy_evidence
from tasks.workspace import environment, temporary, upkeep
from tasks.workspace.folder import FolderError, remove
from tasks.workspace.plumbing import GitError
from tasks.workspace.upkeep import Checkpoint

logger = logging.getLogger(__name__)

# Longer than any phase, so also than the time from an installation to the row of its copy.
MARGIN = timedelta(days=1)


def tidy(now: datetime, tell: Tell, *, sizes: Sizes | None = None, is_dry: bool = False) -> Freed:
    """Do one pass over evidence and all else; say what it freed of the evidence. Blocks."""
    freed = tidy_evidence(now, tell, sizes=sizes, is_dry=is_dry)
    prune(now, tell, is_dry=is_dry)
    return freed


def prune(now: datetime, tell: Tell, *, is_dry: bool = False) -> None:
    """Do everything once, telling what goes; what fails is logged and stops nothing else. Blocks.

    `is_dry` only tells.
    """
    oldest = Limits.of(settings.CHIMERA).oldest(now)
    steps: list[Callable[[], object]] = [
        partial(prune_scratch, now, tell, is_dry=is_dry),
        partial(prune_temporary, now, tell, is_dry=is_dry),
    ]
    if oldest is not None:
        steps.append(partial(prune_environments, oldest, tell, is_dry=is_dry))
        steps.append(partial(prune_trials, oldest, tell, is_dry=is_dry))
    if not is_dry:
        steps.append(partial(prune_records, now, oldest))
    for project in Project.objects.all():
        path = settings.CHIMERA.home / "repositories" / f"{project.name}.git"
        if not path.exists():
            continue
        if oldest is not None:
            steps.append(partial(prune_checkpoints, project, path, oldest, tell, is_dry=is_dry))
        if not is_dry:
            steps.append(partial(collect_garbage, project, path, now, tell))
    for step in steps:
        try:
            step()
        except (OSError, FolderError, GitError, DatabaseTrouble):
            logger.exception("Pruning failed; the next pass tries again")


def prune_environments(oldest: datetime, tell: Tell, *, is_dry: bool = False) -> None:
    """Remove environments that were not used since `oldest` and that no live copy can use.

    A copy's environment was marked as used when the copy was made, so one whose mark is a day
    older than the oldest live copy, on any host, belongs to none of them.
    """
    live = Deployment.objects.filter(ended_at=None).exclude(host="")
    first = live.aggregate(first=Min("created_at"))["first"]
    before = (min(oldest, first - MARGIN) if first else oldest).timestamp()
    for folder in environment.find_unused(settings.CHIMERA.home / "environments", before):
        if is_dry or environment.remove_unused(folder, before):
            tell(f"environment {folder.name}: not used since")


def prune_trials(oldest: datetime, tell: Tell, *, is_dry: bool = False) -> None:
    """Remove what trials of projects left behind before `oldest`."""
    base = settings.CHIMERA.home / "trials"
    _remove_all((path for path in _entries(base) if _is_older(path, oldest)), tell, is_dry=is_dry)


def prune_scratch(now: datetime, tell: Tell, *, is_dry: bool = False) -> None:
    """Remove the workspaces of trials that crashed; those of tasks go with their claims."""
    found = [path for path in _entries(settings.CHIMERA.home / "scratch") if _is_trial(path)]
    _remove_all((path for path in found if _is_older(path, now - MARGIN)), tell, is_dry=is_dry)


def prune_temporary(now: datetime, tell: Tell, *, is_dry: bool = False) -> None:
    """Remove temporary files of processes that were killed; nothing under way is that old."""
    found = _entries(settings.CHIMERA.home / temporary.NAME)
    _remove_all((path for path in found if _is_older(path, now - MARGIN)), tell, is_dry=is_dry)


def prune_records(now: datetime, oldest: datetime | None) -> None:
    """Delete rows that nobody asks for again: sessions that are over, failed messages of old.

    Each visitor of the dashboard without a cookie, such as a monitor, begins a session.
    """
    Session.objects.filter(expire_date__lte=now).delete()
    if oldest is not None:
        django_q.Failure.objects.filter(stopped__lte=oldest).delete()


def prune_checkpoints(
    project: Project, path: Path, oldest: datetime, tell: Tell, *, is_dry: bool = False
) -> None:
    """Delete the refs of claims of tasks that ended before `oldest`; their branches stay.

    So does what a retry of the task would go on from.
    """
    groups = groupby(upkeep.checkpoints(path), lambda item: item.task_id)
    found = {name: list(group) for name, group in groups}
    ended = project.tasks.exclude(status__in=sorted(OPEN)).filter(completed_at__lte=oldest)
    old = {}
    for names in _portions(list(found), AT_MOST):  # most tasks of years have no refs any more
        for task in ended.filter(task_id__in=names).defer("baseline", "findings", "feature"):
            old[task.task_id] = superseded(task, found[task.task_id])
    for name in [name for name in old if old[name]][: None if is_dry else AT_MOST]:
        tell(f"{name}: {len(old[name])} old refs in {path.name}")
        if not is_dry:
            upkeep.drop(path, old[name])


def superseded(task: Task, found: list[Checkpoint]) -> list[Checkpoint]:
    """Return the checkpoints that nothing will ever ask for again.

    A completed task can't be retried; any other goes on from the commits in its row.
    """
    if task.status == Status.COMPLETED:
        return found
    needed = {task.base_sha, task.test_sha, task.draft_sha, task.code_sha}
    newest = max(item.fence for item in found)
    return [item for item in found if item.sha not in needed and item.fence != newest]


def collect_garbage(project: Project, path: Path, now: datetime, tell: Tell) -> None:
    """Once a day, pack the project's repository, unless a task is working with it.

    One that is never at rest is packed beside the work in the end, which costs time, not safety.
    """
    is_busy = Task.objects.filter(project=project, status=Status.RUNNING).exists()
    is_time = upkeep.is_overdue if is_busy else upkeep.is_due
    if is_time(path, now.timestamp()):
        tell(f"packing {path.name}")
        upkeep.collect(path)


def _portions(names: list[str], size: int) -> Iterator[list[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))


def _entries(base: Path) -> Iterator[Path]:
    yield from sorted(base.iterdir()) if base.is_dir() else ()


def _is_trial(path: Path) -> bool:
    return path.name.startswith("trial-")


def _is_older(path: Path, moment: datetime) -> bool:
    """Say whether a file, or a folder with all that it holds one level deep, is older than that."""
    try:
        own = path.lstat()
        entries = list(os.scandir(path)) if stat.S_ISDIR(own.st_mode) else []
        inner = [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
        return max([own.st_mtime, *inner]) < moment.timestamp()
    except OSError:
        return False


def _remove_all(paths: Iterable[Path], tell: Tell, *, is_dry: bool) -> None:
    for path in paths:
        tell(f"{path.parent.name}/{path.name}: abandoned")
        if not is_dry:
            remove(path)
