"""A task's commits on the project's remote, so that another host can take the task up.

Only refs under refs/chimera/ go there and come from there: no branch of the project is touched.
What comes is looked up by the sha that a row records, so a remote can withhold, but not forge.
"""

from __future__ import annotations

import time

from tasks.workspace.git import Repository, checkpoint_ref
from tasks.workspace.origin import local_path, trusting
from tasks.workspace.plumbing import GitError, call, command, locked


def push(repository: Repository, url: str, task_id: str, fence: int, timeout_s: float) -> None:
    """Bring what this claim of a task has made to the project's remote. Blocks. Raises GitError."""
    ref = checkpoint_ref(task_id, fence)
    # Nobody else writes to a ref with this fence, so what is there may be replaced.
    words = ("push", "--quiet", "--no-verify", "--no-recurse-submodules", "--no-signed")
    _transfer(repository, url, (*words, "--", "origin", f"+{ref}:{ref}"), timeout_s)


def pull(repository: Repository, url: str, task_id: str, timeout_s: float) -> None:
    """Fetch what other hosts have made for a task. Blocks. Raises GitError."""
    every = f"{checkpoint_ref(task_id, 0).rpartition('/')[0]}/*"
    words = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
    options = ("--no-auto-maintenance", "--refmap=", "--", "origin", f"+{every}:{every}")
    _transfer(repository, url, (*words, *options), timeout_s)


def _transfer(repository: Repository, url: str, words: tuple[str, ...], timeout_s: float) -> None:
    limit = time.monotonic() + timeout_s
    with locked(repository.path, timeout_s) as lock:
        environment = trusting(repository.path, local_path(url))
        transfer = command(repository.path, *words, environment=environment, pass_fds=(lock,))
        call(transfer, timeout_s=max(0.1, limit - time.monotonic()))


def require(repository: Repository, shas: list[str]) -> None:
    """Raise GitError unless all these commits are here; it says what several hosts need."""
    missing = [sha[:10] for sha in shas if not repository.exists(sha)]
    if missing:
        raise GitError(
            f"This host has not got {', '.join(missing)}, which another one made, and the "
            "project's remote has not got it either (see CHIMERA_SHARE_COMMITS)"
        )
