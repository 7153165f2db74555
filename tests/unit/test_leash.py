"""A call that waits for ever does not outlive the process that made it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

from tasks.workspace import leash
from tasks.workspace.plumbing import command

CODE = """\
import pathlib
from tasks.workspace import leash
from tasks.workspace.process import Command, output

words = (*leash.prefix(), "sleep", "600")
output(Command(words, {"PATH": "/usr/bin:/bin"}, pathlib.Path("/")), timeout_s=600)
"""


def test_a_tied_child_ends_when_its_parent_is_killed() -> None:
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", CODE], cwd=root)
    try:
        sleeper = await_child(parent, "sleep")
    finally:
        parent.kill()
        parent.wait()
    limit = time.monotonic() + 5
    while sleeper.is_running() and sleeper.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < limit


def test_every_call_of_git_is_tied(tmp_path: Path) -> None:
    assert leash.prefix()
    assert command(tmp_path, "status").argv[: len(leash.prefix())] == leash.prefix()


def await_child(parent: subprocess.Popen[bytes], name: str) -> psutil.Process:
    limit = time.monotonic() + 20
    while True:
        for child in psutil.Process(parent.pid).children(recursive=True):
            if child.name() == name:
                return child
        assert time.monotonic() < limit
        assert parent.poll() is None
