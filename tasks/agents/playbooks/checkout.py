"""Read and write files of a checkout that nobody trusts: no links followed, nothing outside.

Every path is opened component by component from the root's descriptor with O_NOFOLLOW, so a
symbolic link anywhere in it is an error, wherever it points.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MAX_FILE_BYTES = 1024 * 1024
MAX_FILES = 20_000
# Generated, foreign, or no page of the site.
_SKIPPED = (
    "node_modules bower_components vendor venv env site-packages __pycache__ build dist target"
    " htmlcov coverage tests test e2e email emails mail mails"
)
SKIPPED_FOLDERS = frozenset(_SKIPPED.split())


class CheckoutError(Exception):
    """A path of the checkout cannot be used."""


def walk(root: Path, suffixes: frozenset[str]) -> Iterator[str]:
    """Yield the paths of regular files with these suffixes, relative to `root`, in order.

    Links, hidden folders and folders that hold no pages of the site are passed over.
    """
    seen = 0
    for folder, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if _is_wanted(name))
        for name in sorted(files):
            seen += 1
            if seen > MAX_FILES:
                return
            path = Path(folder, name)
            if path.suffix.lower() in suffixes and stat.S_ISREG(path.lstat().st_mode):
                yield path.relative_to(root).as_posix()


def read(root: Path, path: str) -> str | None:
    """Return a file's text, bytes that aren't UTF-8 escaped; None if it is too large.

    Raises CheckoutError.
    """
    with os.fdopen(_open(root, path, os.O_RDONLY, make_folders=False), "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    return None if len(content) > MAX_FILE_BYTES else content.decode(errors="surrogateescape")


def write(root: Path, path: str, text: str) -> None:
    """Write a file, making its folders; what `read` returned goes back unharmed.

    Raises CheckoutError.
    """
    descriptor = _open(root, path, os.O_WRONLY | os.O_CREAT, make_folders=True)
    with os.fdopen(descriptor, "wb") as file:
        os.ftruncate(descriptor, 0)
        file.write(text.encode(errors="surrogateescape"))


def remove(root: Path, path: str) -> None:
    """Remove a file that `read` could read. Raises CheckoutError."""
    os.close(_open(root, path, os.O_RDONLY, make_folders=False))
    root.joinpath(*_parts(path)).unlink()


def exists(root: Path, path: str) -> bool:
    """Say whether something of that name is there, a link that leads nowhere too."""
    return os.path.lexists(root.joinpath(*_parts(path)))


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in SKIPPED_FOLDERS


def _parts(path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or ".git" in parts or "\0" in path:
        raise CheckoutError(f"not a path inside the checkout: {path!r}")
    return parts


def _open(root: Path, path: str, flags: int, *, make_folders: bool) -> int:
    """Return a descriptor of a regular file under `root`."""
    *folders, name = _parts(path)
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            if make_folders:
                _make_folder(part, folder)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # O_NONBLOCK: opening a named pipe must not wait for its other end.
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644, dir_fd=folder)
    except OSError as error:
        raise CheckoutError(f"{path}: {error.strerror}") from error
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckoutError(f"{path}: not a regular file")
    return descriptor


def _make_folder(name: str, folder: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        return  # a folder, or something that opening it will refuse
