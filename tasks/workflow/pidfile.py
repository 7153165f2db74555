"""One factory per CHIMERA_HOME: a file that names it, locked as long as it runs.

The kernel gives the lock back when its holder is killed, so a file that was left behind never
stands in the way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.workflow import pids
from tasks.workflow.pids import ProcessId


@dataclass(frozen=True)
class Running:
    """A factory that runs: its supervisor, and where its web server listens."""

    process: ProcessId
    url: str


class AlreadyRunningError(Exception):
    """Another supervisor holds the file."""


class PidFile:
    """The file of the supervisor that this process is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def take(self, url: str) -> None:
        """Lock the file and write this process into it. Raises AlreadyRunningError."""
        file = self._lock()
        process = pids.current()
        file.truncate(0)
        file.write(json.dumps({"pid": process.pid, "start": process.start, "url": url}) + "\n")
        file.flush()
        self._file = file

    def leave(self) -> None:
        """Remove the file; harmless if it was never taken."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def _lock(self) -> IO[str]:
        while True:
            file = self._path.open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise AlreadyRunningError(str(self._path)) from None
            if self._is_still_there(file):
                return file
            file.close()  # its last owner removed it between our opening and our locking

    def _is_still_there(self, file: IO[str]) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        return False


def read(path: Path) -> Running | None:
    """Return the factory that the file names, if it still runs."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(path.read_text())
        process = ProcessId(int(content["pid"]), int(content["start"]))
        if process.is_alive:
            return Running(process, str(content["url"]))
    return None
