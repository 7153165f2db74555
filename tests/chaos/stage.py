"""The factory under attack: a home, one project, the daemon, and its processes by their role."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tasks.workspace.site import free_port
from tests.acceptance import scripts

ROOT = Path(__file__).resolve().parents[2]
SITE = "https://chaos.example/"
READY_WITHIN_S = 60.0
SERVER = """\
import socket
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    link, _ = listener.accept()
    with link:
        link.recv(65536)
        page = open("index.html", "rb").read()
        link.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(page) + page)
"""
PAGE = "<!doctype html><title>Chaos</title><p>{feature}</p>\n"


class Stage:
    """Runs the daemon, begins it anew whenever it ends, as an operator's systemd would."""

    def __init__(
        self, home: Path, notes: Path, *, workers: int, lease_s: float, database: str = ""
    ) -> None:
        self.home = home
        self.database = database  # a URL as in CHIMERA_DATABASE_URL; "" = the embedded one
        self.notes = notes
        self.lease_s = lease_s
        self.workers = workers
        self.port = free_port()
        self.log = notes / "daemon.log"
        self.restarts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._operator = threading.Thread(target=self._operate, daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """Return what the daemon, and Django in this process, are set up with."""
        return {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHIMERA_HOME": str(self.home),
            "CHIMERA_DEMO": "0",
            "CHIMERA_MAX_WORKERS": str(self.workers),
            "CHIMERA_LEASE_SECONDS": str(self.lease_s),
            "CHIMERA_MAX_RETRIES": "20",  # the disk may be full at every try
            "CHIMERA_MAX_DEPLOYMENTS": "4",
            "CHIMERA_MIN_FREE_MB": "8",  # the disk is a small one
            "CHIMERA_DATABASE_URL": self.database,
            "CHAOS_NOTES": str(self.notes),
        }

    def open(self) -> None:
        """Start the daemon and register the project. Raises RuntimeError when it isn't ready."""
        if self.database:
            from django.core.management import call_command

            call_command("migrate", interactive=False, verbosity=0)  # a server's is the operator's
        self._operator.start()
        until = time.monotonic() + READY_WITHIN_S
        while not self.answers():
            if time.monotonic() > until:
                raise RuntimeError(f"the daemon is not ready:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)
        from tasks.models import Project

        play = self.notes / "play"
        scripts.write(play, {"author/files/@test_path@": "# {feature}\n"})
        scripts.write(play, {"coder/files/index.html": PAGE})
        files = {"index.html": PAGE, "site.py": SERVER}
        Project.objects.create(
            name="chaos",
            repository=str(scripts.make_repository(self.notes / "repository", files)),
            target_url=SITE,
            serve_command="python -I -S site.py {port}",
            author=f"scripted:{play}",
            coder=f"scripted:{play}",
        )

    def close(self) -> int:
        """Ask the daemon to stop and wait for that; return its exit code."""
        self._closing.set()
        self._operator.join()
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            return -1

    def end(self) -> None:
        """End all that is left of it, with force."""
        self._closing.set()
        for process in self.traces():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _operate(self) -> None:
        while not self._closing.wait(0.05):
            if self.process is None or self.process.poll() is not None:
                self.restarts += self.process is not None
                self._begin()

    def _begin(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "daemon", "start", "--port", str(self.port)],
                env=os.environ | self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """GET a path of the API, or POST to it; return status code and answer, {} for no JSON.

        Raises OSError (ConnectionRefusedError where nobody listens) and http.client's errors.
        """
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"} if body is not None else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error, contextlib.suppress(ValueError):
                return error.code, dict(json.load(error))
            return error.code, {}
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else error from error

    def answers(self) -> bool:
        """Say whether the web server answers and a worker is there."""
        with contextlib.suppress(OSError, ValueError):
            return self.ask("/health")[0] == 200
        return False

    def program(self, word: str) -> psutil.Process | None:
        """Return the program directly under the supervisor whose command line has `word`."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid if self.process else 0).children():
                words = child.cmdline()
                if word in words and "tasks.workspace.leash" not in words:
                    return child
        return None

    def sentinel(self) -> psutil.Process | None:
        """Return django-q2's guard."""
        main = self.program("qcluster")
        with contextlib.suppress(psutil.Error):
            for child in main.children() if main else []:
                if "qcluster" in child.cmdline():
                    return child
        return None

    def pool(self) -> list[psutil.Process]:
        """Return the living children of the guard: workers, pusher, monitor."""
        guard = self.sentinel()
        with contextlib.suppress(psutil.Error):
            return [each for each in guard.children() if _runs(each)] if guard else []
        return []

    def role(self, name: str) -> psutil.Process | None:
        """Return the pusher or the monitor."""
        found = [each for each in self.pool() if (self.notes / f"{name}.{each.pid}").exists()]
        return found[0] if found else None

    def crew(self, *, is_idle: bool | None = None) -> list[psutil.Process]:
        """Return the workers that have shown themselves; all, the idle, or the busy ones."""
        from tasks.models import Worker

        rows = Worker.objects.all()
        if is_idle is not None:
            rows = rows.filter(task__isnull=is_idle)
        pids = set(rows.values_list("pid", flat=True))
        return [each for each in self.pool() if each.pid in pids]

    def family(self) -> list[psutil.Process]:
        """Return the supervisor and all under it; staged copies are not under it."""
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(self.process.pid if self.process else 0)
            return [top, *top.children(recursive=True)]
        return []

    def is_program(self, process: psutil.Process) -> bool:
        """Say whether it is one of the daemon's own, not a child of some phase."""
        words = process.cmdline()
        return "daphne" in words or "qcluster" in words or "daemon" in words

    def title(self, process: psutil.Process) -> str:
        """Return the kind and the number of one of the daemon's own processes."""
        words = process.cmdline()
        kind = next((each for each in ("daphne", "qcluster") if each in words), "supervisor")
        return f"{kind} {process.pid}"

    def traces(self) -> list[psutil.Process]:
        """Return every process that works in the home, by its arguments or its environment."""
        mark, own = str(self.home), os.getpid()
        return [
            each
            for each in psutil.process_iter()
            if each.pid != own and _runs(each) and mark in _words(each)
        ]


def forget_options() -> None:
    """Take the caller's options out of this process's environment; only the sandbox's stays."""
    for name in [name for name in os.environ if name.startswith("CHIMERA_")]:
        if name != "CHIMERA_SANDBOX":
            del os.environ[name]


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        return "\n".join([*process.cmdline(), *process.environ().values()])
    return ""
