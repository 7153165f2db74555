"""The SDK against a server that is played by a function; no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from chimera_daemon import (
    ChimeraClient,
    ConflictError,
    NotFoundError,
    ProblemError,
    RefusedError,
    UnreachableError,
    WaitTimeoutError,
)
from chimera_daemon.client import _is_loopback

QUEUED = {"task_id": "chimera-abc", "status": "queued", "created_at": "2030-01-31T10:30:05Z"}
HEALTH = {
    "status": "healthy",
    "uptime": 7,
    "tasks_queued": 1,
    "tasks_running": 2,
    "tasks_completed": 3,
    "tasks_failed": 4,
    "workers": [{"host": "h", "pid": 12, "task": None, "phase": None, "last_seen": None}],
}

Answer = Callable[[httpx2.Request], httpx2.Response]


def client(answer: Answer) -> ChimeraClient:
    return ChimeraClient("http://chimera.test", transport=httpx2.MockTransport(answer))


def says(body: Any, status: int = 200) -> ChimeraClient:
    return client(lambda request: httpx2.Response(status, json=body))


def test_submit_sends_only_what_was_given() -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert (request.method, request.url.path) == ("POST", "/api/tasks")
        assert request.headers["content-type"] == "application/json"
        sent.append(json.loads(request.content))
        return httpx2.Response(201, json=QUEUED)

    task = client(answer).submit_task(feature="Dark mode", target_url="https://app.dev", priority=8)
    assert sent == [{"feature": "Dark mode", "target_url": "https://app.dev", "priority": 8}]
    assert (task.id, task.status, task.is_finished) == ("chimera-abc", "queued", False)
    assert task.created_at is not None
    assert task.created_at.isoformat() == "2030-01-31T10:30:05+00:00"


def test_a_completed_task_carries_its_result() -> None:
    result = {
        "test_path": "tests/e2e/test_it.py",
        "code_pr_id": "local-chimera-abc",
        "review_decision": "approved",
        "deployment_url": "http://chimera-abc.localhost:4000",
        "validation_status": "passed",
    }
    done = {**QUEUED, "status": "completed", "phase": "COMPLETE", "duration": 31, "result": result}
    task = says({**done, "a_key_of_the_future": 1}).get_task("chimera-abc")
    assert task.result is not None
    assert task.result.deployment_url == "http://chimera-abc.localhost:4000"
    assert (task.result.commit_sha, task.result.staging_expires_at) == ("", None)  # an older server
    assert (task.duration_s, task.is_finished) == (31, True)


def test_a_result_tells_its_commits_and_until_when_its_copy_stands() -> None:
    result = {
        "commit_sha": "b" * 40,
        "branch": "chimera/chimera-abc",
        "test_commit": "a" * 40,
        "staging_expires_at": "2030-02-07T10:30:05Z",
    }
    seen = says({**QUEUED, "status": "completed", "result": result}).get_task("chimera-abc").result
    assert seen is not None
    assert (seen.commit_sha, seen.test_commit) == ("b" * 40, "a" * 40)
    assert seen.branch == "chimera/chimera-abc"
    assert seen.staging_expires_at is not None
    assert seen.staging_expires_at.isoformat() == "2030-02-07T10:30:05+00:00"


def test_a_task_id_cannot_reach_another_route() -> None:
    seen: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.raw_path)
        return httpx2.Response(200, json=QUEUED)

    client(answer).get_task("../../admin?x=1")
    assert seen == [b"/api/tasks/..%2F..%2Fadmin%3Fx%3D1"]


def test_listing_follows_pages_up_to_the_limit() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        page = int(request.url.params.get("page", 1))
        tasks = [{**QUEUED, "task_id": f"chimera-{page}{number}"} for number in range(2)]
        link = f"http://elsewhere.test/api/tasks?page={page + 1}&status=queued"
        return httpx2.Response(200, json={"count": 9, "next": link, "results": tasks})

    tasks = client(answer).list_tasks(status="queued", limit=3)
    assert [task.id for task in tasks] == ["chimera-10", "chimera-11", "chimera-20"]
    assert asked == [
        "http://chimera.test/api/tasks?page_size=3&status=queued",
        "http://chimera.test/api/tasks?page=2&status=queued",
    ]


def test_phases_tell_how_each_try_ended() -> None:
    runs = [
        {
            "run": 1,
            "phase": "WORKSPACE_PREPARATION",
            "verdict": "passed",
            "started_at": "2030-01-31T10:30:05Z",
            "finished_at": "2030-01-31T10:30:07Z",
        },
        {"run": 2, "phase": "E2E_TEST_GENERATION", "verdict": None, "finished_at": None},
    ]
    measured = {**runs[0], "facts": {"seconds": 1.75}}
    first, second, finer = says({"phases": [*runs, measured]}).phases("chimera-abc")
    assert (first.verdict, first.duration_s) == ("passed", 2.0)
    assert (second.verdict, second.duration_s) == ("", None)
    assert finer.duration_s == 1.75


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFoundError), (409, ConflictError), (422, RefusedError), (500, ProblemError)],
)
def test_an_error_carries_the_servers_own_words(status: int, kind: type[ProblemError]) -> None:
    body = {"title": "No", "status": status, "detail": "Because of this.", "errors": [{"a": "b"}]}
    with pytest.raises(kind) as caught:
        says(body, status).cancel("chimera-abc")
    assert str(caught.value) == "Because of this."
    assert caught.value.problem.status == status
    assert caught.value.problem.document["errors"] == [{"a": "b"}]


def test_an_error_without_words_still_says_where() -> None:
    with pytest.raises(ProblemError, match=r"chimera\.test/api/tasks/chimera-abc answered 502"):
        client(lambda request: httpx2.Response(502, text="<html>")).get_task("chimera-abc")


def test_an_unhealthy_factory_is_an_answer() -> None:
    health = says({**HEALTH, "status": "unhealthy"}, 503).health()
    assert (health.is_healthy, health.status, health.tasks_failed) == (False, "unhealthy", 4)
    assert health.workers[0].pid == 12


@pytest.mark.parametrize("body", [{"status": "ok"}, [], "hello"])
def test_something_else_that_answers_is_not_chimera(body: Any) -> None:
    with pytest.raises(UnreachableError, match="not Chimera"):
        says(body).health()


def test_nobody_at_the_address_is_said_with_what_to_do() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(UnreachableError, match="make run"):
        client(answer).get_task("chimera-abc")


def test_waiting_ends_with_the_task() -> None:
    stands = iter(["queued", "running", "failed"])

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={**QUEUED, "status": next(stands)})

    assert client(answer).wait("chimera-abc", timeout_s=5, poll_s=0.001).status == "failed"


def test_waiting_has_a_bound() -> None:
    with pytest.raises(WaitTimeoutError, match="chimera-abc is queued"):
        says(QUEUED).wait("chimera-abc", timeout_s=0.02, poll_s=0.001)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8000", True),
        ("http://127.0.0.1", True),
        ("http://[::1]:8000", True),
        ("http://demo.localhost", True),
        ("http://chimera.test", False),
        ("http://10.0.0.1", False),
    ],
)
def test_this_machine_is_never_reached_by_a_proxy(url: str, expected: bool) -> None:
    assert _is_loopback(url) is expected
