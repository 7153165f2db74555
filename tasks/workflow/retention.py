"""How long evidence is kept: by age and by total size, and never of a task that is open.

What goes is decided purely, then each task is looked at again under its row's lock, which a retry
needs too: its folder is renamed away in that transaction, and deleted after it. So of a retry and
a removal one comes first, and a task that is open keeps its files. Rows stay.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef

from chimera_site.options import Options
from tasks.lifecycle import OPEN
from tasks.models import Artifact, Event, Task
from tasks.models.event import EVIDENCE_REMOVED
from tasks.workspace.folder import FolderError, disk_usage, remove

logger = logging.getLogger(__name__)

AT_MOST = 100  # tasks in one pass
TELL_EVERY_S = 1.0
TRASH = ".trash"  # beside the tasks' folders, so that a rename leads there on any disk

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Limits:
    """What may be kept; 0 = no limit."""

    keep_days: int
    keep_bytes: int

    @classmethod
    def of(cls, options: Options) -> Limits:
        """Return what the operator chose."""
        keep_bytes = max(1, int(options.keep_gb * 1e9)) if options.keep_gb else 0
        return cls(options.keep_days, keep_bytes)

    def oldest(self, now: datetime) -> datetime | None:
        """Return the moment before which nothing is kept; None if there is no such."""
        return now - timedelta(days=self.keep_days) if self.keep_days else None


@dataclass(frozen=True)
class Ended:
    """The evidence of a task that has ended, as both were when they were looked at."""

    pk: int
    task_id: str
    fence: int
    ended_at: datetime
    size_bytes: int


@dataclass(frozen=True)
class Found:
    """What lies on the disk: of tasks that have ended, and in all."""

    ended: tuple[Ended, ...]
    total_bytes: int


@dataclass(frozen=True)
class Freed:
    """What one pass did, or would do."""

    tasks: int
    size_bytes: int
    has_more: bool


def choose(found: Found, limits: Limits, now: datetime) -> list[Ended]:
    """Return the evidence that has to go: what is too old, then the oldest while it is too much."""
    oldest = limits.oldest(now)
    left_bytes = found.total_bytes
    chosen = []
    for item in sorted(found.ended, key=lambda item: (item.ended_at, item.pk)):
        is_old = oldest is not None and item.ended_at <= oldest
        is_too_much = 0 < limits.keep_bytes < left_bytes
        if not (is_old or is_too_much):
            break  # what comes after it is younger
        chosen.append(item)
        left_bytes -= item.size_bytes
    return chosen


class Sizes:
    """Measures folders of tasks; those of ended tasks, which no longer grow, only once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], int] = {}

    def measure(
        self, ended: Iterable[tuple[str, int]], still_open: Iterable[str], tell: Tell
    ) -> dict[str, int]:
        """Return the bytes of each task's folder. Blocks; tells how far it is each second."""
        wanted = list(ended)
        self._known = {key: self._known[key] for key in wanted if key in self._known}
        told_at = time.monotonic()
        sizes = {task_id: disk_usage(folder_of(task_id)) for task_id in still_open}
        for number, key in enumerate(wanted):
            if time.monotonic() - told_at > TELL_EVERY_S:
                tell(f"measured {number} of {len(wanted)} folders")
                told_at = time.monotonic()
            if key not in self._known:
                self._known[key] = disk_usage(folder_of(key[0]))
            sizes[key[0]] = self._known[key]
        return sizes

    def forget(self, item: Ended) -> None:
        """Measure this one anew, should it ever lie there again."""
        self._known.pop((item.task_id, item.fence), None)


