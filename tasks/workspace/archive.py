"""One file that holds many, each with its hash: written while others work, read with suspicion.

The manifest comes last and names every member, so a file that was cut short is told from a whole
one. Only plain files are members; whatever else an archive may hold is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tasks.workspace.plainfile import open_plain

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
_CHUNK = 1024 * 1024
_GZIP_LEVEL = 3  # pictures and packs are compressed already

Moved = Callable[[int], None]  # is told how many bytes have gone by


class ArchiveError(Exception):
    """The archive cannot be used; the text says why."""


@dataclass(frozen=True)
class Member:
    """What the manifest says of one file."""

    sha256: str
    size_bytes: int


class _Counted:
    """A file as it was when it was opened: what is written behind its end stays out."""

    def __init__(self, source: IO[bytes], size_bytes: int, moved: Moved) -> None:
        self._source, self._left, self._moved = source, size_bytes, moved
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        wanted = min(size, self._left)
        # A file that has become shorter meanwhile keeps the size that its header names.
        chunk = self._source.read(wanted).ljust(wanted, b"\0")
        self._left -= wanted
        self.digest.update(chunk)
        self._moved(wanted)
        return chunk


class Writer:
    """Adds one file after the other."""

    def __init__(self, tar: tarfile.TarFile, moved: Moved) -> None:
        self._tar = tar
        self._moved = moved
        self.members: dict[str, Member] = {}

    def add(self, name: str, path: Path) -> bool:
        """Add a plain file under `name`; False if it is none, or gone."""
        try:
            source = open_plain(path)
        except OSError:
            return False
        with source:
            status = os.fstat(source.fileno())
            self._add(name, source, status.st_size, status.st_mtime)
        return True

    def _add(self, name: str, source: IO[bytes], size_bytes: int, mtime: float) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size_bytes, int(mtime), 0o600
        counted = _Counted(source, size_bytes, self._moved)
        self._tar.addfile(info, counted)  # type: ignore[arg-type] # it only reads
        self.members[name] = Member(counted.digest.hexdigest(), size_bytes)

    def finish(self, about: Mapping[str, Any], mtime: float) -> None:
        """Add the manifest; nothing may follow."""
        listed = {
            name: {"sha256": member.sha256, "bytes": member.size_bytes}
            for name, member in self.members.items()
        }
        content = json.dumps({**about, "members": listed}, indent=1).encode()
        self._add(MANIFEST, io.BytesIO(content), len(content), mtime)


@contextlib.contextmanager
def writing(file: Path, moved: Moved = lambda _: None) -> Iterator[Writer]:
    """Write an archive that only its owner can read; it appears under its name when it is whole.

    Raises FileExistsError if the name is taken.
    """
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            with tarfile.open(
                fileobj=raw, mode="w:gz", compresslevel=_GZIP_LEVEL, format=tarfile.PAX_FORMAT
            ) as tar:
                yield Writer(tar, moved)
            raw.flush()
            os.fsync(raw.fileno())
        _appear(part, file)
    finally:
        part.unlink(missing_ok=True)


def _appear(part: Path, file: Path) -> None:
    try:
        os.link(part, file)  # unlike a rename it replaces nothing
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        part.rename(file)


def extract(
    file: Path, folder: Path, accepts: Callable[[str], bool], moved: Moved = lambda _: None
) -> dict[str, Any]:
    """Unpack into a folder of ours and return the manifest, once everything fits it.

    `accepts` says which names may be there. Raises ArchiveError, and OSError for the disk.
    """
    found: dict[str, Member] = {}
    try:
        with tarfile.open(file, "r:gz") as tar:
            for member in tar:
                _refuse_strange(member, folder, accepts)
                if member.name in found:
                    raise ArchiveError(f"{member.name!r} is in it twice")
                found[member.name] = _unpack(tar, member, folder, moved)
    except (tarfile.TarError, EOFError, zlib.error, UnicodeError) as error:
        raise ArchiveError(f"it is damaged: {error}") from error
    except OSError as error:
        if error.errno is None:  # gzip's own complaints have no number
            raise ArchiveError(f"it is damaged: {error}") from error
        raise
    return _checked_manifest(folder, found)


def _refuse_strange(member: tarfile.TarInfo, folder: Path, accepts: Callable[[str], bool]) -> None:
    path = PurePosixPath(member.name)
    if not member.isreg() or path.is_absolute() or ".." in path.parts or "\0" in member.name:
        raise ArchiveError(f"it holds {member.name!r}, which is no plain file inside of it")
    if member.name != str(path) or not (member.name == MANIFEST or accepts(member.name)):
        raise ArchiveError(f"it holds {member.name!r}, which has no place here")
    # The interpreter's own check as well; the first releases of 3.11 have none.
    own_check = getattr(tarfile, "data_filter", None)
    if own_check is not None:
        own_check(member, str(folder))
    if member.name == MANIFEST and member.size > MAX_MANIFEST_BYTES:
        raise ArchiveError("its manifest is too large")
    free = shutil.disk_usage(folder).free
    if member.size > free:
        raise ArchiveError(f"there is no room for {member.name}: {member.size} bytes")


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, moved: Moved) -> Member:
    target = folder / member.name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source = tar.extractfile(member)
    if source is None:
        raise ArchiveError(f"{member.name} cannot be read")
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    digest, size = hashlib.sha256(), 0
    with os.fdopen(descriptor, "wb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            moved(len(chunk))
    return Member(digest.hexdigest(), size)


def _checked_manifest(folder: Path, found: dict[str, Member]) -> dict[str, Any]:
    if found.pop(MANIFEST, None) is None:
        raise ArchiveError("it has no manifest, so it is not whole")
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        listed = {
            name: Member(each["sha256"], each["bytes"])
            for name, each in manifest["members"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError("its manifest cannot be read") from error
    for name in sorted(listed.keys() | found.keys()):
        if listed.get(name) != found.get(name):
            raise ArchiveError(f"{name!r} is not what the manifest says")
    return dict(manifest)
