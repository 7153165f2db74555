"""A room: an empty network in which a site listens, and the program that keeps it.

Run as a program of its own (`python -I room.py`, standard library only). It reads one JSON object
from its standard input, makes a user and a network namespace with nothing but a loopback, starts
the site in it, and says on its standard output, one JSON object a line, what becomes of it.

A socket belongs to the network in which it was made. That is how the two worlds meet: a listener
made outside before the namespaces (`listen_fd`) is served from inside, and a listener made inside
(`door`) is handed to a small process that stayed outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

CLONE_NEWUSER, CLONE_NEWNET, PR_SET_PDEATHSIG = 0x10000000, 0x40000000, 1
SIOCSIFFLAGS, IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x8914, 0x1, 0x8, 0x40
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Read the order, make the room, keep it until the site or the caller is gone."""
    order = json.loads(sys.stdin.readline())
    if order["keep"]:
        _leave_the_caller(order["pid_file"])
    else:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    listeners: list[socket.socket] = []
    if order.get("listen_fd") is not None:
        listeners.append(socket.socket(fileno=order["listen_fd"]))
    if order["isolate"]:
        outside = _leave_outside(order["door"]) if order.get("door") else None
        make_namespaces()
        if outside:
            _open_door(outside, order["door"]["port"])
    site = _start_site(order["site"]) if order.get("site") else None
    _say(pid=os.getpid())
    if site:
        health = wait_until_healthy(site, order["site"])
        _say(**health)
        if order["keep"] and not health["healthy"]:
            _end(site)
    if not order["keep"]:
        threading.Thread(target=_end_with_caller, args=(site,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: _end(site))
    if listeners:
        port = order["site"]["port"]
        threading.Thread(
            target=_forward, args=(listeners[0], "127.0.0.1", port), daemon=True
        ).start()
    if site:
        site.wait()
        _say(ended=site.returncode)
    else:
        threading.Event().wait()


def _leave_the_caller(pid_file: str) -> None:
    """Go on as a process that the caller need not wait for, in a session of its own.

    The file says who keeps the site, even if the caller dies before it has recorded that.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    with open(pid_file, "w") as file:  # noqa: PTH123
        file.write(str(os.getpid()))


def make_namespaces() -> None:
    """Move this process into a user and a network namespace of its own, loopback up.

    The process must have one thread. Raises OSError where the kernel forbids it.
    """
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "user and network namespaces are not permitted here")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - one write, as the kernel asks
            file.write(text)
    with socket.socket() as probe:
        flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags))


def wait_until_healthy(site: subprocess.Popen[bytes], order: dict) -> dict:  # type: ignore[type-arg]
    """Ask for the health page until it answers below 400; say how that went."""
    limit = time.monotonic() + order["health_timeout_s"]
    seen = "nothing listened on its port"
    while time.monotonic() < limit:
        if site.poll() is not None:
            return {"healthy": False, "why": f"it ended with code {site.returncode}"}
        answer = _ask(order, limit)
        if isinstance(answer, int) and answer < 400:
            return {"healthy": True, "status": answer}
        if answer:
            seen = f"{order['health_path']} answered {answer}"
        time.sleep(0.03)
    return {"healthy": False, "why": f"{seen} within {order['health_timeout_s']:.0f} s"}


def _ask(order: dict, limit: float) -> int | str | None:  # type: ignore[type-arg]
    """Return the status of the health page, an error in words, or None: nobody listens yet."""
    link = http.client.HTTPConnection("127.0.0.1", order["port"], timeout=10)
    # A site may send one byte at a time, each within the time-out: the whole has a bound too.
    clock = threading.Timer(max(0.1, limit - time.monotonic()), lambda: _hang_up(link))
    clock.daemon = True
    clock.start()
    try:
        link.request("GET", order["health_path"], headers={"Host": order["host"]})
        return link.getresponse().status
    except ConnectionRefusedError:
        return None
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"with {error!r}"
    finally:
        clock.cancel()
        link.close()


def _hang_up(link: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):
        link.sock.shutdown(socket.SHUT_RDWR)


def _start_site(order: dict) -> subprocess.Popen[bytes]:  # type: ignore[type-arg]
    site = subprocess.Popen(  # noqa: S603 - the argv is the service's own sandbox call
        order["argv"],
        env=order["env"],
        cwd=order["cwd"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    threading.Thread(target=_write_log, args=(site, order), daemon=True).start()
    return site


def _write_log(site: subprocess.Popen[bytes], order: dict) -> None:  # type: ignore[type-arg]
    """Copy what the site prints to its log, up to a limit, and drop the rest."""
    left = order["log_limit_bytes"]
    with open(order["log"], "ab", buffering=0) as log:  # noqa: PTH123
        while chunk := os.read(site.stdout.fileno(), 65536):  # type: ignore[union-attr]
            log.write(chunk[: max(0, left)])
            left -= len(chunk)


def _leave_outside(door: dict) -> socket.socket:  # type: ignore[type-arg]
    """Fork the process that stays in the outer network; return the line to it."""
    here, there = socket.socketpair()
    if os.fork():
        there.close()
        return here
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    here.close()
    _, fds, _, _ = socket.recv_fds(there, 1, 1)
    if fds:
        _forward(socket.socket(fileno=fds[0]), door["host"], door["host_port"])
    os._exit(0)


def _open_door(outside: socket.socket, port: int) -> None:
    """Listen inside and hand the listener to the process outside."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        socket.send_fds(outside, [b"d"], [listener.fileno()])


def _forward(listener: socket.socket, host: str, port: int) -> None:
    """Serve `listener` for ever: join each connection to host:port as this process sees it."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))

    async def serve() -> None:
        listener.setblocking(False)
        server = await asyncio.start_server(join, sock=listener)
        await server.serve_forever()

    asyncio.run(serve())


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


def _end_with_caller(site: subprocess.Popen[bytes] | None) -> None:
    sys.stdin.read()  # ends when the caller closes its side, or is gone
    _end(site)


def _end(site: subprocess.Popen[bytes] | None) -> None:
    if site and site.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(site.pid, signal.SIGKILL)
    os._exit(0)


def _say(**facts: object) -> None:
    with contextlib.suppress(OSError):  # a kept room outlives the one who listened
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
