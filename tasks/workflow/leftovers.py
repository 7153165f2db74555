"""What crashed work leaves on this host's disk: found by the name of its folder, and removed.

A folder below scratch/ or staging/ begins with <task id>-<fence>-, so it can be asked whether
anybody still holds that fence. A keeper that no row knows of is found by the pid in its folder.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from django.conf import settings

from tasks.lifecycle import Status
from tasks.models import Deployment, Task
from tasks.workspace import checkout, staging

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(chimera-[0-9a-z]+)-(\d+)-[^/]+")
_ROOM = "room.py"


@dataclass(frozen=True)
class Leftover:
    """A folder of one claim of one task."""

    folder: Path
    task_id: str
    fence: int


def remove_leftovers() -> int:
    """Remove what no running claim and no live staging copy owns; return how many folders.

    Cheap when there is nothing: two folder listings, and at most three queries. Another host may
    share the home; what it keeps live is its own affair.
    """
    found = [*_folders("scratch"), *_folders("staging")]
    if not found:
        return 0
    ids = {item.task_id for item in found}
    held = set(
        Task.objects.filter(task_id__in=ids, status=Status.RUNNING).values_list("task_id", "fence")
    )
    kept = set(
        Deployment.objects.filter(
            task__task_id__in=ids, host=staging.host_name(), ended_at=None
        ).values_list("pid", flat=True)
    )
    elsewhere = set(
        Deployment.objects.filter(task__task_id__in=ids, ended_at=None)
        .exclude(host__in=["", staging.host_name()])  # "": a project's own command made it
        .values_list("task__task_id", "fence")
    )
    gone = [item for item in found if (item.task_id, item.fence) not in held | elsewhere]
    return sum(_remove(item.folder, kept) for item in gone)


def _folders(name: str) -> Iterator[Leftover]:
    base = settings.CHIMERA.home / name
    for folder in base.iterdir() if base.is_dir() else ():
        if match := _NAME.fullmatch(folder.name):
            yield Leftover(folder, match[1], int(match[2]))


def _remove(folder: Path, kept: set[int]) -> bool:
    """Remove the folder, and end its keeper, unless a live copy's row names that keeper."""
    keeper = _keeper(folder)
    if keeper is not None and keeper.pid in kept:
        return False
    if keeper is not None:
        logger.warning("Ending keeper %d of %s: no row knows of it", keeper.pid, folder.name)
        staging.end(keeper.pid, keeper.create_time())
    try:
        checkout.remove(folder)
    except OSError:
        logger.exception("%s cannot be removed", folder)
        return False
    return True


def _keeper(folder: Path) -> psutil.Process | None:
    """Return the process that keeps the site of this folder, if it is alive and really that."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int((folder / staging.PID_FILE).read_text()))
        is_room = any(word.endswith(_ROOM) for word in process.cmdline())
        return process if is_room and process.status() != psutil.STATUS_ZOMBIE else None
    return None
