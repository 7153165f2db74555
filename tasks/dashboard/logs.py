"""Reading a log that is still being written, from a byte offset, in bounded pieces."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.dashboard.plain import plain

PIECE_BYTES = 64 * 1024  # what one answer reads at most
LINE_BYTES = 8 * 1024  # a longer line is cut into several


@dataclass(frozen=True)
class LogPiece:
    """Whole lines from an offset on, and the unfinished line that follows them.

    `next_offset` is where to go on; it stands before `rest`, which is read again, grown.
    """

    lines: tuple[str, ...] = ()
    rest: str = ""
    next_offset: int = 0
    has_more: bool = False


def read_piece(path: Path, folder: Path, offset: int) -> LogPiece:
    """Read the log at `path` from `offset`; an absent log, or one outside `folder`, is empty.

    An offset beyond the end starts again at the beginning: the log was replaced.
    """
    content, start, size_bytes = _read(path, folder, offset)
    cut = content.rfind(b"\n") + 1
    if len(content) - cut >= LINE_BYTES:
        cut = len(content)
    lines = plain(content[:cut].decode("utf-8", "replace")).split("\n")
    if not lines[-1]:
        lines.pop()
    has_more = start + len(content) < size_bytes
    rest = "" if has_more else plain(content[cut:].decode("utf-8", "replace"))
    return LogPiece(tuple(lines), rest, start + cut, has_more)


def read_tail(path: Path, folder: Path, limit_bytes: int = PIECE_BYTES) -> LogPiece:
    """Read the last `limit_bytes` of the log, from the start of a line."""
    size_bytes = _read(path, folder, 0, 0)[2]
    start = max(0, size_bytes - min(limit_bytes, PIECE_BYTES))
    piece = read_piece(path, folder, start)
    return replace(piece, lines=piece.lines[1:]) if start else piece


def read_inside(path: Path, folder: Path, limit_bytes: int) -> str | None:
    """Read a text file below `folder`, cut at `limit_bytes`; None if there is none."""
    try:
        handle = _open_inside(path, folder)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read(limit_bytes).decode("utf-8", "replace")


def _read(
    path: Path, folder: Path, offset: int, limit_bytes: int = PIECE_BYTES
) -> tuple[bytes, int, int]:
    """Return content, the offset that it starts at, and the size of the whole file."""
    try:
        handle = _open_inside(path, folder)
    except OSError:
        return b"", 0, 0
    with os.fdopen(handle, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        start = offset if 0 <= offset <= size_bytes else 0
        file.seek(start)
        return file.read(limit_bytes), start, size_bytes


def _open_inside(path: Path, folder: Path) -> int:
    """Open a regular file below `folder`. Raises OSError for a link, a pipe, a way out."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise PermissionError(f"{path} is outside {folder}")
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise PermissionError(f"{path} is no regular file")
    return handle
