"""What a project needs to run: a virtual environment of its own, or an install in its tree.

A Python project gets a virtual environment, kept and shared by what it was installed from; in the
sandbox it is always at /env, so the paths in its scripts hold. Any other project's install command
runs in each copy of its tree.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.workspace.process import Log, arguments, run
from tasks.workspace.sandbox import Jail, Mount, Network, Sandbox

ENV = "/env"
_PYTHON_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "Pipfile")
_LOCK_FILES = ("requirements*.txt", "*.lock", "constraints*.txt", *_PYTHON_FILES)


class InstallError(Exception):
    """The install command failed; the text ends with what it printed."""


@dataclass(frozen=True)
class Environment:
    """What to mount and set for a project's commands; `folder` None = nothing of its own."""

    folder: Path | None
    target: str  # how a child sees it

    def jail(
        self,
        tree: Path,
        *,
        writable: bool = True,
        mounts: tuple[Mount, ...] = (),
        env: Mapping[str, str] | None = None,
        network: Network = Network.NONE,
    ) -> Jail:
        """Return a jail for a command of the project in a copy of its tree."""
        own = (Mount(self.folder, self.target),) if self.folder else ()
        values = {"VIRTUAL_ENV": self.target} if self.folder else {}
        path = (f"{self.target}/bin",) if self.folder else ()
        return Jail(tree, writable, (*own, *mounts), {**values, **(env or {})}, path, network)


@dataclass(frozen=True)
class Installer:
    """How this project is installed, and where environments are kept."""

    sandbox: Sandbox
    command: str
    cache: Path
    network_env: Mapping[str, str]  # certificates, proxies, package index: for installing only

    def install(
        self, tree: Path, log: Log, timeout_s: float, should_stop: Callable[[], bool]
    ) -> Environment:
        """Make the tree's environment, or reuse the one made from the same files. Blocks.

        Raises InstallError, with what the command printed.
        """
        if not self.command:
            return Environment(None, "")
        if not is_python(tree):
            self._call(tree, Environment(None, ""), log, timeout_s, should_stop)
            return Environment(None, "")
        folder = self.cache / self._key(tree)
        found = Environment(folder, ENV if self.sandbox.is_on else str(folder))
        done = folder.with_name(folder.name + ".done")
        with _lock(folder.with_name(folder.name + ".lock")):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                self._make_venv(tree, found, log, timeout_s, should_stop)
                done.touch()
        return found

    def _make_venv(
        self,
        tree: Path,
        environment: Environment,
        log: Log,
        timeout_s: float,
        should_stop: Callable[[], bool],
    ) -> None:
        jail = self._jail(tree, environment)
        argv = (sys.executable, "-m", "venv", environment.target)
        done = run(self.sandbox.command(jail, argv), timeout_s=timeout_s, log=log)
        if not done.ok:
            raise InstallError(f"A virtual environment could not be made:\n{done.output_tail}")
        self._call(tree, environment, log, timeout_s, should_stop)

    def _call(
        self,
        tree: Path,
        environment: Environment,
        log: Log,
        timeout_s: float,
        should_stop: Callable[[], bool],
    ) -> None:
        log.line(f"installing: {self.command}")
        command = self.sandbox.command(self._jail(tree, environment), arguments(self.command, {}))
        done = run(command, timeout_s=timeout_s, log=log, should_stop=should_stop)
        if done.timed_out:
            raise InstallError(f"`{self.command}` did not end within {timeout_s:.0f} s.")
        if not done.ok:
            raise InstallError(
                f"`{self.command}` ended with code {done.returncode}:\n{done.output_tail[-3000:]}"
            )

    def _jail(self, tree: Path, environment: Environment) -> Jail:
        jail = environment.jail(tree, env=self.network_env, network=Network.HOST)
        mounts = tuple(
            Mount(mount.source, mount.target, writable=mount.source == environment.folder)
            for mount in jail.mounts
        )
        return Jail(**{**jail.__dict__, "mounts": mounts})

    def _key(self, tree: Path) -> str:
        """Hash what an installation depends on.

        A project that is installed as a copy, and not editable, depends on all of its files.
        """
        digest = hashlib.sha256(f"{sys.version}\0{self.sandbox.is_on}\0{self.command}".encode())
        patterns = ("**/*",) if self._copies_the_tree() else _LOCK_FILES
        files = {path for pattern in patterns for path in tree.glob(pattern) if _is_plain(path)}
        for path in sorted(files):
            digest.update(str(path.relative_to(tree)).encode(errors="surrogateescape") + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:32]

    def _copies_the_tree(self) -> bool:
        words = arguments(self.command, {})
        return any(
            word.split("[")[0] in {".", "./"} and words[position - 1] not in {"-e", "--editable"}
            for position, word in enumerate(words)
        )


def is_python(tree: Path) -> bool:
    """Say whether the project installs as Python projects do."""
    return any((tree / name).is_file() for name in _PYTHON_FILES)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
