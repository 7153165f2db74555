"""The factory as one program, for acceptance tests: start it, ask it, and end all of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tests.acceptance.engine import ROOT, wait_for


class Daemon:
    """One CHIMERA_HOME and the programs that are run on it."""

    def __init__(self, home: Path, port: int, **options: str) -> None:
        self.home = home
        self.port = port
        self.options = options  # more of the environment, such as CHIMERA_CHROMIUM
        self.log = home / "daemon.log"
        self._started: list[subprocess.Popen[bytes]] = []
        self._family: set[psutil.Process] = set()

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the factory and wait until it says that it is ready."""
        words = ("daemon", "start", "--port", str(self.port), *options)
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *words],
                env=self._env(),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        wait_for(lambda: self._is_ready(process), 60, "ready")
        return process

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one verb to its end."""
        return self.manage("daemon", *words)

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run manage.py on this home, to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            env=self._env(),
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

    def health(self) -> dict[str, Any] | None:
        """Return what /health says, be it good or bad; None while nothing answers."""
        try:
            return self.ask("/health")[1]  # 503 where there is no browser
        except OSError:
            return None

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """GET a path of the API, or POST `body` to it; return status code and answer.

        Raises OSError while nobody answers.
        """
        request = urllib.request.Request(
            f"http://localhost:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"} if body is not None else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(json.load(error))

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

    def _env(self) -> dict[str, str]:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("CHIMERA_")}
        kept.pop("DJANGO_SETTINGS_MODULE", None)
        return kept | {
            "CHIMERA_HOME": str(self.home),
            "CHIMERA_DEMO": "0",
            "CHIMERA_MAX_WORKERS": "1",
            "CHIMERA_CHROMIUM": "/nowhere/chromium",  # by default nothing here needs a browser
            **self.options,
        }


def free_port() -> int:
    """Return a port of the loopback that nothing listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
