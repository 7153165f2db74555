"""What the web server says while PostgreSQL is away, stuck, or has dropped its connections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, close_old_connections, connection
from django.test import Client

from tasks.models import Project, Task
from tasks.workflow import first_start
from tasks.workflow.first_start import FirstStartError
from tests import postgres
from tests.database import locked_for, outage

pytestmark = pytest.mark.django_db(transaction=True)
AWAY = pytest.mark.only_on("postgresql", "SQLite has no server that could be away")
REQUEST = {"feature": "Add dark mode toggle", "target_url": "https://shop.example/"}


class Visitor(Client):
    """A client of a server that looks after its connections; Django's own switches that off."""

    def request(self, **request: Any) -> Any:
        """Let go of a broken connection, as every request does; then ask."""
        close_old_connections()
        return super().request(**request)


@pytest.fixture
def visitor() -> Client:
    """Return a client that shows the answer to an error, as a browser does."""
    return Visitor(raise_request_exception=False)


def post(client: Client) -> int:
    """Submit a task and return the status code of the answer."""
    return client.post("/api/tasks", REQUEST, content_type="application/json").status_code


@AWAY
def test_while_the_database_is_away_the_api_asks_to_come_back(
    visitor: Client, submit: Callable[..., Task]
) -> None:
    task = submit()
    with outage():
        for path in ("/api/tasks", f"/api/tasks/{task.task_id}"):
            answer = visitor.get(path)
            assert (answer.status_code, answer["Retry-After"]) == (503, "2")
            assert answer["Content-Type"] == "application/problem+json"
        assert post(visitor) == 503
        health = visitor.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        assert "database" in health.json()["reason"]
    assert post(visitor) == 201
    assert Task.objects.count() == 2


@AWAY
def test_while_the_database_is_away_pages_say_so_and_come_back(
    visitor: Client, submit: Callable[..., Task]
) -> None:
    pages = ("/", f"/tasks/{submit().task_id}/", "/admin/")
    with outage():
        visitor.cookies["sessionid"] = 32 * "x"  # so that the admin has to ask
        for path in pages:
            answer = visitor.get(path)
            assert (answer.status_code, answer["Retry-After"]) == (503, "5"), path
            assert b"The database does not answer" in answer.content
    assert visitor.get("/").status_code == 200


@AWAY
def test_a_start_without_the_database_says_so_in_a_sentence(db: None) -> None:
    with outage(), pytest.raises(FirstStartError, match=r"^The database does not answer: "):
        first_start.prepare()


@pytest.mark.only_on("postgresql", "SQLite gives its lock to one process and asks for no proof")
def test_a_writer_that_freezes_in_its_transaction_is_cut_off(project: Project) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("15s",)
    with contextlib.closing(connection.copy()) as frozen:
        frozen.set_autocommit(False)
        cursor = frozen.cursor()
        cursor.execute("SET idle_in_transaction_session_timeout = 300")
        cursor.execute("LOCK TABLE tasks_event IN EXCLUSIVE MODE")
        assert Task.submit(project, "Waits for it", project.target_url).pk
        with pytest.raises(DatabaseError):
            cursor.execute("SELECT 1")


@AWAY
def test_connections_that_the_server_ended_are_made_again(
    visitor: Client, project: Project
) -> None:
    assert visitor.get("/api/tasks").status_code == 200
    ask = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with contextlib.closing(postgres.own().connect()) as other:
        assert other.execute(ask, [connection.settings_dict["NAME"]]).fetchall()
    assert post(visitor) == 201


def test_a_database_in_which_nobody_can_write_makes_a_post_come_back(
    visitor: Client, project: Project
) -> None:
    with locked_for(0.5):
        assert post(visitor) == 503
    assert post(visitor) == 201
    assert Task.objects.count() == 1