def tidy_evidence(
    now: datetime,
    tell: Tell,
    *,
    sizes: Sizes | None = None,
    is_dry: bool = False,
    at_most: int = AT_MOST,
) -> Freed:
    """Remove the evidence that has to go, the oldest first; say what each task's took. Blocks.

    `is_dry` only tells. Two passes at once, on any hosts, do no harm: one of them finds nothing.
    """
    limits = Limits.of(settings.CHIMERA)
    if not is_dry:
        empty_trash()
    sizes = sizes or Sizes()
    chosen = choose(find(sizes, tell), limits, now)
    tasks = size_bytes = 0
    for item in chosen if is_dry else chosen[:at_most]:
        if is_dry or _try_to_remove(item, now):
            tell(f"{item.task_id}: {megabytes(item.size_bytes)}, ended {item.ended_at:%Y-%m-%d}")
            sizes.forget(item)
            tasks += 1
            size_bytes += item.size_bytes
    return Freed(tasks, size_bytes, has_more=tasks > 0 and not is_dry and len(chosen) > at_most)


def find(sizes: Sizes, tell: Tell) -> Found:
    """Look at what tasks have on the disk; a folder that belongs to no task is left alone."""
    base = folder_of("")
    names = {entry.name for entry in os.scandir(base)} if base.is_dir() else set()
    unremoved = Artifact.objects.filter(task=OuterRef("pk"), removed_at=None)
    ended = Task.objects.exclude(status__in=sorted(OPEN)).annotate(has_files=Exists(unremoved))
    columns = ("pk", "task_id", "fence", "completed_at", "has_files")
    every = ended.values_list(*columns).iterator()  # of years; few of them have files left
    rows = [row for row in every if row[1] in names or row[4]]
    going = Task.objects.filter(status__in=sorted(OPEN)).values_list("task_id", flat=True)
    measured = sizes.measure([(row[1], row[2]) for row in rows], names.intersection(going), tell)
    items = [Ended(pk, name, fence, at, measured[name]) for pk, name, fence, at, _ in rows if at]
    return Found(tuple(items), sum(measured.values()))


def put_away(item: Ended, now: datetime) -> Path | None:
    """Mark the evidence as removed and take it out of sight; return where it waits for deletion.

    None if the task was taken up again meanwhile, or somebody else removed it first.
    """
    folder, place = folder_of(item.task_id), _trash_place(item.task_id)
    is_moved = False
    try:
        with transaction.atomic():
            locked = Task.objects.select_for_update(no_key=True).filter(
                pk=item.pk, fence=item.fence
            )
            task = locked.exclude(status__in=sorted(OPEN)).first()
            if task is None:
                return None
            marked = task.artifacts.filter(removed_at=None).update(removed_at=now)
            with contextlib.suppress(FileNotFoundError):
                folder.rename(place)
                is_moved = True
            if marked or is_moved:
                facts = {"files": marked, "size_bytes": item.size_bytes}
                Event.objects.append(EVIDENCE_REMOVED, task, **facts, **task.standing())
    except Exception:
        if is_moved:  # and the rows do not say so: put it back, and try again later
            with contextlib.suppress(OSError):
                place.rename(folder)
        raise
    return place if marked or is_moved else None


def empty_trash() -> None:
    """Delete what was put away, here or by a pass that was killed. Blocks."""
    trash = folder_of(TRASH)
    for path in sorted(trash.iterdir()) if trash.is_dir() else ():
        _delete(path)


def megabytes(size_bytes: int) -> str:
    """Say a size as people read it."""
    return f"{size_bytes / 1e6:,.1f} MB"


def folder_of(name: str) -> Path:
    """Return the folder of a task, as `Task.folder` has it."""
    return Path(settings.CHIMERA.home) / "tasks" / name


def _try_to_remove(item: Ended, now: datetime) -> bool:
    try:
        place = put_away(item, now)
    except OSError:
        logger.exception("The evidence of %s cannot be removed", item.task_id)
        return False
    if place is not None:
        _delete(place)
    return place is not None


def _delete(path: Path) -> None:
    try:
        remove(path)
    except (OSError, FolderError):
        if os.path.lexists(path):  # else another pass was faster
            logger.exception("%s cannot be removed; the next pass tries again", path)


def _trash_place(task_id: str) -> Path:
    trash = folder_of(TRASH)
    trash.mkdir(parents=True, exist_ok=True)
    return trash / f"{task_id}-{secrets.token_hex(6)}"
