"""The factory as one program: a web server and a cluster, kept alive and ended together."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.db import connections

from chimera_site import options
from tasks.workflow import ports
from tasks.workflow.pidfile import AlreadyRunningError, PidFile, Running, read
from tasks.workflow.stopsignal import StopSignal
from tasks.workspace import process

logger = logging.getLogger(__name__)

CLUSTER_GRACE_S = 34.0  # its own promise is 30 s
WEB_GRACE_S = 5.0
READY_WITHIN_S = 60.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
STEADY_AFTER_S = 60.0  # a service that ran this long begins with the shortest pause again
TICK_S = 0.1
# Each request runs in a thread of its own. glibc gives threads up to eight arenas a core, and what
# one has freed is of no use to the next in another, so that the web server grows for hours.
FRUGAL = {"MALLOC_ARENA_MAX": "1"}  # the operator's own value wins


class DaemonError(Exception):
    """The factory cannot be started or stopped; the text says why and what to do."""


@dataclass(frozen=True)
class Plan:
    """Where to listen, and how many tasks to work on at once."""

    host: str
    port: int
    max_workers: int

    @property
    def url(self) -> str:
        """Return where people find the dashboard: its cookies belong to the name localhost."""
        host = "localhost" if ports.is_loopback(self.host) else self.host
        return f"http://{host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the two programs."""
        return FRUGAL | options.environment(
            DJANGO_SETTINGS_MODULE=settings.SETTINGS_MODULE,
            CHIMERA_API_HOST=self.host,
            CHIMERA_API_PORT=str(self.port),
            CHIMERA_MAX_WORKERS=str(self.max_workers),
        )


class Program:
    """One of the two programs. It begins when it is made; what ended is begun again."""

    def __init__(self, name: str, plan: Plan, arguments: tuple[str, ...], grace_s: float) -> None:
        self.name = name
        self._environment = plan.environment
        self._arguments = arguments
        self._grace_s = grace_s
        self._pause_s = SHORTEST_PAUSE_S
        self._begin_again_at: float | None = None
        self._begin()

    def _begin(self) -> None:
        # On a leash: kill -9 of this process must not leave the two behind.
        leash = ("-m", "tasks.workspace.leash", str(os.getpid()), sys.executable)
        command = process.Command(
            argv=(sys.executable, *leash, *self._arguments),
            env=self._environment,
            cwd=settings.BASE_DIR,
        )
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device, not a file
            self._child = process.start(command, stdin=nothing.fileno(), stdout=sys.stderr.fileno())
        self._began_at = time.monotonic()

    @property
    def returncode(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._child.poll()

    def look_after(self, now: float) -> None:
        """Begin again what has ended, after a pause that doubles each time."""
        if self._begin_again_at is not None:
            if now >= self._begin_again_at:
                self._begin_again_at = None
                self._begin()
        elif self.returncode is not None:
            if now - self._began_at > STEADY_AFTER_S:
                self._pause_s = SHORTEST_PAUSE_S
            logger.error(
                "The %s ended with code %d; starting it again in %.0f s",
                *(self.name, self.returncode, self._pause_s),
            )
            self._begin_again_at = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def ask(self) -> None:
        """Ask it to end; asking twice hastens it."""
        if self.returncode is None:
            self._child.terminate()

    def end(self) -> None:
        """End whatever is left of it."""
        process.end_group(self._child, grace_s=self._grace_s)


def start(plan: Plan, say: Callable[[str], None]) -> None:
    """Run the factory until it is told to stop. Blocks. Raises DaemonError."""
    refuse_strangers(plan.host)
    file = PidFile(settings.CHIMERA.home / "daemon.pid")
    try:
        file.take(plan.url)
    except AlreadyRunningError:
        raise DaemonError(already_running()) from None
    try:
        if taker := ports.taken_by(plan.host, plan.port):
            raise DaemonError(
                f"Port {plan.port} is taken by {taker}. Stop it, or choose another with --port."
            )
        _prepare()
        _keep_running(plan, say)
    finally:
        file.leave()


def _prepare() -> None:
    from tasks.workflow import first_start

    try:
        first_start.prepare()
    except first_start.FirstStartError as error:
        raise DaemonError(str(error)) from error
    connections.close_all()


def _keep_running(plan: Plan, say: Callable[[str], None]) -> None:
    stop = StopSignal()
    daphne = ("-m", "daphne", "-v", "0", "-b", plan.host, "-p", str(plan.port))
    web = Program("web server", plan, (*daphne, "chimera_site.asgi:application"), WEB_GRACE_S)
    cluster = Program("cluster", plan, ("-m", "django", "qcluster"), CLUSTER_GRACE_S)
    try:
        if _await_ready(web, plan, stop):
            say(f"Chimera is ready: {plan.url}")
        while not stop.count:
            web.look_after(time.monotonic())
            cluster.look_after(time.monotonic())
            time.sleep(TICK_S)
        say("Chimera stops; running tasks are put back where they are.")
    finally:
        _await_end(cluster, stop)
        web.end()


def _await_ready(web: Program, plan: Plan, stop: StopSignal) -> bool:
    """Wait for the web server to listen. Raises DaemonError if it ends instead."""
    until = time.monotonic() + READY_WITHIN_S
    while not stop.count and time.monotonic() < until:
        if ports.is_open(plan.host, plan.port):
            return True
        if web.returncode is not None:
            taker = ports.taken_by(plan.host, plan.port)
            why = f"port {plan.port} is taken by {taker}" if taker else "its last words stand above"
            raise DaemonError(f"The web server ended with code {web.returncode}: {why}.")
        time.sleep(TICK_S)
    return False


def _await_end(cluster: Program, stop: StopSignal) -> None:
    """Let the cluster drain while its pages can still be read, then end what is left of it."""
    cluster.ask()
    passed_on = 1
    until = time.monotonic() + CLUSTER_GRACE_S
    while cluster.returncode is None and time.monotonic() < until:
        if stop.count > passed_on:
            passed_on = stop.count
            cluster.ask()
        time.sleep(TICK_S)
    cluster.end()


def stop() -> bool:
    """Stop the factory of this CHIMERA_HOME and wait for its end; False if none runs.

    Raises DaemonError when it is still there after its time.
    """
    running = find()
    if running is None:
        return False
    os.kill(running.process.pid, signal.SIGTERM)
    until = time.monotonic() + CLUSTER_GRACE_S + WEB_GRACE_S + 5
    while running.process.is_alive:
        if time.monotonic() > until:
            raise DaemonError(f"Chimera (pid {running.process.pid}) does not end; try kill -9.")
        time.sleep(TICK_S)
    return True


def find() -> Running | None:
    """Return the factory of this CHIMERA_HOME, if it runs."""
    return read(settings.CHIMERA.home / "daemon.pid")


def already_running() -> str:
    """Say where the factory that stands in the way is."""
    running = find()
    where = f" at {running.url}, pid {running.process.pid}" if running else ""
    return f"Chimera runs already{where}. Stop it first: chimera-daemon stop"


def refuse_strangers(host: str) -> None:
    """Refuse to listen where others can reach a Chimera that asks nobody who they are."""
    if not ports.is_loopback(host) and settings.CHIMERA.auth != "off":
        raise DaemonError(
            f"Chimera does not listen on {host}: everybody who reaches that address could run "
            "tasks, since there is no sign-in. Use 127.0.0.1, or, behind a proxy that lets only "
            "your people through, set CHIMERA_AUTH=off."
        )
