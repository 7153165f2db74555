"""The socket of the live feed, from the page's side; workers only write rows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.db import OperationalError

from tasks import feed
from tasks.dashboard import consumers, tailer
from tasks.dashboard.consumers import BACKLOG, MAX_UNSEEN, MalformedMessageError, read_message
from tasks.dashboard.routing import websocket_urlpatterns
from tasks.models import Event, Project, Task, event
from tests.database import end_listeners
from tests.integration import dashboard_rows as rows

pytestmark = pytest.mark.django_db(transaction=True)

WAIT_S = 10.0


@pytest.fixture(autouse=True)
def _quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailer, "POLL_S", 0.01)


class Page:
    """A socket as a page uses it."""

    def __init__(self, address: str = "127.0.0.1", headers: list[Any] | None = None) -> None:
        app = URLRouter(websocket_urlpatterns)
        self.socket = WebsocketCommunicator(app, "/ws/feed/", headers=headers or [])
        self.socket.scope["client"] = (address, 50_000)

    async def open(self, after: int = 0, task: str | None = None) -> dict[str, Any]:
        """Connect, say hello, and return the answer."""
        assert (await self.socket.connect(WAIT_S))[0]
        await self.socket.send_json_to({"after": after, "task": task})
        return await self.hear()

    async def hear(self, *, acknowledge: bool = True) -> dict[str, Any]:
        """Return the next message."""
        message: dict[str, Any] = await self.socket.receive_json_from(WAIT_S)
        if acknowledge:
            await self.socket.send_json_to({"seen": message["n"]})
        return message

    async def hear_events(self, count: int) -> list[dict[str, Any]]:
        """Return the next `count` events, from as many messages as they take."""
        events: list[dict[str, Any]] = []
        while len(events) < count:
            events += (await self.hear())["events"]
        return events

    async def end(self) -> int:
        """Return the code with which the server closed."""
        while True:
            message = await self.socket.receive_output(WAIT_S)
            if message["type"] == "websocket.close":
                await self.leave()
                return int(message["code"])

    async def leave(self) -> None:
        """Go away."""
        await self.socket.disconnect(timeout=WAIT_S)


def live(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run one test's story in an event loop."""
    async_to_sync(story)()


async def write(kind: str, task: Task | None = None) -> Event:
    return await database_sync_to_async(Event.objects.append)(kind, task)


async def until(claim: Callable[[], bool]) -> None:
    """Wait for a condition, with a bound."""
    async with asyncio.timeout(WAIT_S):
        while not claim():
            await asyncio.sleep(0.005)


def seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


def test_a_page_hears_events_in_order_and_none_twice(submit: Callable[..., Task]) -> None:
    task = submit()

    async def story() -> None:
        page = Page()
        heard = (await page.open())["events"]
        for number in range(30):
            await write(f"test.n{number}", task)
        heard += await page.hear_events(30)
        assert [event["kind"] for event in heard[1:]] == [f"test.n{n}" for n in range(30)]
        assert seqs(heard) == sorted(set(seqs(heard)))
        assert {event["task"] for event in heard} == {task.task_id}
        await page.leave()

    live(story)


def test_what_a_worker_writes_reaches_the_page_of_its_task_only(project: Project) -> None:
    mine = Task.submit(project, "Mine", project.target_url)
    other = Task.submit(project, "Other", project.target_url)
    newest = Event.objects.latest("seq").seq

    async def story() -> None:
        page, everything = Page(), Page()
        assert (await page.open(newest, mine.task_id))["events"] == []
        await everything.open(newest)
        for task in (other, mine):
            lease = await database_sync_to_async(rows.claim)(task)
            await database_sync_to_async(rows.advance)(task, lease, 1)
        kinds = [(each["task"], each["kind"]) for each in await page.hear_events(2)]
        assert kinds == [(mine.task_id, "phase.started"), (mine.task_id, "phase.passed")]
        assert len(await everything.hear_events(4)) == 4
        await page.leave()
        await everything.leave()

    live(story)


def test_a_page_that_comes_back_misses_nothing(submit: Callable[..., Task]) -> None:
    task = submit()

    async def story() -> None:
        page = Page()
        last = (await page.open())["seq"]
        await page.leave()
        missed = [(await write("test.missed", task)).seq for _ in range(7)]
        page = Page()
        assert seqs((await page.open(last, task.task_id))["events"]) == missed
        await page.leave()

    live(story)


