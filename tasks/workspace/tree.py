"""Reads trees of Git, and writes them into folders, byte for byte.

Git's own check-out is not used: it converts content as attributes say, and follows what it finds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.workspace.folder import Folder, FolderError, is_safe
from tasks.workspace.plumbing import GitError, call, command

FILE_LIMIT = 20_000
SIZE_LIMIT_BYTES = 200 * 1024 * 1024
SKIPPED_LIMIT = 1000  # reported; a hostile folder may hold any number
BATCH_BYTES = 16 * 1024 * 1024  # content held in memory at a time
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
LINK, GITLINK = "120000", "160000"


@dataclass(frozen=True)
class Skipped:
    """A path that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A file, link or gitlink of a tree."""

    path: bytes
    mode: str  # 100644, 100755, LINK or GITLINK
    sha: str
    size_bytes: int = 0


def text_of(path: bytes) -> str:
    """Return a path for people and JSON: bytes that are not UTF-8 are shown escaped."""
    return path.decode(errors="backslashreplace")


def entries(git_dir: Path, treeish: str, under: bytes = b"") -> list[Entry]:
    """List the files, links and gitlinks of a tree, or of one path in it. Raises GitError."""
    only = ("--", os.fsdecode(under)) if under else ()
    arguments = ("ls-tree", "-r", "-z", "-l", "--full-tree", treeish, *only)
    listing = command(git_dir, *arguments, environment={"GIT_LITERAL_PATHSPECS": "1"})
    found = []
    for line in call(listing).split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        mode, _, sha, size = facts.decode().split()
        found.append(Entry(path, mode, sha, int(size) if size != "-" else 0))
    return found


def contents(git_dir: Path, wanted: list[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """Read blobs, a batch of bounded size at a time."""
    batch: list[Entry] = []
    size = 0
    for entry in wanted:
        if batch and size + entry.size_bytes > BATCH_BYTES:
            yield from _read_batch(git_dir, batch)
            batch, size = [], 0
        batch.append(entry)
        size += entry.size_bytes
    yield from _read_batch(git_dir, batch)


def _read_batch(git_dir: Path, batch: list[Entry]) -> Iterator[tuple[Entry, bytes]]:
    if not batch:
        return
    asked = "".join(f"{entry.sha}\n" for entry in batch).encode()
    answer = memoryview(call(command(git_dir, "cat-file", "--batch"), stdin=asked))
    at = 0
    for entry in batch:
        header = bytes(answer[at : at + 200]).partition(b"\n")[0]
        at += len(header) + 1
        size = int(header.split()[2])
        yield entry, bytes(answer[at : at + size])
        at += size + 1


def export_tree(git_dir: Path, treeish: str, target: Path) -> tuple[Skipped, ...]:
    """Write a tree into a folder, which is made or is empty; report what was left out.

    Submodules and links that could lead outside are left out. Raises GitError, permanent where
    the tree is too large or holds a name that no folder may be given.
    """
    found = entries(git_dir, treeish)
    refuse_excess(len(found), sum(entry.size_bytes for entry in found))
    for entry in found:
        if not is_safe(entry.path):
            raise GitError(f"a path that is not safe to write: {entry.path!r}", permanent=True)
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise GitError(f"{target} is not empty", permanent=True)
    wanted = [entry for entry in found if entry.mode != GITLINK]
    skipped = [Skipped(text_of(e.path), "it is a submodule") for e in found if e.mode == GITLINK]
    # Links come last, so that none of them is there when a path is walked.
    wanted.sort(key=lambda entry: entry.mode == LINK)
    with Folder(target) as folder:
        for entry, content in contents(git_dir, wanted):
            try:
                if entry.mode == LINK:
                    folder.write_link(entry.path, content)
                else:
                    is_executable = entry.mode == "100755"
                    folder.write(entry.path, content, is_executable=is_executable)
            except (OSError, FolderError) as error:
                if entry.mode != LINK:
                    raise GitError(f"{text_of(entry.path)}: {error}") from error
                skipped.append(Skipped(text_of(entry.path), str(error)))
    return tuple(skipped[:SKIPPED_LIMIT])


class ImportLimitError(GitError):
    """The tree is larger than Chimera works on."""


def refuse_excess(files: int, size_bytes: int) -> None:
    """Raise ImportLimitError, permanent, where that is more than Chimera works on."""
    if files > FILE_LIMIT:
        raise ImportLimitError(f"more than {FILE_LIMIT} files", permanent=True)
    if size_bytes > SIZE_LIMIT_BYTES:
        size_mib = SIZE_LIMIT_BYTES // 2**20
        raise ImportLimitError(f"more than {size_mib} MiB of files", permanent=True)
