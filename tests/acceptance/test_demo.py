"""`manage.py demo` as a newcomer runs it: the real factory, the real browser, and nothing left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from tasks.workspace import git

DEMO_LIMIT_S = 240
ENTRY = re.compile(r"^ +([0-9a-f]{10}) (.+)$", re.MULTILINE)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Return an empty home; whatever a failing test leaves running in it is ended."""
    yield tmp_path / "home"
    for process in processes_of(tmp_path / "home"):
        with contextlib.suppress(psutil.Error):
            process.kill()


def demo(home: Path, port: int) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")}
    wanted = ("CHIMERA_CHROMIUM", "CHIMERA_SANDBOX")
    kept |= {name: os.environ[name] for name in wanted if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "manage.py", "demo", "--once"],
        cwd=settings.BASE_DIR,
        env=kept
        | {
            "CHIMERA_HOME": str(home),
            "CHIMERA_API_PORT": str(port),
            "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(home: Path) -> list[psutil.Process]:
    """Return every process that works in `home`: by its arguments, environment or open files."""
    mark = str(home)
    return [process for process in psutil.process_iter() if mark in _traces(process)]


def _traces(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        words = [*process.cmdline(), *process.environ().values()]
        return "\n".join([*words, *(file.path for file in process.open_files())])
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    """Read what it prints up to a line with `words`; its end comes first if it fails."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return
    pytest.fail(f"{words!r} was never printed:\n{''.join(seen)}")


def test_the_demo_completes_tells_its_story_and_leaves_no_process(home: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = int(stranger.getsockname()[1])
        process = demo(home, taken)
        said, _ = process.communicate(timeout=DEMO_LIMIT_S)
    assert process.returncode == 0, said
    assert f"Port {taken} is taken by" in said
    assert [f"{number}/7" in said for number in range(1, 8)] == [True] * 7
    for words in ("The task completed.", "the test failed: ", "the same test passes"):
        assert words in said
    assert re.search(r"staging +http://chimera-[a-z0-9]+\.localhost:\d+\n", said)
    assert re.search(r"dashboard +http://localhost:\d+/tasks/chimera-[a-z0-9]+/\n", said)
    test_commit, code_commit = ENTRY.findall(said)
    repository = git.Repository.open(home / "repositories" / "demo.git")
    branch = re.search(r"branch +(chimera/\S+)", said)
    assert branch is not None
    head = repository.ref(f"refs/heads/{branch[1]}")
    assert head is not None
    newest = [(commit.sha[:10], commit.subject) for commit in repository.log(head, 2)]
    assert newest == [code_commit, test_commit]
    assert processes_of(home) == []


def test_a_demo_that_is_stopped_leaves_neither_process_nor_open_task(home: Path) -> None:
    process = demo(home, free_port())
    wait_for_line(process, "WORKSPACE_PREPARATION  started")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 130, said
    assert processes_of(home) == []
    listed = subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", LIST_STATUSES],
        cwd=settings.BASE_DIR,
        env=os.environ
        | {"CHIMERA_HOME": str(home), "DJANGO_SETTINGS_MODULE": "chimera_site.settings"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert listed.stdout.split() == ["cancelled"]


LIST_STATUSES = """
from tasks.models import Task
print(*Task.objects.values_list("status", flat=True))
"""


def test_kill_of_the_demo_takes_the_factory_along(home: Path) -> None:
    process = demo(home, free_port())
    wait_for_line(process, "WORKSPACE_PREPARATION  started")
    process.kill()
    process.communicate(timeout=30)
    limit = time.monotonic() + 30
    while (left := processes_of(home)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert left == [], [_traces(one)[:1000] for one in left]
