"""Takes a folder that an agent could fill into Git as a tree, byte for byte.

Content never passes through Git's work tree, attributes or filters: files are read here, and Git
is only handed finished blobs. The folder's own `.git` is never looked at.
"""

from __future__ import annotations

import hashlib
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.workspace.folder import (
    DEPTH_LIMIT,
    PATH_LIMIT_BYTES,
    Child,
    Folder,
    FolderError,
    is_git_name,
    is_safe,
    stays_inside,
)
from tasks.workspace.plumbing import GitError, call, command
from tasks.workspace.tree import (
    BATCH_BYTES,
    EMPTY_TREE,
    GITLINK,
    LINK,
    SIZE_LIMIT_BYTES,
    SKIPPED_LIMIT,
    Entry,
    Skipped,
    contents,
    entries,
    refuse_excess,
    text_of,
)

ENTRY_LIMIT = 200_000  # looked at, before what is ignored is left out
UNLINKABLE = (b".gitmodules", b"gitmod~", b"gi7eba~")  # Git reads these, under any file system
# What tools leave behind while they work; a project that tracks any of it keeps it.
LITTER = (
    *("__pycache__/", "*.py[cod]", ".venv/", "venv/", "node_modules/", "*.egg-info/"),
    *(".pytest_cache/", ".ruff_cache/", ".mypy_cache/", ".coverage", ".DS_Store"),
)


@dataclass(frozen=True)
class Imported:
    """A folder's content as a tree in Git."""

    tree: str
    skipped: tuple[Skipped, ...] = ()


def import_tree(
    git_dir: Path,
    source: Path,
    base: str = EMPTY_TREE,
    *,
    rules: Mapping[bytes, bytes] | None = None,
) -> Imported:
    """Store a folder's files and inner links as a tree.

    `base` is the commit or tree that the folder came from: what it tracks is always taken, and
    else its .gitignore files (or `rules`, content by path) say what is left out, never the
    folder's own. What export leaves out of `base` stays as it is. Raises GitError, permanent
    where the folder is too large.
    """
    tracked = {entry.path: entry for entry in entries(git_dir, base)}
    try:
        opened = Folder(source)
    except OSError as error:
        raise GitError(f"{source} is no folder to import: {error.strerror}") from error
    with opened as folder, _sieve(git_dir, tracked, rules) as sieve:
        take = _Intake(git_dir, folder, tracked)
        level = [b""]
        while level:
            level = take.level(level, sieve)
        take.flush()
        take.keep_unexported()
    return Imported(_write_tree(git_dir, take.taken), tuple(take.skipped[:SKIPPED_LIMIT]))


class _Intake:
    """What was found in a folder so far."""

    def __init__(self, git_dir: Path, folder: Folder, tracked: Mapping[bytes, Entry]) -> None:
        self.git_dir, self.folder, self.tracked = git_dir, folder, tracked
        self.known_paths = _directories(tracked) | tracked.keys()
        self.known_shas = {entry.sha for entry in tracked.values()}
        self.taken: dict[bytes, Entry] = {}
        self.skipped: list[Skipped] = []
        self.looked_at = self.size_bytes = 0
        self._fresh: list[bytes] = []
        self._fresh_bytes = 0

    def level(self, directories: list[bytes], sieve: _Sieve) -> list[bytes]:
        """Take the files of some directories; return the directories below them."""
        found = [child for path in directories for child in self._children(path)]
        ignored = sieve.ignored([child for child in found if child.path not in self.known_paths])
        below = []
        for child in found:
            if child.path in ignored:
                continue
            if stat.S_ISDIR(child.mode):
                below.append(child.path)
            else:
                self._take(child)
        return below

    def flush(self) -> None:
        """Hand the blobs that Git doesn't have yet to Git."""
        if self._fresh:
            call(command(self.git_dir, "fast-import", "--quiet"), stdin=b"".join(self._fresh))
        self._fresh, self._fresh_bytes = [], 0

    def keep_unexported(self) -> None:
        """Carry over what the folder could not hold, unless something has taken its place."""
        unseen = [entry for entry in self.tracked.values() if entry.path not in self.taken]
        kept = [entry for entry in unseen if entry.mode == GITLINK]
        links = [entry for entry in unseen if entry.mode == LINK]
        for entry, target in contents(self.git_dir, links):
            if not stays_inside(entry.path, target):
                kept.append(entry)
        directories = _directories(self.taken)
        for entry in kept:
            is_covered = not self.taken.keys().isdisjoint(_directories([entry.path]))
            if entry.path not in directories and not is_covered:
                self.taken[entry.path] = entry

    def _children(self, directory: bytes) -> Iterator[Child]:
        try:
            for child in self.folder.children(directory):
                self.looked_at += 1
                if self.looked_at > ENTRY_LIMIT:
                    raise GitError(f"more than {ENTRY_LIMIT} files in the folder", permanent=True)
                if reason := self._refusal(child):
                    if child.path != b".git":
                        self._skip(child.path, reason)
                else:
                    yield child
        except OSError as error:
            self._skip(directory, error.strerror or str(error))

    def _refusal(self, child: Child) -> str:
        name = child.path.rpartition(b"/")[2]
        if is_git_name(name):
            return "the name belongs to Git"
        if child.oddity:
            return child.oddity
        if stat.S_ISLNK(child.mode) and name.lower().startswith(UNLINKABLE):
            return "Git takes no link of this name"
        if child.path in self.known_paths:
            return ""
        if len(child.path) > PATH_LIMIT_BYTES or child.path.count(b"/") >= DEPTH_LIMIT:
            return "its path is too long"
        return "" if _is_text(child.path) else "its name is not UTF-8"

    def _take(self, child: Child) -> None:
        left = SIZE_LIMIT_BYTES - self.size_bytes
        if stat.S_ISREG(child.mode) and child.size_bytes > left:
            refuse_excess(0, self.size_bytes + child.size_bytes)
        try:
            if stat.S_ISLNK(child.mode):
                content, mode = self.folder.read_link(child.path), LINK
                if not stays_inside(child.path, content):
                    raise FolderError("it points outside")
            else:
                content, is_executable = self.folder.read(child.path, left)
                mode = "100755" if is_executable else "100644"
        except (OSError, FolderError) as error:
            self._skip(child.path, getattr(error, "strerror", None) or str(error))
            return
        self.size_bytes += len(content)
        self.taken[child.path] = Entry(child.path, mode, self._store(content), len(content))
        refuse_excess(len(self.taken), self.size_bytes)

    def _store(self, content: bytes) -> str:
        header = b"blob %d\0" % len(content)
        sha = hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
        if sha not in self.known_shas:
            self.known_shas.add(sha)
            self._fresh.append(b"blob\ndata %d\n%b\n" % (len(content), content))
            self._fresh_bytes += len(content)
            if self._fresh_bytes > BATCH_BYTES:
                self.flush()
        return sha

    def _skip(self, path: bytes, reason: str) -> None:
        if len(self.skipped) < SKIPPED_LIMIT:
            self.skipped.append(Skipped(text_of(path), reason))


