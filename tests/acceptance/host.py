"""Another host, as far as one machine can be two: a name, a home and a cluster of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.acceptance.engine import ROOT
from tests.database import child_environment

# A host name belongs to a namespace; the processes, and what kills them, are this machine's.
NAMED = (
    "import os, socket, sys; socket.sethostname(sys.argv[1]); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)


def _own_name() -> tuple[str, ...]:
    """Return the words that give a program a host name of its own to set."""
    words = ("unshare", "--uts")
    is_permitted = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if is_permitted.returncode == 0 else (*words, "--map-root-user")


class Host:
    """A host with workers, on the database of the test."""

    def __init__(self, name: str, folder: Path, **options: str) -> None:
        self.name = name
        self.home = folder / name
        self.home.mkdir(mode=0o700)
        self.log = folder / f"{name}.log"
        kept = {name: text for name, text in os.environ.items() if not name.startswith("CHIMERA_")}
        chosen = {
            name: os.environ[name]
            for name in ("CHIMERA_CHROMIUM", "CHIMERA_SANDBOX")
            if name in os.environ
        }
        self._env = kept | {
            "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
            "CHIMERA_HOME": str(self.home),
            "CHIMERA_DEMO": "0",
            **child_environment(),
            **chosen,
            **options,
        }
        self._family: set[psutil.Process] = set()
        self.main: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start its workers."""
        named = (*_own_name(), sys.executable, "-c", NAMED, self.name)
        with self.log.open("ab") as output:
            self.main = subprocess.Popen(
                [*named, "manage.py", "qcluster"],
                env=self._env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def lose(self) -> None:
        """Have the host gone from one moment to the next, staged sites and all."""
        if self.main is None:
            return
        processes = psutil.process_iter(["environ"])
        own = f"{self.home}"
        mine = {each for each in processes if own in (each.info["environ"] or {}).values()}
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(self.main.pid)
            mine |= {top, *top.children(recursive=True)}
        for keeper in self.home.glob("staging/*/keeper.pid"):
            with contextlib.suppress(psutil.Error, ValueError):
                top = psutil.Process(int(keeper.read_text()))
                mine |= {top, *top.children(recursive=True)}
        for process in mine:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.main.wait(timeout=10)
        self.main = None
