"""Reads, writes and deletes folders that a hostile program could fill, never following a link.

Every step goes through a descriptor of the folder it happens in, so what is swapped for a link in
between is refused by the kernel. Permissions that an agent took from us are taken back. Paths are
bytes with slashes, relative to the folder's root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PATH_LIMIT_BYTES = 1024
DEPTH_LIMIT = 64
REMOVE_TIMEOUT_S = 120.0
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GIT_NAME = re.compile(rb"(\.git|git~1)[. ]*(:.*)?", re.IGNORECASE | re.DOTALL)


class FolderError(Exception):
    """The folder can't be worked on safely, or not at all."""


@dataclass(frozen=True)
class Child:
    """An entry of a directory: its path from the root, and the mode and size that lstat gave."""

    path: bytes
    mode: int
    size_bytes: int

    @property
    def oddity(self) -> str:
        """Name what it is when neither file, directory nor link; else ""."""
        kinds = {stat.S_IFREG: "", stat.S_IFDIR: "", stat.S_IFLNK: "", stat.S_IFIFO: "a FIFO"}
        return {**kinds, stat.S_IFSOCK: "a socket"}.get(stat.S_IFMT(self.mode), "a device")


def is_git_name(name: bytes) -> bool:
    """Say whether some file system would take the name for `.git`; Git refuses to store those."""
    return any(_GIT_NAME.fullmatch(part) for part in name.split(b"\\"))


def is_safe(path: bytes) -> bool:
    """Say whether a path stays below its root and outside of any `.git`."""
    names = path.split(b"/")
    return b"\0" not in path and not any(
        name in (b"", b".", b"..") or is_git_name(name) for name in names
    )


def stays_inside(path: bytes, target: bytes) -> bool:
    """Say whether a link at `path` that points to `target` can't lead out of the root.

    Only leading `..` are accepted: after a name, which may be a link itself, nobody can tell
    where `..` leads.
    """
    names = [name for name in target.split(b"/") if name not in (b"", b".")]
    ups = next((i for i, name in enumerate(names) if name != b".."), len(names))
    rest = b"/".join(names[ups:])
    is_relative = bool(target) and not target.startswith(b"/") and len(target) <= PATH_LIMIT_BYTES
    return is_relative and ups <= path.count(b"/") and (not rest or is_safe(rest))


