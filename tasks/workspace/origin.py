"""Where a project's commits come from: addresses that are safe to hand to Git, and the fetch."""

from __future__ import annotations

import re
import time
from pathlib import Path
from urllib.parse import unquote

from tasks.workspace.plumbing import ATTRIBUTES, GitError, call, command, locked

REFSPEC = "+refs/heads/*:refs/remotes/origin/*"  # prunes what it fetched, and never a task's ref
NO_BRANCH = "chimera-has-none"  # HEAD must name a branch; an unborn one holds no attributes
_UNSEEN = re.compile(r"[\x00-\x20\x7f]")
_REMOTE = re.compile(r"(?:https?|ssh)://(?:[^/@-][^/@]*@)?[\w\[][\w.:\[\]-]*(?:/.*)?")
_SCP = re.compile(r"\w[\w.-]*@\w[\w.-]*:[^-:].*")


def checked_url(url: str) -> str:
    """Return the address of a repository if it is of a kind that Chimera hands to Git.

    These are: an absolute local path, file://, https://, http://, ssh://, user@host:path. Raises
    GitError, permanent, for all else; Git would run programs for some of it.
    """
    is_local = url.startswith("/") and not re.search(r"[\x00-\x1f\x7f]", url)
    is_file = url.startswith("file:///") and not _UNSEEN.search(url)
    is_remote = not _UNSEEN.search(url) and (_REMOTE.fullmatch(url) or _SCP.fullmatch(url))
    if not (is_local or is_file or is_remote):
        raise GitError(
            f"{url[:200]!r} is not the address of a repository; give an absolute path, an https "
            "or ssh URL, or user@host:path",
            permanent=True,
        )
    return url


def local_path(url: str) -> Path | None:
    """Return the folder that an address names on this machine; None for another machine's."""
    if url.startswith("file://"):
        return Path(unquote(url.removeprefix("file://")))
    return Path(url) if url.startswith("/") else None


def fetch(path: Path, url: str, timeout_s: float) -> None:
    """Fetch all branches of `url` into the bare repository at `path`, which is made if need be.

    Blocks, also while another process does the same. Raises GitError.
    """
    limit = time.monotonic() + timeout_s
    source = local_path(url)
    if source and not source.exists():
        raise GitError(f"there is nothing at {source}", permanent=True)
    with locked(path, timeout_s) as lock:
        prepare(path, url)
        _clear_locks(path)
        environment = trusting(path, source)
        arguments = (
            *("fetch", "--quiet", "--prune", "--no-tags", "--no-recurse-submodules"),
            *("--no-write-fetch-head", "--no-auto-maintenance", "--", "origin"),
        )
        fetching = command(path, *arguments, environment=environment, pass_fds=(lock,))
        call(fetching, timeout_s=max(0.1, limit - time.monotonic()))


def trusting(path: Path, source: Path | None) -> dict[str, str]:
    """Return the environment in which Git uses `source`; the lock of `path` must be held.

    The operator named that folder; that another user owns it is no reason to refuse.
    """
    trust = path / "trust"
    _write(trust, "".join(f"[safe]\n\tdirectory = {_quoted(str(p))}\n" for p in _trusted(source)))
    return {"GIT_CONFIG_GLOBAL": str(trust)}


def prepare(path: Path, url: str = "", branch: str = NO_BRANCH) -> None:
    """Make the bare repository, or put it right after an interruption; the lock must be held."""
    attributes = path / "info" / "attributes"
    if not attributes.exists():
        path.mkdir(parents=True, exist_ok=True)
        call(
            command(path, "init", "--quiet", "--bare", "--template=", f"--initial-branch={branch}")
        )
    remote = f'[remote "origin"]\n\turl = {_quoted(url)}\n\tfetch = {REFSPEC}\n' if url else ""
    _write(path / "config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n" + remote)
    attributes.parent.mkdir(exist_ok=True)
    _write(attributes, ATTRIBUTES)  # last: it says that all of the above is done


def _clear_locks(path: Path) -> None:
    """Remove what a killed fetch left: we hold the lock that its successors and it must hold."""
    for stale in [*path.glob("refs/remotes/**/*.lock"), path / "packed-refs.lock"]:
        stale.unlink(missing_ok=True)


def _trusted(source: Path | None) -> list[Path]:
    return [source, source / ".git", source.resolve(), source.resolve() / ".git"] if source else []


def _write(path: Path, text: str) -> None:
    """Write a file that others may be reading, at once and only if it changes."""
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
