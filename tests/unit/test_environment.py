"""What an installation depends on, and with which network it runs."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.workspace import sandbox
from tasks.workspace.environment import (
    Attempt,
    Environment,
    Installer,
    InstallError,
    named_inputs,
)
from tasks.workspace.process import Log


class OutOfPatienceError(Exception):
    """Raised by a clock that has run out."""


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Callable[..., Attempt]]:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "requirements.txt").write_text("")
    (tree / "app.py").write_text("x = 1\n")
    log = Log(tmp_path / "log.txt")

    def call(*, is_trusted: bool = True, left_s: Callable[[], float] = lambda: 60.0) -> Attempt:
        return Attempt(tree, log, left_s, lambda: False, is_trusted)

    yield call
    log.close()


def installer(tmp_path: Path, command: str) -> Installer:
    return Installer(sandbox.find("auto"), command, tmp_path / "cache", {"PIP_INDEX_URL": "secret"})


@pytest.mark.parametrize(
    "command",
    ["pip install -e .", "pip install -q -e .[test]", "python -m pip install -r dev/req.txt -e ."],
)
def test_an_editable_install_depends_on_what_it_names(command: str) -> None:
    assert named_inputs(tuple(shlex.split(command))) is not None


@pytest.mark.parametrize(
    "command",
    ["pip install .", "sh install.sh", "pip install ./backend", "pip install -r ../x.txt", "make"],
)
def test_any_other_install_depends_on_every_file(command: str) -> None:
    assert named_inputs(tuple(shlex.split(command))) is None


def test_a_named_requirements_file_counts(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    tree = attempt().tree
    (tree / "dev").mkdir()
    (tree / "dev" / "all.txt").write_text("")
    made = installer(tmp_path, "pip install -q -r dev/all.txt")
    first = made.key(tree)
    (tree / "app.py").write_text("x = 2\n")
    assert made.key(tree) == first
    (tree / "dev" / "all.txt").write_text("# changed\n")
    assert made.key(tree) != first


def test_the_history_in_a_workspace_does_not_count(
    attempt: Callable[..., Attempt], tmp_path: Path
) -> None:
    tree = attempt().tree
    made = installer(tmp_path, "sh install.sh")
    first = made.key(tree)
    (tree / ".git").mkdir()
    (tree / ".git" / "index").write_text("anything")
    assert made.key(tree) == first
    (tree / "app.py").write_text("x = 2\n")
    assert made.key(tree) != first


def test_what_an_agent_wrote_installs_without_network_and_secrets(
    attempt: Callable[..., Attempt], tmp_path: Path
) -> None:
    show = (
        "import os; interfaces = open('/proc/net/dev').read().count(':'); "
        "print('seen', os.environ.get('PIP_INDEX_URL'), interfaces)"
    )
    draft = not_python(attempt(is_trusted=False))
    installer(tmp_path, f'python -c "{show}"').install(draft)
    # No credential, and one interface: a loopback of its own.
    assert "seen None 1" in (tmp_path / "log.txt").read_text()


def test_a_failed_install_of_an_agents_change_says_why(
    attempt: Callable[..., Attempt], tmp_path: Path
) -> None:
    made = installer(tmp_path, "python -c 'raise SystemExit(3)'")
    with pytest.raises(InstallError, match="without a network"):
        made.install(not_python(attempt(is_trusted=False)))


def test_the_bases_environment_serves_a_change_of_code(
    attempt: Callable[..., Attempt], tmp_path: Path
) -> None:
    made = installer(tmp_path, "pip install -q -r requirements.txt")
    base = made.install(attempt())
    marker = made.cache / f"{made.key(attempt().tree)}.done"
    os.utime(marker, (1, 1))
    draft = attempt(is_trusted=False)
    (draft.tree / "app.py").write_text("x = 2\n")
    assert made.install(draft) == base
    assert marker.stat().st_mtime > 1  # each use is marked, so that no pruning takes it
    assert base.folder is not None
    assert (base.folder / "bin" / "pip").exists()


def test_waiting_for_another_install_ends_with_ones_own_time(
    attempt: Callable[..., Attempt], tmp_path: Path
) -> None:
    def no_time() -> float:
        raise OutOfPatienceError

    made = installer(tmp_path, "pip install -q -r requirements.txt")
    mine = attempt(left_s=no_time)
    made.cache.mkdir()
    with (made.cache / f"{made.key(mine.tree)}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OutOfPatienceError):
            made.install(mine)


def test_no_command_needs_no_environment(attempt: Callable[..., Attempt], tmp_path: Path) -> None:
    assert installer(tmp_path, "").install(attempt()) == Environment(None, "")


def not_python(attempt: Attempt) -> Attempt:
    """Let the tree be that of a project that installs into its own folder."""
    (attempt.tree / "requirements.txt").unlink()
    return attempt
