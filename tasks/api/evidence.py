"""Files of a task over HTTP: opened without following a link, sent in small blocks.

What lies there was made by agents and by sites under test, so it is treated as hostile.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from asgiref.sync import sync_to_async
from django.http import HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header

BLOCK_BYTES = 64 * 1024
SANDBOXED = "sandbox; default-src 'none'"
# Chromium's player is a page of its own around the video: it needs its origin, and no script.
PLAYABLE = (
    "sandbox allow-same-origin; default-src 'none'; media-src 'self'; style-src 'unsafe-inline'"
)

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = _FLAGS | os.O_DIRECTORY


class GoneError(Exception):
    """The file is not there, or is not a plain file inside the task's folder."""


@dataclass(frozen=True)
class Text:
    """Bytes of our own between files."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """Return how long it is."""
        return len(self.data)

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `end`."""
        yield self.data[start:end]


@dataclass(frozen=True)
class File:
    """A file below `folder`, as long as it was when it was looked at; it may grow meanwhile."""

    folder: Path
    path: str
    size_bytes: int

    @classmethod
    def find(cls, folder: Path, path: str) -> File:
        """Look at a file. Blocks. Raises GoneError."""
        with open_inside(folder, path) as file:
            return cls(folder, path, os.fstat(file.fileno()).st_size)

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `end` in small blocks; fewer if it was cut."""
        with open_inside(self.folder, self.path) as file:
            file.seek(start)
            left = end - start
            while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
                left -= len(block)
                yield block


Section = Text | File


def open_inside(folder: Path, path: str) -> BinaryIO:
    """Open the plain file at `path` below `folder`; no name on the way may be a link.

    Raises GoneError, whose text can be shown.
    """
    names = path.split("/")
    if "\0" in path or any(name in {"", ".", ".."} for name in names):
        raise GoneError("The recorded path leads out of the task's folder.")
    try:
        place = os.open(folder, _FOLDER)
        try:
            for name in names[:-1]:
                inner = os.open(name, _FOLDER, dir_fd=place)
                os.close(place)
                place = inner
            # O_NONBLOCK: a pipe that somebody left there must not hang the server.
            descriptor = os.open(names[-1], _FLAGS | os.O_NONBLOCK, dir_fd=place)
        finally:
            os.close(place)
    except OSError as error:
        raise GoneError("The file is not there any more.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise GoneError("What lies there is not a plain file.")
    return os.fdopen(descriptor, "rb")


@dataclass(frozen=True)
class Window:
    """Which bytes of a whole are wanted; `is_part` when a Range header asked for them."""

    start: int
    end: int
    is_part: bool = False


def window(size_bytes: int, range_header: str) -> Window | None:
    """Return what a Range header asks for, all where it asks for nothing that can be given alone.

    None when it starts beyond the end.
    """
    asked = _RANGE.fullmatch(range_header.strip())
    if asked is None or asked.groups() == ("", ""):
        return Window(0, size_bytes)
    first, last = asked.groups()
    if not first:
        start = max(0, size_bytes - int(last))
        return Window(start, size_bytes, is_part=True) if start < size_bytes else None
    start = int(first)
    if start >= size_bytes:
        return None
    end = min(size_bytes, int(last) + 1) if last else size_bytes
    return Window(start, end, is_part=True) if end > start else Window(0, size_bytes)


class EvidenceResponse(StreamingHttpResponse):
    """Sections of bytes, read while they are sent, in a sandbox of their own in the browser."""

    def __init__(
        self, sections: Sequence[Section], part: Window, content_type: str, filename: str = ""
    ) -> None:
        size_bytes = sum(section.size_bytes for section in sections)
        self._blocks = cut(sections, part.start, part.end)
        super().__init__(self._blocks, content_type=content_type)
        self["Content-Length"] = str(part.end - part.start)
        self["Accept-Ranges"] = "bytes"
        self["X-Content-Type-Options"] = "nosniff"
        is_video = content_type == "video/webm" and not filename
        self["Content-Security-Policy"] = PLAYABLE if is_video else SANDBOXED
        if part.is_part:
            self.status_code = 206
            self["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size_bytes}"
        if filename:
            name = re.sub(r"[^\w.-]", "_", filename)
            self["Content-Disposition"] = content_disposition_header(True, name) or "attachment"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Read block by block; Django alone would collect a synchronous iterator as a whole."""
        following = sync_to_async(self._following)
        while block := await following():
            yield block

    def _following(self) -> bytes:
        return next(self._blocks, b"")


def cut(sections: Sequence[Section], start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `start` up to `end` of the sections laid end to end."""
    position = 0
    for section in sections:
        first = max(0, start - position)
        last = min(section.size_bytes, end - position)
        if first < last:
            yield from section.blocks(first, last)
        position += section.size_bytes


def out_of_range(size_bytes: int, response: HttpResponseBase) -> HttpResponseBase:
    """Mark an answer to a Range that starts beyond the end."""
    response["Content-Range"] = f"bytes */{size_bytes}"
    return response
