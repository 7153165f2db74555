"""What a project needs to run: a virtual environment of its own, or an install in its tree.

A Python project gets a virtual environment, kept and shared by what it was installed from; in the
sandbox it is always at /env, so the paths in its scripts hold. Any other project's install command
runs in each copy of its tree.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.workspace import checkout
from tasks.workspace.process import Log, arguments, run
from tasks.workspace.sandbox import Jail, Mount, Network, Sandbox

ENV = "/env"
_PYTHON_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "Pipfile")
_KEY = re.compile(r"[0-9a-f]{32}")
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
class Attempt:
    """What one installation works on, and what bounds it."""

    tree: Path
    log: Log
    left_s: Callable[[], float]  # raises when there is no time left, or we are to stop
    should_stop: Callable[[], bool]
    is_trusted: bool  # the code is the operator's own, not an agent's


@dataclass(frozen=True)
class Installer:
    """How this project is installed, and where environments are kept."""

    sandbox: Sandbox
    command: str
    cache: Path
    network_env: Mapping[str, str]  # certificates, proxies, package index: for installing only

    def install(self, attempt: Attempt) -> Environment:
        """Make the tree's environment, or reuse the one made from the same inputs. Blocks.

        What is not trusted installs without a network, unless nothing of it is installed: where
        the inputs are those of the base, its environment serves. Raises InstallError, with what
        the command printed, and whatever `left_s` raises.
        """
        if not self.command:
            return Environment(None, "")
        if not is_python(attempt.tree):
            self._call(attempt, Environment(None, ""))
            return Environment(None, "")
        shared = self._environment(self.key(attempt.tree))
        if attempt.is_trusted or _is_done(shared):
            return self._make(attempt, shared)
        return self._make(attempt, self._environment(self.key(attempt.tree, everything=True)))

    def _environment(self, key: str) -> Environment:
        folder = self.cache / key
        return Environment(folder, ENV if self.sandbox.is_on else str(folder))

    def _make(self, attempt: Attempt, found: Environment) -> Environment:
        assert found.folder is not None  # noqa: S101 - made by _environment
        with _lock(found.folder.with_name(found.folder.name + ".lock"), attempt.left_s):
            if not _is_done(found):
                checkout.remove(found.folder)
                found.folder.mkdir(parents=True)
                self._make_venv(attempt, found)
            _marker(found).touch()  # at each use: its time says when that was
        return found

    def _make_venv(self, attempt: Attempt, environment: Environment) -> None:
        jail = self._jail(attempt, environment)
        argv = (sys.executable, "-m", "venv", environment.target)
        done = run(
            self.sandbox.command(jail, argv),
            timeout_s=attempt.left_s(),
            log=attempt.log,
            should_stop=attempt.should_stop,
        )
        if not done.ok:
            raise InstallError(f"A virtual environment could not be made:\n{done.output_tail}")
        self._call(attempt, environment)

    def _call(self, attempt: Attempt, environment: Environment) -> None:
        attempt.log.line(f"installing: {self.command}")
        jail = self._jail(attempt, environment)
        command = self.sandbox.command(jail, arguments(self.command, {}))
        done = run(
            command,
            timeout_s=attempt.left_s(),
            log=attempt.log,
            should_stop=attempt.should_stop,
        )
        attempt.left_s()
        if not done.ok:
            raise InstallError(
                f"`{self.command}` ended with code {done.returncode}:\n{done.output_tail[-3000:]}"
                + ("" if attempt.is_trusted else NO_NETWORK)
            )

    def _jail(self, attempt: Attempt, environment: Environment) -> Jail:
        network = Network.HOST if attempt.is_trusted else Network.NONE
        env = self.network_env if attempt.is_trusted else {}
        jail = environment.jail(attempt.tree, env=env, network=network)
        mounts = tuple(
            Mount(mount.source, mount.target, writable=mount.source == environment.folder)
            for mount in jail.mounts
        )
        return replace(jail, mounts=mounts)

    def key(self, tree: Path, *, everything: bool = False) -> str:
        """Hash what an installation depends on: all files, unless the command tells better."""
        digest = hashlib.sha256(f"{sys.version}\0{self.sandbox.is_on}\0{self.command}".encode())
        digest.update(b"all" if everything else b"inputs")
        named = None if everything else named_inputs(arguments(self.command, {}))
        for path in sorted(_files(tree, named)):
            digest.update(str(path.relative_to(tree)).encode(errors="surrogateescape") + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:32]


NO_NETWORK = (
    "\nThe change alters what is installed, and what an agent wrote is installed without a "
    "network (unless the project gives its agents one)."
)


def is_python(tree: Path) -> bool:
    """Say whether the project installs as Python projects do."""
    return any((tree / name).is_file() for name in _PYTHON_FILES)


def named_inputs(argv: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the patterns of the files that a pip call reads; None if that can't be told.

    It can for `pip install` of nothing but editable paths and requirement files: the code itself
    is then used from where it lies.
    """
    is_module = argv[1:3] == ("-m", "pip")
    words = list(argv[3:] if is_module else argv[1:])
    is_pip = is_module or Path(argv[0]).name in {"pip", "pip3"}
    if not is_pip or words[:1] != ["install"]:
        return None
    rest = [word for word in words[1:] if word not in {"-q", "--quiet", "-v", "--no-input"}]
    patterns = list(_LOCK_FILES)
    while rest:
        option, value = rest[0], rest[1] if len(rest) > 1 else ""
        if ".." in Path(value).parts:
            return None
        if option in {"-r", "--requirement", "-c", "--constraint"} and value:
            patterns += [str(Path(value).parent / "*.txt"), value]
        elif option not in {"-e", "--editable"} or value.split("[")[0] not in {".", "./"}:
            return None
        rest = rest[2:]
    return tuple(patterns)


