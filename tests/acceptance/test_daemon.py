"""The factory as one program: `manage.py daemon` with a real web server and a real cluster."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.daemon import Daemon, free_port
from tests.acceptance.engine import wait_for


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return a factory that has not been started, and end it after the test."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    factory = Daemon(home, free_port())
    yield factory
    factory.end()


def test_one_command_serves_pages_and_workers_and_another_stops_them(daemon: Daemon) -> None:
    process = daemon.start("--max-concurrent", "2")
    wait_for(lambda: len((daemon.health() or {}).get("workers", [])) == 2, 20)
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
