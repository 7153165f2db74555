"""The adapter runs the program apart from Chimera, and turns its end into words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.agents.base import AgentError, Brief, Role
from tasks.agents.playbook import PlaybookAgent
from tasks.workspace.process import Command, Completed, run

PAGE = "<html><head></head>\n<body>\n<nav></nav>\n</body></html>\n"


class LocalShell:
    """Runs the command in a folder, without a sandbox and with an empty environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.readable: Sequence[Path] = ()

    @property
    def workspace(self) -> str:
        return str(self.folder)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        readable: Sequence[Path] = (),
        env: dict[str, str] | None = None,
    ) -> Completed:
        self.readable = readable
        command = Command(argv=tuple(argv), env=env or {}, cwd=self.folder)
        return run(command, timeout_s=20, stdin=stdin)


class EndedShell(LocalShell):
    """Pretends that the command ended in a given way."""

    def __init__(self, folder: Path, done: Completed) -> None:
        super().__init__(folder)
        self.done = done

    def run(self, argv: Sequence[str], **_: object) -> Completed:  # type: ignore[override]
        return self.done


def ask(role: Role, feature: str = "Add dark mode toggle") -> Brief:
    return Brief(
        role=role,
        task_id="chimera-1",
        feature=feature,
        start_path="/",
        test_path="tests/e2e/test_dark.py",
    )


def test_the_author_leaves_a_test_and_the_coder_a_change(tmp_path):
    (tmp_path / "index.html").write_text(PAGE)
    report = PlaybookAgent().work(ask(Role.AUTHOR), LocalShell(tmp_path))
    assert "wrote tests/e2e/test_dark.py" in report.said
    assert (tmp_path / "index.html").read_text() == PAGE
    report = PlaybookAgent().work(ask(Role.CODER), LocalShell(tmp_path))
    assert "changed index.html" in report.said
    assert "theme-toggle" in (tmp_path / "index.html").read_text()


def test_modules_of_the_checkout_are_not_imported(tmp_path):
    (tmp_path / "index.html").write_text(PAGE)
    for name in ("json", "playbooks", "tomllib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    PlaybookAgent().work(ask(Role.CODER), LocalShell(tmp_path))
    assert not list(tmp_path.rglob("__pycache__"))


def test_only_the_program_and_its_playbooks_are_shown_to_it(tmp_path):
    (tmp_path / "index.html").write_text(PAGE)
    shell = LocalShell(tmp_path)
    PlaybookAgent().work(ask(Role.CODER), shell)
    assert [path.name for path in shell.readable] == ["playbook_runner.py", "playbooks"]


def test_a_request_that_nothing_covers_can_never_succeed(tmp_path):
    with pytest.raises(AgentError) as caught:
        PlaybookAgent().work(ask(Role.AUTHOR, "dark mode and login"), LocalShell(tmp_path))
    assert caught.value.permanent
    message = str(caught.value)
    assert "“login”" in message
    assert "Dark mode toggle" in message
    assert 'manage.py project add NAME … --coder "command:' in message
    assert "manage.py playbooks" in message
    assert not list(tmp_path.iterdir())


def test_a_site_that_does_not_fit_can_never_succeed(tmp_path):
    with pytest.raises(AgentError, match="found no HTML file") as caught:
        PlaybookAgent().work(ask(Role.CODER), LocalShell(tmp_path))
    assert caught.value.permanent


def test_it_is_no_reviewer(tmp_path):
    with pytest.raises(AgentError, match="cannot review") as caught:
        PlaybookAgent().work(ask(Role.REVIEWER), LocalShell(tmp_path))
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (Completed(returncode=1, output_tail="Traceback"), "code 1: Traceback"),
        (Completed(returncode=-9, output_tail="", timed_out=True), "took too long"),
    ],
)
def test_any_other_end_may_be_tried_again(tmp_path, done, words):
    with pytest.raises(AgentError, match=words) as caught:
        PlaybookAgent().work(ask(Role.CODER), EndedShell(tmp_path, done))
    assert not caught.value.permanent
