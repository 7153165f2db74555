"""The factory as one program: `manage.py daemon` with a real web server and a real cluster."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.engine import ROOT, wait_for


class Daemon:
    """One CHIMERA_HOME and the programs that are run on it."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.port = port
        self.log = home / "daemon.log"
        self._started: list[subprocess.Popen[bytes]] = []
        self._family: set[psutil.Process] = set()

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the factory and wait until it says that it is ready."""
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                self._argv("start", "--port", str(self.port), *options),
                env=self._env(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        wait_for(lambda: self._is_ready(process), 60, "ready")
        return process

    def call(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run one verb to its end."""
        return subprocess.run(
            self._argv(*words),
            env=self._env() | env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def family(self, process: subprocess.Popen[bytes]) -> set[psutil.Process]:
        """Take note of the factory's processes and return them."""
        top = psutil.Process(process.pid)
        self._family |= {top, *top.children(recursive=True)}
        return self._family

    def program(self, process: subprocess.Popen[bytes], word: str) -> psutil.Process | None:
        """Return the program directly under the supervisor whose command line has `word`."""
        for child in psutil.Process(process.pid).children():
            with contextlib.suppress(psutil.Error):
                if word in child.cmdline() and "tasks.workspace.leash" not in child.cmdline():
                    return child
        return None

    def health(self) -> dict[str, object] | None:
        """Return what /health says, be it good or bad; None while nothing answers."""
        url = f"http://localhost:{self.port}/health"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:  # 503: there is no browser here
            with error:
                return dict(json.load(error))
        except OSError:
            return None

    def survivors(self) -> list[psutil.Process]:
        """Return what still runs of all that was taken note of."""
        return [
            process
            for process in self._family
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    def end(self) -> None:
        """End everything, with force."""
        for process in self._started:
            with contextlib.suppress(psutil.Error):
                self.family(process)
        for survivor in self._family:
            with contextlib.suppress(psutil.Error):
                survivor.kill()
        for process in self._started:
            process.wait(timeout=10)

    def _is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        text = self.log.read_text()
        assert process.poll() is None, text
        return f"http://localhost:{self.port}\n" in text

    def _argv(self, *words: str) -> list[str]:
        return [sys.executable, "manage.py", "daemon", *words]

    def _env(self) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("CHIMERA_")}
        kept.pop("DJANGO_SETTINGS_MODULE", None)
        return kept | {
            "CHIMERA_HOME": str(self.home),
            "CHIMERA_DEMO": "0",
            "CHIMERA_MAX_WORKERS": "1",
            "CHIMERA_CHROMIUM": "/nowhere/chromium",  # nothing here needs a browser
        }


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a factory that has not been started, and end it after the test."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    factory = Daemon(home, port)
    yield factory
    factory.end()


def test_one_command_serves_pages_and_workers_and_another_stops_them(daemon: Daemon) -> None:
    process = daemon.start("--max-concurrent", "2")
    wait_for(lambda: len((daemon.health() or {}).get("workers", [])) == 2, 20)  # type: ignore[arg-type]
    daemon.family(process)
    status = daemon.call("status")
    assert status.returncode == 0
    assert f"http://localhost:{daemon.port} (pid {process.pid})" in status.stdout
    second = daemon.call("start", "--port", str(daemon.port))
    assert second.returncode == 1
    assert f"runs already at http://localhost:{daemon.port}" in second.stderr
    assert daemon.health() is not None  # the second start changed nothing
    stopped = daemon.call("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Chimera has stopped.\n")
    assert process.wait(timeout=5) == 0
    assert daemon.survivors() == []
    assert not (daemon.home / "daemon.pid").exists()
    assert daemon.call("status").returncode == 1


def test_it_listens_on_this_machine_only(daemon: Daemon) -> None:
    process = daemon.start()
    web = wait_for(lambda: daemon.program(process, "daphne"), 5)
    listening = [link for link in web.net_connections("inet") if link.status == "LISTEN"]
    assert [(link.laddr.ip, link.laddr.port) for link in listening] == [("127.0.0.1", daemon.port)]


def test_a_killed_cluster_and_a_killed_web_server_are_started_again(daemon: Daemon) -> None:
    process = daemon.start()
    for word in ("qcluster", "daphne"):
        wait_for(daemon.health, 20)
        killed = wait_for(lambda word=word: daemon.program(process, word), 5)
        daemon.family(process)
        killed.kill()
        wait_for(
            lambda word=word, pid=killed.pid: (
                (again := daemon.program(process, word)) and again.pid != pid
            ),
            15,
            f"another {word}",
        )
    wait_for(daemon.health, 20)


def test_nothing_outlives_a_killed_supervisor_and_its_file_does_not_matter(daemon: Daemon) -> None:
    process = daemon.start()
    wait_for(daemon.health, 20)
    daemon.family(process)
    process.kill()
    process.wait(timeout=5)
    wait_for(lambda: not daemon.survivors(), 5, "no process left")
    assert (daemon.home / "daemon.pid").exists()
    assert daemon.call("stop").stdout == "Chimera does not run.\n"
    again = daemon.start()
    again.send_signal(signal.SIGINT)
    assert again.wait(timeout=40) == 0


def test_a_taken_port_is_named_with_who_has_it(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", daemon.port)):
        refused = daemon.call("start", "--port", str(daemon.port))
    assert refused.returncode == 1
    assert f"Port {daemon.port} is taken by" in refused.stderr
    assert f"(pid {os.getpid()})" in refused.stderr
    assert not (daemon.home / "daemon.pid").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "chimera.example"])
def test_strangers_are_refused_unless_somebody_else_asks_who_they_are(
    daemon: Daemon, host: str
) -> None:
    refused = daemon.call("start", "--host", host, "--port", str(daemon.port))
    assert refused.returncode == 1
    assert f"does not listen on {host}" in refused.stderr
    assert not (daemon.home / "tasks.db").exists()