@dataclass(frozen=True)
class _Sieve:
    """Answers which paths are ignored, from a copy of the .gitignore files that count."""

    git_dir: Path
    shadow: Path

    def ignored(self, children: list[Child]) -> set[bytes]:
        """Return the paths among `children` that are ignored; one call of Git, or none."""
        if not children:
            return set()
        with Folder(self.shadow) as shadow:
            for child in children:
                if stat.S_ISDIR(child.mode):  # Git looks whether `name/` applies
                    shadow.make(child.path)
        arguments = ("check-ignore", "--no-index", "--stdin", "-z")
        settings = (f"core.excludesFile={self.shadow}/.git/litter",)
        # With the dot, a name that begins with a colon is no pattern to Git.
        asked = b"".join(b"./" + child.path + b"\0" for child in children)
        ask = command(self.git_dir, *arguments, settings=settings, work_tree=self.shadow)
        try:
            answer = call(ask, stdin=asked)
        except GitError as error:
            if error.returncode == 1:  # none is
                return set()
            raise
        return {path.removeprefix(b"./") for path in answer.split(b"\0")[:-1]}


@contextmanager
def _sieve(
    git_dir: Path, tracked: Mapping[bytes, Entry], rules: Mapping[bytes, bytes] | None
) -> Iterator[_Sieve]:
    with tempfile.TemporaryDirectory(prefix="chimera-ignore-") as name:
        shadow = Path(name)
        (shadow / ".git").mkdir()
        (shadow / ".git" / "litter").write_text("\n".join(LITTER) + "\n")
        if rules is None:
            files = [e for e in tracked.values() if e.path.rpartition(b"/")[2] == b".gitignore"]
            files = [entry for entry in files if entry.mode != LINK and is_safe(entry.path)]
            rules = {entry.path: content for entry, content in contents(git_dir, files)}
        with Folder(shadow) as folder:
            for path, content in rules.items():
                folder.write(path, content)
        yield _Sieve(git_dir, shadow)


def _write_tree(git_dir: Path, taken: Mapping[bytes, Entry]) -> str:
    lines = [f"{e.mode} {e.sha}\t".encode() + e.path + b"\0" for e in taken.values()]
    with tempfile.TemporaryDirectory(prefix="chimera-index-") as name:
        index = {"GIT_INDEX_FILE": f"{name}/index"}
        update = command(git_dir, "update-index", "-z", "--index-info", environment=index)
        call(update, stdin=b"".join(lines))
        return call(command(git_dir, "write-tree", environment=index)).decode().strip()


def _directories(paths: Iterable[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for path in paths:
        above = path.rpartition(b"/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition(b"/")[0]
    return found


def _is_text(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True
