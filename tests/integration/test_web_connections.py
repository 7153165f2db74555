"""What a request to the web server leaves open: no connection to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from chimera_site.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)
WAIT_S = 60.0


def begin(path: str) -> ApplicationCommunicator:
    """Return a request from this machine, as Daphne would hand it on."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost:8000")],
        "client": ("127.0.0.1", 50_000),
    }
    return ApplicationCommunicator(application, scope)


async def ask(path: str) -> int:
    """GET a path to its end and return the status."""
    talk = begin(path)
    await talk.send_input({"type": "http.request", "body": b""})
    start = await talk.receive_output(WAIT_S)
    while (await talk.receive_output(WAIT_S)).get("more_body"):
        pass
    await talk.wait(WAIT_S)
    return int(start["status"])


async def hang_up_on(path: str, opened: list[Any]) -> None:
    """GET a path, and go as soon as a connection to the database was opened for it."""
    talk = begin(path)
    await talk.send_input({"type": "http.request", "body": b""})
    async with asyncio.timeout(WAIT_S):
        while not opened:
            await asyncio.sleep(0)
    await talk.send_input({"type": "http.disconnect"})
    await talk.wait(WAIT_S)


@pytest.fixture
def opened() -> Iterator[list[BaseDatabaseWrapper]]:
    """Return the list of all connections that are opened from now on."""
    found: list[BaseDatabaseWrapper] = []

    def note(connection: BaseDatabaseWrapper, **_: Any) -> None:
        found.append(connection)

    connection_created.connect(note)
    yield found
    connection_created.disconnect(note)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/api/tasks", 200), ("/api/tasks/chimera-0", 404), ("/health", 503)],
)
def test_a_request_closes_the_connections_that_its_thread_opened(
    path: str, status: int, opened: list[BaseDatabaseWrapper]
) -> None:
    assert asyncio.run(ask(path)) == status
    assert opened
    assert [each for each in opened if each.connection is not None] == []


def test_so_does_one_whose_caller_hung_up(opened: list[BaseDatabaseWrapper]) -> None:
    asyncio.run(hang_up_on("/", opened))
    assert [each for each in opened if each.connection is not None] == []
