"""A running copy of a site: in a room of its own, started, watched, ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.addresses import DEFAULT_PORTS, base_url_of, is_loopback
from tasks.workspace.process import OUTPUT_LIMIT_BYTES, Command, end_group, spent_in_children, start
from tasks.workspace.sandbox import Jail, Network, Sandbox

ROOM_PROGRAM = Path(__file__).with_name("room.py")
SITE_PORT = 8000  # inside a room, where nothing else listens
HEALTH_TIMEOUT_S = 30.0


class SiteError(Exception):
    """The site did not come up; the text says why and ends with what it printed."""


@dataclass(frozen=True)
class SiteOrder:
    """What to serve and how: `argv` for a given port, a host name, where its output goes."""

    argv: Callable[[int], tuple[str, ...]]
    jail: Jail
    host: str  # e.g. chimera-abc.localhost
    health_path: str
    log: Path
    health_timeout_s: float = HEALTH_TIMEOUT_S


@dataclass(frozen=True)
class Room:
    """A network in which a site answers at `base_url`. `pid` None = this machine's network."""

    base_url: str
    pid: int | None


@contextlib.contextmanager
def running(
    sandbox: Sandbox, order: SiteOrder, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Room]:
    """Serve the site in a room until the block ends. Raises SiteError, ProcessError."""
    port = SITE_PORT if sandbox.is_on else free_port()
    child = _start_room(sandbox, order, port)
    try:
        room_pid = _await_health(child, order, should_stop)
        yield Room(f"http://{order.host}:{port}", room_pid if sandbox.is_on else None)
    finally:
        _close(child)


@contextlib.contextmanager
def doorway(sandbox: Sandbox, url: str) -> Iterator[Room]:
    """Give a room from which the origin of `url` can be reached, and nothing else.

    Raises SiteError where no such room can be made.
    """
    base_url = base_url_of(url)
    if not sandbox.is_on:
        yield Room(base_url, None)
        return
    parts = urlsplit(base_url)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    host = parts.hostname or ""
    place = "127.0.0.1" if is_loopback(host) else host
    # Inside, the name leads to the room's own loopback; see `browser.resolver_rules`.
    door = {"port": port, "host": place, "host_port": port}
    child = _start({"keep": False, "isolate": True, "door": door})
    try:
        word = _next_word(child, 10)
        if "pid" not in word:
            raise SiteError(f"No way to {base_url} could be made: {_rest(child)}")
        yield Room(base_url, int(word["pid"]))
    finally:
        _close(child)


def keep(
    sandbox: Sandbox,
    order: SiteOrder,
    pid_file: Path,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[int, int]:
    """Start a keeper that serves the site until it is ended; return its pid and its port.

    The keeper outlives the caller, and writes its pid to `pid_file` before it starts the site.
    Raises SiteError if the site is not healthy in time.
    """
    listener = socket.create_server(("127.0.0.1", 0)) if sandbox.is_on else None
    with listener or contextlib.nullcontext():
        public_port: int = listener.getsockname()[1] if listener else free_port()
        inner_port = SITE_PORT if sandbox.is_on else public_port
        child = _start_room(sandbox, order, inner_port, pid_file=pid_file, listener=listener)
    try:
        return _await_health(child, order, should_stop), public_port
    except BaseException:
        _end_keeper(pid_file)
        raise
    finally:
        _close(child)  # the keeper itself has left this process's care


def _end_keeper(pid_file: Path) -> None:
    """End a keeper that was started a moment ago and whose site did not come up."""
    with contextlib.suppress(OSError, ValueError):
        os.killpg(int(pid_file.read_text()), signal.SIGKILL)


def tail(path: Path, size_bytes: int = 4000) -> str:
    """Return the end of a log; "" when there is none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size_bytes))
        return file.read().decode(errors="replace").strip()
    return ""


def free_port() -> int:
    """Return a port of the loopback that nothing listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _start_room(
    sandbox: Sandbox,
    order: SiteOrder,
    port: int,
    *,
    pid_file: Path | None = None,
    listener: socket.socket | None = None,
) -> subprocess.Popen[bytes]:
    network = Network.ROOM if sandbox.is_on else Network.HOST
    jail = replace(order.jail, network=network)
    command = sandbox.command(jail, order.argv(port))
    order.log.parent.mkdir(parents=True, exist_ok=True)
    site = {
        "argv": command.argv,
        "env": dict(command.env),
        "cwd": str(command.cwd),
        "port": port,
        "host": f"{order.host}:{port}",
        "health_path": order.health_path,
        "health_timeout_s": order.health_timeout_s,
        "log": str(order.log),
        "log_limit_bytes": OUTPUT_LIMIT_BYTES,
    }
    kept = {"keep": pid_file is not None, "pid_file": str(pid_file or "")}
    request: dict[str, Any] = {**kept, "isolate": sandbox.is_on, "site": site}
    fds = (listener.fileno(),) if listener else ()
    return _start({**request, "listen_fd": fds[0] if fds else None}, fds)


def _start(request: dict[str, Any], fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    argv = (sys.executable, "-I", "-B", str(ROOM_PROGRAM))
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    command = Command(argv, env, Path("/"), fds)
    child = start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None  # noqa: S101 - started with a pipe
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.flush()
    return child


def _await_health(
    child: subprocess.Popen[bytes], order: SiteOrder, should_stop: Callable[[], bool]
) -> int:
    with spent_in_children():
        first = _next_word(child, 20, should_stop)
        health = _next_word(child, order.health_timeout_s + 20, should_stop) if first else {}
    if not health.get("healthy"):
        why = health.get("why") or "it could not be started: " + _rest(child)
        raise SiteError(f"The site did not come up: {why}.\n{tail(order.log)}".strip())
    return int(first["pid"])


def _next_word(
    child: subprocess.Popen[bytes],
    timeout_s: float,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Read the next JSON line of the room; {} when it ends, takes too long or we are stopped."""
    assert child.stdout is not None  # noqa: S101 - started with a pipe
    limit = time.monotonic() + timeout_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while time.monotonic() < limit and not should_stop():
            if not selector.select(0.2):
                continue
            byte = os.read(child.stdout.fileno(), 1)  # to the line's end and no further
            if not byte:
                break
            line += byte
            if byte == b"\n":
                return _parse(line)
    return _parse(line)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        word = json.loads(line)
    except ValueError:
        return {}
    return word if isinstance(word, dict) else {}


def _rest(child: subprocess.Popen[bytes]) -> str:
    """Return what the room has printed by now; a keeper may hold the pipe open for ever."""
    end_group(child, grace_s=0)
    assert child.stdout is not None  # noqa: S101 - started with a pipe
    os.set_blocking(child.stdout.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        return os.read(child.stdout.fileno(), 2000).decode(errors="replace").strip()
    return "it said nothing in time"


def _close(child: subprocess.Popen[bytes]) -> None:
    """End a room and all that is in it; its sandboxes die with it."""
    if child.stdin:
        with contextlib.suppress(OSError):
            child.stdin.close()
    end_group(child)
    if child.stdout:
        child.stdout.close()
