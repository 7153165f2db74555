"""Without a sandbox too, nothing outlives a program: not what forked twice and left its session."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from tasks.workspace.process import Completed, run
from tasks.workspace.sandbox import Jail, Sandbox
from tests.acceptance.engine import wait_for
from tests.escape import ESCAPE, HANG, escaped, processes_with

CALLER = """\
import pathlib, sys
from tasks.workspace.process import run
from tasks.workspace.sandbox import Jail, Sandbox

jail = Jail(pathlib.Path(sys.argv[1]))
run(Sandbox(None).command(jail, sys.argv[2:]), timeout_s=600)
"""


@pytest.fixture
def mark() -> Iterator[str]:
    """Return a word that a test's processes carry as an argument; none is left afterwards."""
    word = f"warden-{uuid4().hex}"
    yield word
    for process in processes_with(word):
        process.kill()


def call(folder: Path, code: str, *words: str, **options: object) -> Completed:
    argv = (sys.executable, "-Ic", code, *words)
    jail = Jail(folder, env={"KEPT": "yes"})
    options.setdefault("timeout_s", 60)
    return run(Sandbox(None).command(jail, argv), **options)  # type: ignore[arg-type]


def test_what_a_program_leaves_behind_ends_with_it(tmp_path: Path, mark: str) -> None:
    assert call(tmp_path, ESCAPE, mark).ok
    assert escaped(tmp_path) == 3
    assert processes_with(mark) == []


def test_a_stop_ends_all_that_was_started_though_it_will_not_listen(
    tmp_path: Path, mark: str
) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    is_there = (tmp_path / "hangs").exists
    done = call(tmp_path, ESCAPE + deaf + HANG, mark, should_stop=is_there)
    assert done.stopped
    assert escaped(tmp_path) == 3
    wait_for(lambda: not processes_with(mark), 60)


def test_a_program_that_is_asked_may_say_its_last_words(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(15, lambda *_: sys.exit('goodbye'))\n"
        "print('up', flush=True)\n" + HANG
    )
    done = call(tmp_path, code, should_stop=(tmp_path / "hangs").exists)
    assert done.output_tail == "up\ngoodbye\n"


@pytest.mark.parametrize("victim", ["caller", "front"])
def test_a_killed_caller_takes_all_along(tmp_path: Path, mark: str, victim: str) -> None:
    argv = [sys.executable, "-c", CALLER, str(tmp_path), sys.executable, "-Ic", ESCAPE + HANG, mark]
    root = Path(__file__).resolve().parents[2]
    caller = subprocess.Popen(argv, cwd=root)
    threading.Thread(target=caller.wait, daemon=True).start()  # no zombie
    try:
        wait_for((tmp_path / "hangs").exists, 60)
        family = psutil.Process(caller.pid).children(recursive=True)
        assert len([each for each in processes_with(mark) if each not in family]) == 1  # the caller
        {"caller": psutil.Process(caller.pid), "front": family[0]}[victim].kill()
        wait_for(lambda: not processes_with(mark), 60)
    finally:
        caller.kill()


def test_the_program_is_what_its_caller_ordered(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "print(sys.stdin.read(), os.environ['KEPT'], os.getcwd(), os.getsid(0) == os.getpid())\n"
        "sys.exit(7)"
    )
    done = call(tmp_path, code, stdin=b"word")
    assert done.output_tail == f"word yes {tmp_path} True\n"
    assert done.returncode == 7
    assert call(tmp_path, "import os; os.kill(os.getpid(), 9)").returncode == 128 + 9


def test_the_program_hears_every_signal(tmp_path: Path) -> None:
    argv = ("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    said = run(Sandbox(None).command(Jail(tmp_path), argv), timeout_s=60).output_tail
    blocked, ignored = (int(line.split()[1], 16) for line in said.splitlines())
    libc_s_own = 0b11 << 31  # 32 and 33: no program can change them, but they may be inherited
    assert (blocked, ignored & ~libc_s_own) == (0, 0)


def test_a_missing_program_is_said_in_words(tmp_path: Path) -> None:
    done = run(Sandbox(None).command(Jail(tmp_path), ("/nowhere/agent",)), timeout_s=60)
    assert (done.returncode, done.ok) == (127, False)
    assert done.output_tail == "/nowhere/agent: [Errno 2] No such file or directory\n"
