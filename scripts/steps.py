"""Run a slow command as one line of progress, and keep what it printed."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

TICK_S = 0.2
PLAIN_EVERY_S = 10.0  # without a terminal: a sign of life this often
WIDTH = 96
QUIET = ("WARNING", "Attempting uninstall", "Found existing", "Uninstalling", "Successfully un")
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

# Settings of the caller that would send packages elsewhere than into .venv.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")


class StepError(Exception):
    """A step failed; the text says which, shows the end of its output, and what to do."""


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def clean_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return the caller's environment without what would misdirect pip and venv."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return kept | (extra or {})


def run(
    title: str,
    argv: Sequence[str],
    log: Path,
    *,
    advice: str = "",
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run `argv`, showing `title` and the seconds; its output is appended to `log`.

    Blocks. Raises StepError with the last lines and `advice` if it ends with another code than 0.
    """
    began = time.monotonic()
    display = _Display(title, began)
    tail: list[str] = []
    try:
        child = subprocess.Popen(  # noqa: S603 - argv is made here, no shell
            list(argv),
            env=clean_environment(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise StepError(f"{title}: {error}") from error
    with child, _file(log) as file:
        for line in _lines(child, display):
            file.write(line)
            tail = [*tail[-29:], line.rstrip()]
    if child.returncode != 0:
        display.end("✗")
        text = "\n".join(f"    {line}" for line in tail)
        raise StepError(f"{title} failed (code {child.returncode}):\n{text}\n{advice}".rstrip())
    display.end("✓")


@contextlib.contextmanager
def _file(log: Path) -> Iterator[TextIO]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", errors="replace") as file:
        yield file


def _lines(child: subprocess.Popen[str], display: _Display) -> Iterator[str]:
    """Yield the child's lines, and let the display move while there are none."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None  # noqa: S101 - started with a pipe
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=TICK_S)
        except queue.Empty:
            display.tick("")
            continue
        if line is None:
            return
        display.tick(line.strip())
        yield line


class _Display:
    """One line that moves in a terminal; elsewhere a line now and then."""

    def __init__(self, title: str, began: float) -> None:
        self._title = title
        self._began = began
        self._moves = sys.stdout.isatty()
        self._last = ""
        self._spoken = began
        self._frame = 0
        if not self._moves:
            say(f"  … {title}")

    def tick(self, line: str) -> None:
        """Show that it goes on, with the newest line of the command."""
        if line and not line.startswith(QUIET):
            self._last = line
        now = time.monotonic()
        if self._moves:
            self._frame = (self._frame + 1) % len(FRAMES)
            text = f"  {FRAMES[self._frame]} {self._title}  {now - self._began:.0f} s  {self._last}"
            sys.stdout.write(f"\r\x1b[2K{text[:WIDTH]}")
            sys.stdout.flush()
        elif now - self._spoken >= PLAIN_EVERY_S:
            self._spoken = now
            say(f"    {now - self._began:.0f} s  {self._last}"[:WIDTH])

    def end(self, mark: str) -> None:
        """Leave one line behind: the mark, the title, the time."""
        start = "\r\x1b[2K" if self._moves else ""
        say(f"{start}  {mark} {self._title}  ({time.monotonic() - self._began:.0f} s)")
