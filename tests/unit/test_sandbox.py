"""What a child in the sandbox can and cannot see."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

import pytest

from tasks.workspace import sandbox
from tasks.workspace.process import Completed, run
from tasks.workspace.sandbox import Jail, Mount, Network, SandboxError


@pytest.fixture(scope="module")
def box() -> sandbox.Sandbox:
    return sandbox.find("auto")


def call(box: sandbox.Sandbox, jail: Jail, code: str) -> Completed:
    return run(box.command(jail, (sys.executable, "-I", "-c", code)), timeout_s=30)


def test_the_workspace_is_read_only_unless_asked_for(box: sandbox.Sandbox, tmp_path: Path) -> None:
    code = "open('made', 'w').write('x')"
    assert not call(box, Jail(tmp_path), code).ok
    assert call(box, Jail(tmp_path, writable=True), code).ok
    assert (tmp_path / "made").read_text() == "x"


def test_a_folder_beside_the_workspace_is_absent(box: sandbox.Sandbox, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "secret").write_text("secret")
    code = f"import os; print(os.path.exists({str(tmp_path / 'secret')!r}))"
    assert call(box, Jail(tmp_path / "work"), code).output_tail == "False\n"
    assert call(box, Jail(tmp_path), "print(open('secret').read())").output_tail == "secret\n"


def test_a_mount_shows_under_its_target(box: sandbox.Sandbox, tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "note").write_text("hello")
    jail = Jail(tmp_path, mounts=(Mount(tmp_path / "extra", "/extra"),))
    assert call(box, jail, "print(open('/extra/note').read())").output_tail == "hello\n"
    assert box.inside(jail, tmp_path / "extra" / "note") in {"/extra/note", "/workspace/extra/note"}


def test_the_callers_environment_is_nowhere_inside(
    box: sandbox.Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIMERA_CANARY", "tweet-tweet")
    code = (
        "import glob, os\n"
        "found = [open(p, 'rb').read() for p in glob.glob('/proc/*/environ') if os.access(p, 4)]\n"
        "print(len(found) > 0, any(b'tweet' in text for text in found), 'tweet' in str(os.environ))"
    )
    assert call(box, Jail(tmp_path), code).output_tail == "True False False\n"


def test_nothing_listens_and_nothing_can_be_reached(box: sandbox.Sandbox, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=3)"
        assert not call(box, Jail(tmp_path), code).ok
        assert call(box, Jail(tmp_path, network=Network.HOST), code).ok


def test_processes_outside_are_invisible(box: sandbox.Sandbox, tmp_path: Path) -> None:
    code = f"import os; print(os.path.exists('/proc/{os.getpid()}/cmdline') and os.getppid() > 9)"
    assert call(box, Jail(tmp_path), code).output_tail == "False\n"


def test_new_user_namespaces_are_refused(box: sandbox.Sandbox, tmp_path: Path) -> None:
    code = "import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))"
    assert call(box, Jail(tmp_path), code).output_tail == "-1\n"
    browser = Jail(tmp_path, is_browser=True)
    assert call(box, browser, code).output_tail == "0\n"  # Chromium's own sandbox needs one


@pytest.mark.parametrize("is_browser", [False, True])
def test_settings_of_the_kernel_cannot_be_changed(
    box: sandbox.Sandbox, tmp_path: Path, is_browser: bool
) -> None:
    code = (  # written with what they hold: should that come through, nothing has changed
        "for name in ('core_pattern', 'panic', 'randomize_va_space'):\n"
        "    path = '/proc/sys/kernel/' + name\n"
        "    held = open(path, 'rb').read()\n"
        "    try: print(open(path, 'r+b', buffering=0).write(held))\n"
        "    except OSError as error: print(error.errno)\n"
    )
    said = call(box, Jail(tmp_path, is_browser=is_browser), code).output_tail.split()
    assert len(said) == 3
    assert set(said) <= {str(errno.EROFS), str(errno.EACCES), str(errno.EPERM)}


def test_a_daemon_that_left_its_group_ends_with_the_sandbox(
    box: sandbox.Sandbox, tmp_path: Path
) -> None:
    code = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        open('alive', 'w').write('yes')\n"
        "        while True:\n"
        "            time.sleep(0.02)\n"
        "            os.utime('alive')\n"
        "    os._exit(0)\n"
        "while not os.path.exists('alive'): time.sleep(0.01)\n"
    )
    assert call(box, Jail(tmp_path, writable=True), code).ok
    last = (tmp_path / "alive").stat().st_mtime_ns
    again = call(box, Jail(tmp_path), "import time; time.sleep(0.3)")  # sees another pid namespace
    assert again.ok
    assert (tmp_path / "alive").stat().st_mtime_ns == last


def test_files_processes_and_room_for_them_are_limited(
    box: sandbox.Sandbox, tmp_path: Path
) -> None:
    code = (
        "import os, resource\n"
        f"limit = {sandbox.FILE_LIMIT_BYTES}\n"
        "with open('large', 'wb') as file:\n"
        "    os.truncate(file.fileno(), limit)\n"
        "    try: os.truncate(file.fileno(), limit + 1)\n"
        "    except OSError as error: print(error.errno)\n"
        "about = os.statvfs('/tmp')\n"
        "print(about.f_blocks * about.f_frsize, resource.getrlimit(resource.RLIMIT_NPROC)[0])\n"
    )
    said = call(box, Jail(tmp_path, writable=True), code).output_tail.split()
    limits = [errno.EFBIG, sandbox.TMP_LIMIT_BYTES, sandbox.MAX_PROCESSES]
    assert said == [str(limit) for limit in limits]


def test_off_means_off_and_is_only_given_when_asked_for() -> None:
    assert sandbox.find("off").is_on is False
    assert sandbox.find("auto").is_on is True


def test_a_missing_sandbox_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="apt-get install bubblewrap"):
        sandbox.find("auto")


def test_a_sandbox_that_does_not_work_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'no permission to create namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match="no permission to create namespace"):
        sandbox.find("auto")
