"""The repository of a project that the service owns: fetched from outside, read by everybody here.

Commits of tasks land on refs of their own, which fetching never touches. All calls block.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tasks.workspace import process
from tasks.workspace.folder import is_safe
from tasks.workspace.intake import Imported, import_tree
from tasks.workspace.origin import checked_url, fetch, prepare
from tasks.workspace.plumbing import TIMEOUT_S, GitError, call, command, failure, locked
from tasks.workspace.tree import (
    EMPTY_TREE,
    ImportLimitError,
    Skipped,
    contents,
    entries,
    export_tree,
    text_of,
)

__all__ = [
    "EMPTY_TREE",
    "Change",
    "Commit",
    "GitError",
    "ImportLimitError",
    "Imported",
    "Repository",
    "Skipped",
    "branch_name",
    "branch_ref",
    "checked_url",
    "checkpoint_ref",
    "create_from_folder",
]

DIFF_LIMIT_BYTES = 2 * 1024 * 1024
_SHA = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"refs/(?!.*(\.\.|//|@\{|\.lock/|/\.))[\w./-]+(?<![./])")
_TASK_ID = re.compile(r"(?!-)[a-z0-9-]{1,60}(?<!-)")


def branch_name(task_id: str) -> str:
    """Return the branch of a task, as people write it. Raises ValueError for a strange id."""
    if not _TASK_ID.fullmatch(task_id):
        raise ValueError(f"{task_id!r} is not a task's id")
    return f"chimera/{task_id}"


def branch_ref(task_id: str) -> str:
    """Return the ref of a task's branch; only ever set to the commit that the row records."""
    return f"refs/heads/{branch_name(task_id)}"


def checkpoint_ref(task_id: str, fence: int) -> str:
    """Return the ref that keeps what one claim of a task has made."""
    if fence < 0:
        raise ValueError(f"{fence} is not a fence")
    return f"refs/{branch_name(task_id)}/{fence}"


@dataclass(frozen=True)
class Change:
    """What a diff does to one path; a rename is a path deleted and one added."""

    path: str
    status: str  # A added, D deleted, M modified, T another type (file, link, submodule)
    added: int  # lines; 0 when binary
    deleted: int
    is_binary: bool = False


@dataclass(frozen=True)
class Commit:
    """A commit as history shows it."""

    sha: str
    parents: tuple[str, ...]
    subject: str