def _files(tree: Path, patterns: tuple[str, ...] | None) -> set[Path]:
    """Return the plain files of a tree that match, never those of `.git`."""
    found = [path for pattern in patterns or ("**/*",) for path in tree.glob(pattern)]
    own = tree / ".git"
    return {path for path in found if _is_plain(path) and not path.is_relative_to(own)}


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def find_unused(cache: Path, before: float) -> list[Path]:
    """Return the environments last used before a moment, in seconds since the epoch."""
    folders = sorted(cache.iterdir()) if cache.is_dir() else []
    return [path for path in folders if _KEY.fullmatch(path.name) and _last_use(path) < before]


def remove_unused(folder: Path, before: float) -> bool:
    """Remove an environment that is not being used; say whether it is gone. Blocks.

    Whoever wants to use it marks it under the lock, so of the two only one goes first. The lock
    file stays: another could be waiting for it.
    """

    def give_up() -> None:
        raise BlockingIOError

    try:
        with _lock(folder.with_name(folder.name + ".lock"), give_up):
            if _last_use(folder) >= before:
                return False
            folder.with_name(folder.name + ".done").unlink(missing_ok=True)
            checkout.remove(folder)
    except BlockingIOError:
        return False
    return True


def _last_use(folder: Path) -> float:
    """Return when it was last used or, if it never was ready, made; infinity if it is gone."""
    marker = folder.with_name(folder.name + ".done")
    with contextlib.suppress(FileNotFoundError):
        return (marker if marker.exists() else folder).lstat().st_mtime
    return float("inf")


def _marker(environment: Environment) -> Path:
    assert environment.folder is not None  # noqa: S101 - made by _environment
    return environment.folder.with_name(environment.folder.name + ".done")


def _is_done(environment: Environment) -> bool:
    return _marker(environment).exists()


@contextlib.contextmanager
def _lock(path: Path, check: Callable[[], object]) -> Iterator[None]:
    """Hold a file lock; `check` is called while waiting, and ends that by what it raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check()
                time.sleep(0.05)
        yield
