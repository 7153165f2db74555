"""TCP ports of this machine: who has one, and whether it is open."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket

import psutil


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_open(host: str, port: int) -> bool:
    """Say whether something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection(_reachable(host, port), 1):
        return True
    return False


def taken_by(host: str, port: int) -> str:
    """Say who keeps us from listening there, as in "python3 (pid 12)"; "" if nobody does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return _listener(port) if error.errno == errno.EADDRINUSE else str(error)
    return ""


def _reachable(host: str, port: int) -> tuple[str, int]:
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    return everywhere.get(host, host), port


def _listener(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for link in psutil.net_connections("tcp"):
            is_it = link.status == psutil.CONN_LISTEN and link.laddr and link.laddr[1] == port
            if is_it and link.pid:
                return f"{psutil.Process(link.pid).name()} (pid {link.pid})"
    return "another program"