@dataclass(frozen=True)
class Repository:
    """A bare repository that the service owns and nobody else writes to."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the repository at `path`. Raises GitError, permanent, where there is none."""
        if not all((path / name).exists() for name in ("HEAD", "objects", "refs")):
            raise GitError(f"there is no repository at {path}", permanent=True)
        return cls(path.resolve())

    @classmethod
    def clone_or_fetch(cls, path: Path, url: str, *, timeout_s: float) -> Self:
        """Bring the branches of `url` up to date, in a repository made on first use.

        Callers in other processes wait for each other, at most `timeout_s` in all. Raises
        GitError, permanent where the address is at fault.
        """
        checked_url(url)
        fetch(path, url, timeout_s)
        return cls(path.resolve())

    def head(self, branch: str) -> str:
        """Return the commit that a branch of the origin had when it was last fetched.

        Raises GitError, permanent, which names the branches that there are.
        """
        prefix = "refs/remotes/origin/"
        branches = {name.removeprefix(prefix): sha for name, sha in self._refs(prefix).items()}
        if not branches:
            raise GitError("the repository has no commit yet; commit something", permanent=True)
        if branch not in branches:
            names = ", ".join(sorted(branches)[:20]) + (", …" if len(branches) > 20 else "")
            raise GitError(f"there is no branch {branch!r}; there is: {names}", permanent=True)
        return branches[branch]

    def import_tree(self, folder: Path, *, base: str) -> Imported:
        """Store a folder that an agent worked in as a tree; see `intake.import_tree`."""
        return import_tree(self.path, folder, _checked_sha(base))

    def export(self, sha: str, folder: Path) -> tuple[Skipped, ...]:
        """Write a tree into an empty or a new folder, without `.git`; see `tree.export_tree`."""
        return export_tree(self.path, _checked_sha(sha), folder)

    def commit(self, tree: str, parents: Sequence[str], message: str) -> str:
        """Make a commit that no ref points to yet; the author is Chimera, the time is now."""
        words = [word for parent in parents for word in ("-p", _checked_sha(parent))]
        text = message.replace("\0", "").encode(errors="replace")
        return self._call("commit-tree", _checked_sha(tree), *words, "-F", "-", stdin=text)

    def ref(self, name: str) -> str | None:
        """Return the commit that a ref points to; None when there is no such ref."""
        return self._refs(_checked_ref(name)).get(name)

    def set_ref(self, name: str, new: str, old: str | None = None) -> bool:
        """Point a ref to a commit, if it still points to `old` ("" = if it doesn't exist).

        False when it doesn't: somebody else was faster. None as `old` sets it in any case.
        """
        expected = [] if old is None else [_checked_sha(old) if old else ""]
        arguments = ("--no-deref", "--", _checked_ref(name), _checked_sha(new), *expected)
        lock = self.path / f"{name}.lock"
        with contextlib.suppress(FileNotFoundError):
            if time.time() - lock.stat().st_mtime > TIMEOUT_S:  # a power cut left it
                lock.unlink()
        try:
            self._call("update-ref", *arguments)
        except GitError:
            if old is not None and (self.ref(name) or "") != old:
                return False
            raise
        return True

    def exists(self, sha: str) -> bool:
        """Say whether a commit is here."""
        asked = f"{_checked_sha(sha)}\n".encode()
        return self._call("cat-file", "--batch-check", stdin=asked).split()[1] == "commit"

    def paths(self, sha: str, under: str = "") -> tuple[str, ...]:
        """List the files and links of a commit or tree, or those in one folder of it."""
        folder = under.strip("/").encode(errors="surrogatepass")
        if folder and not is_safe(folder):
            return ()
        return tuple(text_of(entry.path) for entry in entries(self.path, _checked_sha(sha), folder))

    def read(self, sha: str, path: str) -> bytes | None:
        """Return a file of a commit or tree; None where there is none, or something else."""
        name = path.encode(errors="surrogatepass")
        found = entries(self.path, _checked_sha(sha), name) if is_safe(name) else []
        files = [entry for entry in found if entry.path == name and entry.mode.startswith("100")]
        return next((content for _, content in contents(self.path, files)), None)

    def diff(self, old: str, new: str, *, limit_bytes: int = DIFF_LIMIT_BYTES) -> str:
        """Return what changed between two commits or trees, cut (and saying so) at the limit.

        Bytes that are not UTF-8 are replaced.
        """
        options = ("-p", "-r", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
        call_of = command(self.path, "diff-tree", *options, _checked_sha(old), _checked_sha(new))
        with tempfile.TemporaryDirectory(prefix="chimera-diff-") as folder:
            log = process.Log(Path(folder) / "diff", limit_bytes)
            try:
                done = process.run(call_of, timeout_s=TIMEOUT_S, log=log)
            finally:
                log.close()
            if not done.ok:
                raise failure(done.output_tail[-4000:], None if done.timed_out else done.returncode)
            return (Path(folder) / "diff").read_bytes().decode(errors="replace")

    def changed(self, old: str, new: str) -> tuple[Change, ...]:
        """List the paths that differ between two commits or trees, and by how many lines."""
        options = (
            "-r",
            "-z",
            "--raw",
            "--numstat",
            "--no-ext-diff",
            "--no-textconv",
            "--no-renames",
        )
        asked = command(self.path, "diff-tree", *options, _checked_sha(old), _checked_sha(new))
        words = iter(call(asked).split(b"\0")[:-1])
        status: dict[bytes, str] = {}
        changes = []
        for word in words:
            if word.startswith(b":"):
                status[next(words)] = word.split()[4].decode()
                continue
            added, deleted, path = word.split(b"\t", 2)
            is_binary = added == b"-"
            plus, minus = (0, 0) if is_binary else (int(added), int(deleted))
            changes.append(Change(text_of(path), status[path], plus, minus, is_binary))
        return tuple(changes)

    def log(self, sha: str, limit: int = 50) -> tuple[Commit, ...]:
        """List a commit and those before it, newest first."""
        arguments = ("-z", "--no-show-signature", "--format=%H%x09%P%x09%s", f"-n{limit}")
        text = self._call("log", *arguments, _checked_sha(sha), "--")
        rows = [line.split("\t", 2) for line in text.split("\0") if line]
        return tuple(Commit(own, tuple(parents.split()), words) for own, parents, words in rows)

    def _refs(self, prefix: str) -> dict[str, str]:
        lines = self._call("for-each-ref", "--format=%(objectname) %(refname)", "--", prefix)
        pairs = (line.partition(" ") for line in lines.splitlines())
        return {name: sha for sha, _, name in pairs}

    def _call(self, *arguments: str, stdin: bytes = b"") -> str:
        return call(command(self.path, *arguments), stdin=stdin).decode(errors="replace").strip()


def create_from_folder(
    folder: Path, destination: Path, *, branch: str = "main", message: str = "Import"
) -> str:
    """Keep a folder of our own as a bare repository with one branch; return the branch's commit.

    Makes the repository on first use, adds a commit when the folder has changed, and else does
    nothing. The folder's own .gitignore says what is left out. Raises GitError.
    """
    ref = _checked_ref(f"refs/heads/{branch}")
    ignores = folder / ".gitignore"
    rules = {b".gitignore": ignores.read_bytes()} if ignores.is_file() else {}
    with locked(destination, TIMEOUT_S):
        prepare(destination, branch=branch)
        repository = Repository(destination.resolve())
        old = repository.ref(ref)
        tree = import_tree(repository.path, folder, old or EMPTY_TREE, rules=rules).tree
        if old and not repository.changed(old, tree):
            return old
        new = repository.commit(tree, [old] if old else [], message)
        if not repository.set_ref(ref, new, old or ""):
            raise GitError(f"{ref} moved while it was being set")
        return new


def _checked_sha(sha: str) -> str:
    if not _SHA.fullmatch(sha):
        raise GitError(f"{sha!r} is not the full name of a commit", permanent=True)
    return sha


def _checked_ref(name: str) -> str:
    if not _REF.fullmatch(name):
        raise GitError(f"{name!r} is not the full name of a ref", permanent=True)
    return name
