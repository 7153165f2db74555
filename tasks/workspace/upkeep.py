"""Upkeep of a repository of ours: old checkpoints of tasks, and objects that nothing refers to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.workspace.plumbing import call, command, locked

LOCK_TIMEOUT_S = 5.0
COLLECT_TIMEOUT_S = 600.0
COLLECT_EVERY_S = 24 * 3600.0
OVERDUE_AFTER_S = 3 * COLLECT_EVERY_S  # while the repository is never at rest
KEEP_UNREACHABLE = "2.weeks.ago"  # Git's own default, said aloud: work under way is younger
_CHECKPOINT = re.compile(r"([0-9a-f]{40}) (refs/chimera/(chimera-[0-9a-z]+)/(\d+))")


@dataclass(frozen=True)
class Checkpoint:
    """The newest commit that one claim of a task has made, under a ref of its own."""

    ref: str
    task_id: str
    fence: int
    sha: str


def checkpoints(repository: Path) -> list[Checkpoint]:
    """List the checkpoints of all tasks; never their branches. Raises GitError."""
    asked = command(
        repository, "for-each-ref", "--format=%(objectname) %(refname)", "--", "refs/chimera/"
    )
    matches = map(_CHECKPOINT.fullmatch, call(asked).decode(errors="replace").splitlines())
    return [Checkpoint(m[2], m[3], int(m[4]), m[1]) for m in matches if m]


def drop(repository: Path, old: Iterable[Checkpoint]) -> None:
    """Delete checkpoints, all or none: none if one has moved meanwhile. Raises GitError.

    Under the lock of fetching, which takes a packed-refs.lock for one that a crash left.
    """
    lines = [f"delete {item.ref} {item.sha}\n" for item in old]
    with locked(repository, LOCK_TIMEOUT_S) as lock:
        asked = command(repository, "update-ref", "--no-deref", "--stdin", pass_fds=(lock,))
        call(asked, stdin="".join(lines).encode())


def is_due(repository: Path, now_s: float) -> bool:
    """Say whether a day has passed since the last collection; seconds since the epoch."""
    marker = _marker(repository)
    return not marker.exists() or marker.stat().st_mtime < now_s - COLLECT_EVERY_S


def is_overdue(repository: Path, now_s: float) -> bool:
    """Say whether three days have passed since the last collection, or without any."""
    marker = _marker(repository)
    since = marker if marker.exists() else repository / "HEAD"
    return since.stat().st_mtime < now_s - OVERDUE_AFTER_S


def collect(repository: Path) -> None:
    """Pack objects and refs, drop objects unreachable for two weeks. Blocks. Raises GitError.

    Safe beside work: what a worker is making is younger than that, and Git keeps all that young
    objects refer to. One that is under way already, here or on another host, is refused by Git.
    Each task leaves a branch, so refs are packed too, else each were a file that every fetch
    reads; under the lock of fetching, which clears what a killed packing leaves.
    """
    _marker(repository).touch()  # first: one that fails or takes too long is not tried each hour
    asked = command(
        repository,
        *("gc", "--quiet", f"--prune={KEEP_UNREACHABLE}"),
        settings=("gc.packRefs=false",),
    )
    call(asked, timeout_s=COLLECT_TIMEOUT_S)
    with locked(repository, LOCK_TIMEOUT_S) as lock:
        call(command(repository, "pack-refs", "--all", pass_fds=(lock,)))


def _marker(repository: Path) -> Path:
    return repository / "collected"
