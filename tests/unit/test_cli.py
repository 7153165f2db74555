"""The commands as a user types them, with a server that is played."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner, Result

from chimera_daemon import cli
from chimera_daemon.client import ChimeraClient

TASK = {"task_id": "chimera-abc", "status": "queued", "phase": "WORKSPACE_PREPARATION"}
RUN = {"run": 1, "phase": "WORKSPACE_PREPARATION", "verdict": "passed", "reason": ""}


@pytest.fixture
def chimera(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs `chimera ARGUMENTS` against answers by path."""

    def call(answers: dict[str, tuple[int, Any]], *arguments: str) -> Result:
        def answer(request: httpx2.Request) -> httpx2.Response:
            status, body = answers[request.url.path]
            return httpx2.Response(status, json=body)

        transport = httpx2.MockTransport(answer)
        monkeypatch.setattr(
            cli, "ChimeraClient", lambda url: ChimeraClient(url, transport=transport)
        )
        return CliRunner().invoke(cli.chimera, arguments)

    return call


def test_submit_prints_the_task(chimera: Callable[..., Result]) -> None:
    answers = {"/api/tasks": (201, TASK)}
    done = chimera(answers, "submit", "Add dark mode", "--target-url", "https://app.dev")
    assert (done.exit_code, done.stdout.split()[0]) == (0, "chimera-abc")


def test_json_is_the_servers_answer(chimera: Callable[..., Result]) -> None:
    done = chimera(
        {"/api/tasks/chimera-abc/cancel": (200, TASK)}, "cancel", "chimera-abc", "--json"
    )
    assert json.loads(done.stdout) == TASK


def test_a_wrong_option_exits_2(chimera: Callable[..., Result]) -> None:
    done = chimera({}, "submit", "x", "--target-url", "https://app.dev", "--priority", "11")
    assert (done.exit_code, done.stdout) == (2, "")


def test_an_error_of_the_server_exits_1_with_its_sentence(chimera: Callable[..., Result]) -> None:
    problem = {"title": "Not Found", "detail": "There is no task chimera-no."}
    done = chimera({"/api/tasks/chimera-no": (404, problem)}, "show", "chimera-no")
    assert (done.exit_code, done.stderr) == (1, "There is no task chimera-no.\n")


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 3), ("cancelled", 3)])
def test_watch_exits_by_how_the_task_ended(
    chimera: Callable[..., Result], status: str, code: int
) -> None:
    answers = {
        "/api/tasks/chimera-abc": (200, {**TASK, "status": status}),
        "/api/tasks/chimera-abc/phases": (200, {"phases": [RUN]}),
    }
    done = chimera(answers, "watch", "chimera-abc")
    assert done.exit_code == code
    assert "1/7  WORKSPACE_PREPARATION  passed" in done.stdout


def test_watch_exits_5_when_time_is_up(chimera: Callable[..., Result]) -> None:
    answers = {
        "/api/tasks/chimera-abc": (200, TASK),
        "/api/tasks/chimera-abc/phases": (200, {"phases": []}),
    }
    done = chimera(answers, "watch", "chimera-abc", "--timeout", "0")
    assert done.exit_code == 5


def test_what_agents_wrote_cannot_move_the_cursor(chimera: Callable[..., Result]) -> None:
    hostile = "\x1b[2Jgone \x07 [red]not a colour[/red]\n\x9b5A"
    task = {**TASK, "status": "failed", "feature": hostile, "reason": hostile}
    shown = chimera({"/api/tasks": (200, {"results": [task]})}, "list").stdout
    shown += chimera(
        {
            "/api/tasks/chimera-abc": (200, task),
            "/api/tasks/chimera-abc/phases": (200, {"phases": [{**RUN, "reason": hostile}]}),
        },
        "show",
        "chimera-abc",
    ).stdout
    assert not set(shown) & {"\x1b", "\x07", "\x9b"}
    assert "[red]not a colour[/red]" in shown


def test_the_daemon_command_becomes_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[list[str], str]] = []

    def become(path: str, argv: list[str], env: dict[str, str]) -> None:
        became.append((argv[1:], env["DJANGO_SETTINGS_MODULE"]))

    monkeypatch.setattr("os.execve", become)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "somebody.elses")
    done = CliRunner().invoke(cli.daemon, ["start", "--max-concurrent", "7", "--port", "81"])
    words = ["-P", "-m", "chimera_site", "daemon", "start", "--max-concurrent=7", "--port=81"]
    assert (done.exit_code, became) == (0, [(words, "chimera_site.settings")])


def test_without_the_server_the_daemon_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(cli.daemon, ["start"])
    assert (done.exit_code, "pip install 'chimera-daemon[server]'" in done.stderr) == (1, True)
