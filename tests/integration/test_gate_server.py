"""The gate in front of the real server: Daphne in a process of its own, spoken to over TCP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

MIB = 1024 * 1024
BODY = b'{"feature": "Add dark mode", "target_url": "https://shop.example/"}'


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    pid: int

    def exchange(self, head: str, *chunks: bytes) -> tuple[int, bytes]:
        """Send a request and return the status and the body of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n")
            for chunk in chunks:
                connection.sendall(chunk)
            answer = b""
            while b"\r\n\r\n" not in answer:
                got = connection.recv(65536)
                assert got, "the server closed without an answer"
                answer += got
            start, _, body = answer.partition(b"\r\n\r\n")
            while len(body) < length_of(start):
                got = connection.recv(65536)
                assert got, "the server closed in the middle of its answer"
                body += got
        return int(start.split()[1]), body

    def rss_bytes(self) -> int:
        """Return how much memory the server holds."""
        return int(psutil.Process(self.pid).memory_info().rss)


def length_of(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start Daphne on a migrated home of its own with one project; end it afterwards."""
    home = tmp_path_factory.mktemp("home")
    root = Path(__file__).resolve().parents[2]
    env = {name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")}
    env |= {
        "CHIMERA_HOME": str(home),
        "CHIMERA_DEMO": "0",
        "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
    }
    prepare = (
        "import django; django.setup()\n"
        "from django.core.management import call_command; call_command('migrate', verbosity=0)\n"
        "from tasks.models import Project\n"
        "Project.objects.create(name='shop', repository='/nowhere',"
        " target_url='https://shop.example/', serve_command='x {port}')\n"
    )
    subprocess.run([sys.executable, "-c", prepare], env=env, cwd=root, check=True, timeout=120)
    listener = socket.create_server(("127.0.0.1", 0))  # handed over, so no other can take the port
    os.set_inheritable(listener.fileno(), True)
    program = [sys.executable, "-m", "daphne", "--fd", str(listener.fileno())]
    with (home / "log").open("wb") as log:
        child = subprocess.Popen(
            [*program, "chimera_site.asgi:application"],
            env=env,
            cwd=root,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
        )
    port = listener.getsockname()[1]
    listener.close()
    running = Server(port, child.pid)
    try:
        wait_until_it_answers(running, child)
        yield running
    finally:
        child.terminate()
        child.wait(timeout=20)


def wait_until_it_answers(server: Server, child: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        assert child.poll() is None, "the server ended"
        try:
            server.exchange("GET /health HTTP/1.1\nHost: localhost\n")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server did not answer within 60 s")


def post(server: Server, *lines: str) -> str:
    head = ["POST /api/tasks HTTP/1.1", f"Host: localhost:{server.port}"]
    return "\n".join([*head, "Content-Type: application/json", *lines]) + "\n"


def tasks(server: Server) -> int:
    _, body = server.exchange("GET /api/tasks HTTP/1.1\nHost: localhost\n")
    return int(json.loads(body)["count"])


def test_a_request_is_taken_whole_and_in_chunks(server: Server) -> None:
    before = tasks(server)
    whole, _ = server.exchange(post(server, f"Content-Length: {len(BODY)}"), BODY)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    in_chunks, _ = server.exchange(post(server, "Transfer-Encoding: chunked"), chunked)
    assert (whole, in_chunks) == (201, 201)
    assert tasks(server) == before + 2


def test_200_mb_are_refused_at_once_with_flat_memory(server: Server) -> None:
    size = 200 * MIB
    tasks(server)
    before = server.rss_bytes()
    start = time.monotonic()
    head = post(server, f"Content-Length: {size}", "Expect: 100-continue")
    status, body = server.exchange(head, *[b"x" * MIB] * 200)
    assert status == 413
    assert json.loads(body)["title"] == "Request Entity Too Large"
    assert time.monotonic() - start < 10
    assert server.rss_bytes() - before < 20 * MIB


def test_200_mb_without_a_length_are_refused_with_flat_memory(server: Server) -> None:
    tasks(server)
    before = server.rss_bytes()
    chunk = b"%x\r\n%s\r\n" % (MIB, b"x" * MIB)
    status, body = server.exchange(post(server, "Transfer-Encoding: chunked"), *[chunk] * 200)
    assert status == 413
    assert json.loads(body)["status"] == 413
    assert server.rss_bytes() - before < 20 * MIB


def test_a_chunked_body_that_ends_just_beyond_the_limit_is_refused_once(server: Server) -> None:
    before = tasks(server)
    data = b" " * 256 * 1024 + BODY
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    status, _ = server.exchange(post(server, "Transfer-Encoding: chunked"), chunked)
    assert status == 413
    assert tasks(server) == before


def test_the_announcement_alone_is_enough_to_be_refused(server: Server) -> None:
    status, _ = server.exchange(post(server, f"Content-Length: {200 * MIB}"))
    assert status == 413


def test_a_foreign_host_and_a_foreign_page_are_refused(server: Server) -> None:
    before = tasks(server)
    length = f"Content-Length: {len(BODY)}"
    foreign_host = post(server, length).replace("localhost", "evil.example")
    assert server.exchange(foreign_host, BODY)[0] == 400
    for origin in ("null", "http://evil.example", f"http://localhost:{server.port + 1}"):
        assert server.exchange(post(server, length, f"Origin: {origin}"), BODY)[0] == 403
    assert tasks(server) == before
    own = f"Origin: http://localhost:{server.port}"
    assert server.exchange(post(server, length, own), BODY)[0] == 201


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://localhost:1"])
def test_a_socket_is_refused_to_other_origins(server: Server, origin: str | None) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://localhost:{server.port}/ws/feed/", origin=origin, proxy=None),  # type: ignore[arg-type]
    ):
        pass
    assert refused.value.response.status_code == 403


def test_a_socket_is_given_to_the_servers_own_pages(server: Server) -> None:
    origin = f"http://localhost:{server.port}"
    url = f"ws://localhost:{server.port}/ws/feed/"
    with connect(url, origin=origin, proxy=None) as opened:  # type: ignore[arg-type]
        assert opened.response is not None
        assert opened.response.status_code == 101


def test_a_page_at_the_address_is_moved_to_the_name(server: Server) -> None:
    status, _ = server.exchange(f"GET / HTTP/1.1\nHost: 127.0.0.1:{server.port}\n")
    assert status == 307
    status, _ = server.exchange(f"GET / HTTP/1.1\nHost: localhost:{server.port}\n")
    assert status == 200
