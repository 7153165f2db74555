"""Staging copies on this host: a keeper process each, ended by its pid and start time."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.outcome import DeploymentFacts
from tasks.workspace.sandbox import Sandbox
from tasks.workspace.site import SiteOrder, keep

PID_FILE = "keeper.pid"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class LocalDeployer:
    """Serves an exported commit on this host, on a loopback port of its own."""

    sandbox: Sandbox

    def deploy(
        self, order: SiteOrder, commit_sha: str, pid_file: Path, should_stop: Callable[[], bool]
    ) -> DeploymentFacts:
        """Start a keeper for the site and return where it is live. Raises SiteError."""
        pid, port = keep(self.sandbox, order, pid_file, should_stop)
        return DeploymentFacts(
            url=f"http://{order.host}:{port}",
            commit_sha=commit_sha,
            host=host_name(),
            boot_id=boot_id(),
            pid=pid,
            pid_started=psutil.Process(pid).create_time(),
        )


def folder_of(home: Path, task_id: str, fence: int) -> Path:
    """Make a new, empty folder for a staging copy; its name says whose it is."""
    base = home / "staging"
    base.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{task_id}-{fence}-", dir=base))


def host_name() -> str:
    """Return this host's name, as workers and deployments are recorded under it."""
    return socket.gethostname()


def boot_id() -> str:
    """Return what changes when the host starts anew; "" where the system does not tell."""
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text().strip()
    return ""


def is_alive(pid: int, pid_started: float) -> bool:
    """Say whether this very process lives; a pid that was given to another does not count."""
    if pid <= 0:
        return False  # a project's own command made it; as a signal's target, 0 is our own group
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - pid_started) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def is_live(facts: DeploymentFacts) -> bool:
    """Say whether the copy is served by this host, in this boot, right now."""
    here = facts.host == host_name() and facts.boot_id == boot_id()
    return here and is_alive(facts.pid, facts.pid_started)


def end(pid: int, pid_started: float) -> None:
    """End a keeper and its site; harmless if they are gone. Blocks for a second at most."""
    if not is_alive(pid, pid_started):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + 1
    while is_alive(pid, pid_started) and time.monotonic() < limit:
        time.sleep(0.02)
    if is_alive(pid, pid_started):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