class Folder:
    """An open folder; use it in a `with`. Raises OSError where the kernel refuses."""

    def __init__(self, path: Path) -> None:
        above = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._root = _open_allowed(os.fsencode(path.name), above, _DIRECTORY, 0o700)
        finally:
            os.close(above)
        self._last: tuple[bytes, int] | None = None  # neighbours come one after the other

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._forget()
        os.close(self._root)

    def children(self, path: bytes = b"") -> Iterator[Child]:
        """List a directory, in no order; `path` "" is the root."""
        for child, found in self.entries(path):
            yield Child(child, found.st_mode, found.st_size)

    def entries(self, path: bytes = b"") -> Iterator[tuple[bytes, os.stat_result]]:
        """List a directory as `children` does, with all that lstat gave."""
        prefix = path + b"/" if path else b""
        with os.scandir(self._open(path)) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                    found = entry.stat(follow_symlinks=False)
                    yield prefix + os.fsencode(entry.name), found

    def read(self, path: bytes, limit_bytes: int) -> tuple[bytes, bool]:
        """Return a file's content and whether its owner may execute it.

        Raises FolderError where it is no regular file, or larger than the limit.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        parent, name = self._parent(path)
        own = _open_allowed(name, parent, flags, 0o400)
        with open(own, "rb") as file:  # noqa: PTH123 - a descriptor
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise FolderError("it is not a regular file any more")
            content = b"" if found.st_size > limit_bytes else file.read(limit_bytes + 1)
            if found.st_size > limit_bytes or len(content) > limit_bytes:
                raise FolderError(f"it is larger than {limit_bytes} bytes")
        return content, bool(found.st_mode & stat.S_IXUSR)

    def read_link(self, path: bytes) -> bytes:
        """Return where a link points."""
        parent, name = self._parent(path)
        return os.readlink(name, dir_fd=parent)

    def write(self, path: bytes, content: bytes, *, is_executable: bool = False) -> None:
        """Write a new file, and the directories above it; what is there already is replaced.

        It is replaced rather than overwritten: it may be a link, or a name of a file elsewhere.
        Raises FolderError for a path that leaves the folder or enters `.git`.
        """
        parent, name = self._parent(path, create=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = 0o755 if is_executable else 0o644
        with open(os.open(name, flags, mode, dir_fd=parent), "wb") as file:  # noqa: PTH123
            file.write(content)

    def write_link(self, path: bytes, target: bytes) -> None:
        """Make a link. Raises FolderError where it would lead out of the folder."""
        if not stays_inside(path, target):
            raise FolderError("it points outside")
        parent, name = self._parent(path, create=True)
        os.symlink(target, name, dir_fd=parent)

    def make(self, path: bytes) -> None:
        """Make a directory and those above it."""
        self._parent(path + b"/-", create=True)

    def _parent(self, path: bytes, *, create: bool = False) -> tuple[int, bytes]:
        if not is_safe(path):
            raise FolderError(f"{path!r} is not a path inside a workspace")
        above, _, name = path.rpartition(b"/")
        return self._open(above, create=create), name

    def _open(self, path: bytes, *, create: bool = False) -> int:
        """Return a descriptor of a directory that stays open until the next call."""
        if not path:
            return self._root
        if self._last and self._last[0] == path:
            return self._last[1]
        self._forget()
        at = os.dup(self._root)
        for name in path.split(b"/"):
            above = at
            try:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=above)
                at = _open_allowed(name, above, _DIRECTORY, 0o700 if create else 0o500)
            finally:
                os.close(above)
        self._last = (path, at)
        return at

    def _forget(self) -> None:
        if self._last:
            os.close(self._last[1])
        self._last = None


def disk_usage(path: Path) -> int:
    """Return the bytes that a folder takes on the disk; 0 where there is none. Blocks.

    No link is followed, holes in files and second names of one file count nothing, and what lies
    deeper than `DEPTH_LIMIT`, or can't be read, is left out.
    """
    total, names = 0, set[tuple[int, int]]()
    with contextlib.suppress(OSError), Folder(path) as folder:
        left = [b""]
        while left:
            inner = left.pop()
            with contextlib.suppress(OSError):
                for child, found in folder.entries(inner):
                    name = (found.st_dev, found.st_ino)
                    total += 0 if name in names else found.st_blocks * 512
                    if stat.S_ISDIR(found.st_mode):
                        left += [child] if child.count(b"/") < DEPTH_LIMIT else []
                    elif found.st_nlink > 1:
                        names.add(name)
    return total


def remove(path: Path, timeout_s: float = REMOVE_TIMEOUT_S) -> None:
    """Delete a folder whatever it holds: unwritable, endlessly deep, full of links. Blocks.

    No link is followed, and nothing happens when there is nothing at `path`. Directories are
    moved up to the root before they are emptied, so depth costs neither stack nor descriptors.
    Raises FolderError when somebody keeps filling it, OSError when the kernel refuses.
    """
    limit = time.monotonic() + timeout_s
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        path.unlink(missing_ok=True)
        return
    above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        root = _open_allowed(os.fsencode(path.name), above, _DIRECTORY, 0o700)
        try:
            while names := os.listdir(root):  # noqa: PTH208 - a descriptor
                for name in names:
                    _delete(os.fsencode(name), root, root)
                if time.monotonic() > limit:
                    raise FolderError(f"{path} could not be emptied in {timeout_s:g} s")
        finally:
            os.close(root)
        os.rmdir(os.fsencode(path.name), dir_fd=above)
    finally:
        os.close(above)


def _delete(name: bytes, parent: int, root: int) -> None:
    """Delete a file or link; of a directory in the root, move its directories up and go on."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        own = _open_allowed(name, parent, _DIRECTORY, 0o700)
        try:
            if parent != root:
                os.rename(name, f".{secrets.token_hex(12)}", src_dir_fd=parent, dst_dir_fd=root)
                return
            for inner in os.listdir(own):  # noqa: PTH208 - a descriptor
                _delete(os.fsencode(inner), own, root)
        finally:
            os.close(own)
        _remove_empty(name, parent)


def _remove_empty(name: bytes, parent: int) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise  # one that is being filled is seen by the next pass


def _open_allowed(name: bytes, parent: int, flags: int, bits: int) -> int:
    """Open a file or directory of ours after giving its owner the permission `bits`."""
    if sys.platform == "linux":
        # Only a descriptor surely names what was looked at; chmod by name would follow a link.
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISLNK(mode) and mode & bits != bits:
                Path(f"/proc/self/fd/{handle}").chmod(stat.S_IMODE(mode) | bits)
        finally:
            os.close(handle)
    return os.open(name, flags, dir_fd=parent)