def test_events_that_commit_while_a_page_joins_come_exactly_once(
    submit: Callable[..., Task],
) -> None:
    task = submit()

    async def story() -> None:
        async def keep_writing() -> None:
            for _ in range(60):
                await write("test.busy", task)

        first = Page()
        await first.open()  # the tailer runs already
        writing = asyncio.create_task(keep_writing())
        page = Page()
        heard = (await page.open())["events"]
        heard += await page.hear_events(61 - len(heard))
        assert seqs(heard) == list(range(heard[0]["seq"], heard[0]["seq"] + 61))
        await writing
        await page.leave()
        await first.leave()

    live(story)


def test_a_nudge_that_the_layer_dropped_is_made_up_for_from_the_rows(
    submit: Callable[..., Task],
) -> None:
    task = submit()

    async def story() -> None:
        page = Page()
        await page.open()
        layer = get_channel_layer()
        lost = await _write_unheard(layer, task)
        await write("test.heard", task)
        heard = await page.hear_events(2)
        assert [(each["seq"], each["kind"]) for each in heard] == [
            (lost.seq, "test.lost"),
            (lost.seq + 1, "test.heard"),
        ]
        await page.leave()

    live(story)


async def _write_unheard(layer: Any, task: Task) -> Event:
    """Write an event while the page is out of the group, and put it back."""
    members = layer.groups.pop(feed.EVENTS)
    lost = await write("test.lost", task)
    running = tailer.tailer()
    await until(lambda: running._seq == lost.seq)
    layer.groups[feed.EVENTS] = members
    return lost


@pytest.mark.parametrize("after", [0, 10**12])
def test_a_page_too_far_behind_or_ahead_is_told_to_load_anew(
    submit: Callable[..., Task], after: int
) -> None:
    task = submit()
    Event.objects.bulk_create(Event(kind="test.many", task=task) for _ in range(BACKLOG))
    newest = Event.objects.latest("seq").seq

    async def story() -> None:
        page = Page()
        answer = await page.open(after)
        assert (answer["type"], answer["seq"]) == ("resync", newest)
        await write("test.next", task)
        assert seqs((await page.hear())["events"]) == [newest + 1]
        await page.leave()

    live(story)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "look",
        "[]",
        "null",
        "{}",
        "[" * 400,
        '{"after": -1, "task": null}',
        '{"after": true, "task": null}',
        '{"after": 1.5, "task": null}',
        '{"after": "1", "task": null}',
        '{"after": 9223372036854775808, "task": null}',
        '{"after": 1}',
        '{"after": 1, "task": 5}',
        '{"after": 1, "task": "../x"}',
        '{"after": 1, "task": "\\ud800"}',
        '{"after": 1, "task": null, "more": 1}',
        '{"seen": true}',
        '{"seen": "1"}',
        '{"after": ' + "9" * 450 + ', "task": null}',
        '{"after": 1, "task": null}' + " " * 500,
        None,
    ],
)
def test_what_is_no_message_is_refused(text: str | None) -> None:
    with pytest.raises(MalformedMessageError):
        read_message(text)


@pytest.mark.parametrize("text", ["no json", '{"seen": 5}', b"\xff\x00"])
def test_a_malformed_message_closes_the_socket(db: None, text: str | bytes) -> None:
    async def story() -> None:
        page = Page()
        await page.open()
        is_text = isinstance(text, str)
        await page.socket.send_to(**{"text_data" if is_text else "bytes_data": text})
        assert await page.end() == 4400

    live(story)


def test_a_second_hello_closes_the_socket(db: None) -> None:
    async def story() -> None:
        page = Page()
        await page.open()
        await page.socket.send_json_to({"after": 0, "task": None})
        assert await page.end() == 4400

    live(story)


def test_a_page_that_does_not_keep_up_is_closed(submit: Callable[..., Task]) -> None:
    task = submit()

    async def story() -> None:
        page = Page()
        await page.open()
        running = tailer.tailer()
        for _ in range(MAX_UNSEEN + 1):
            event = await write("test.flood", task)
            await until(lambda seq=event.seq: running._seq == seq)
        assert await page.end() == 4408

    live(story)


@pytest.mark.parametrize(
    ("address", "headers"),
    [("203.0.113.9", []), ("", []), ("127.0.0.1", [(b"X-Forwarded-For", b"127.0.0.1")])],
)
def test_people_elsewhere_get_no_socket(db: None, address: str, headers: list[Any]) -> None:
    async def story() -> None:
        page = Page(address, headers)
        assert await page.socket.connect(WAIT_S) == (False, 4403)
        await page.leave()

    live(story)


def test_there_is_one_tailer_and_it_ends_with_the_last_socket(db: None) -> None:
    async def story() -> None:
        running = tailer.tailer()
        assert not running.is_running
        pages = [Page(), Page()]
        for page in pages:
            await page.open()
        tails = [each for each in asyncio.all_tasks() if each.get_name() == "feed tailer"]
        assert len(tails) == 1
        await pages[0].leave()
        assert running.is_running
        await pages[1].leave()
        assert not running.is_running
        await until(tails[0].done)
        layer = get_channel_layer()
        assert feed.EVENTS not in layer.groups

    live(story)


def test_the_tailer_outlives_a_database_in_trouble(
    submit: Callable[..., Task],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = submit()
    troubles = iter([True, True])
    real = tailer.read_rows

    def shaky(seq: int | None, watched: list[str]) -> Any:
        if seq is not None and next(troubles, False):
            raise OperationalError("disk I/O error")
        return real(seq, watched)

    monkeypatch.setattr(tailer, "read_rows", shaky)

    async def story() -> None:
        page = Page()
        await page.open()
        event = await write("test.after", task)
        assert seqs(await page.hear_events(1)) == [event.seq]
        await page.leave()

    live(story)
    assert caplog.text.count("disk I/O error") == 2


def test_a_page_is_told_to_come_later_while_the_rows_cannot_be_read(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(after: int, task_id: str | None) -> Any:
        raise OperationalError("database is locked")

    monkeypatch.setattr(consumers, "read_backlog", broken)

    async def story() -> None:
        page = Page()
        assert (await page.socket.connect(WAIT_S))[0]
        await page.socket.send_json_to({"after": 0, "task": None})
        assert await page.end() == 1013

    live(story)


def test_a_growing_log_nudges_the_page_that_watches_it(project: Project) -> None:
    task = rows.a_running_task(project)
    run = task.phase_runs.get(verdict="")
    run.task = task

    async def story() -> None:
        page, other = Page(), Page()
        await page.open(task=task.task_id)
        await other.open()
        first = await page.hear()
        assert (first["type"], first["task"], first["run"]) == ("log", task.task_id, run.number)
        path = rows.write_log(run, "one more line\n")
        while first["size"] != path.stat().st_size:
            first = await page.hear()
        assert await other.socket.receive_nothing(0.1)
        await page.leave()
        await other.leave()

    live(story)


def needs_no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the tailer look only after a nudge."""
    monkeypatch.setattr(tailer, "NUDGED_POLL_S", 3600.0)
    monkeypatch.setattr(tailer.Ear, "OUTAGE_PAUSE_S", 0.01)


@pytest.mark.only_on("postgresql", "SQLite is polled")
def test_the_database_nudges_the_tailer(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_no_poll(monkeypatch)

    async def story() -> None:
        page = Page()
        await page.open()
        for number in range(3):
            written = await write(f"test.n{number}")
            assert seqs(await page.hear_events(1)) == [written.seq]
        await page.leave()

    live(story)


@pytest.mark.only_on("postgresql", "SQLite is polled")
def test_a_nudge_that_the_database_lost_is_made_up_for_by_a_poll(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event, "nudge_in_turn", lambda *_: None)
    monkeypatch.setattr(tailer, "NUDGED_POLL_S", 0.3)

    async def story() -> None:
        page = Page()
        await page.open()
        for number in range(3):
            written = await write(f"test.n{number}")
            assert seqs(await page.hear_events(1)) == [written.seq]
        await page.leave()

    live(story)


@pytest.mark.only_on("postgresql", "SQLite is polled")
def test_the_tailer_hears_again_after_its_connection_was_lost(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_no_poll(monkeypatch)

    async def story() -> None:
        page = Page()
        await page.open()
        await write("test.first")
        await page.hear_events(1)  # so it listens
        assert await database_sync_to_async(end_listeners)() >= 1
        written = await write("test.second")
        assert seqs(await page.hear_events(1)) == [written.seq]
        await page.leave()

    live(story)


@pytest.mark.only_on("postgresql", "SQLite is polled")
def test_nobody_listens_once_the_last_socket_is_gone(db: None) -> None:
    def ears() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name == "feed ear"]

    async def story() -> None:
        await until(lambda: not ears())  # those of other tests
        first, second = Page(), Page()
        await first.open()
        await second.open()
        assert len(ears()) == 1
        await first.leave()
        await second.leave()
        await until(lambda: not ears())

    live(story)
