"""The socket of the live feed: says "look", with the number and the task of each new event.

The page sends {"after": seq, "task": id|null} once, then {"seen": n} for each message. It gets
{"type": "look", "n", "seq", "events"}, {"type": "log", "n", "task", "run", "size"} and, where
too much happened to tell, {"type": "resync", "n", "seq"}: fetch the page's content anew.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import Error as DatabaseTrouble

from tasks.dashboard import access
from tasks.dashboard.tailer import newest_seq, tailer
from tasks.feed import EVENTS, Notice, log_group
from tasks.models import Event

MALFORMED = 4400
FORBIDDEN = 4403
TOO_SLOW = 4408
TRY_LATER = 1013

BACKLOG = 500  # events; beyond that the page loads its content anew
MAX_UNSEEN = 64  # messages on their way to one page; it is closed rather than buffered for
MAX_MESSAGE = 500  # characters
READ_TIMEOUT_S = 10.0
TASK_ID = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)


@dataclass(frozen=True)
class Hello:
    """The page has shown everything up to `after`, and follows `task`, or all of them."""

    after: int
    task: str | None


@dataclass(frozen=True)
class Seen:
    """The page has worked off the messages up to number `n`."""

    n: int


class MalformedMessageError(Exception):
    """A page sent something that is no message of this protocol."""


def read_message(text: str | None) -> Hello | Seen:
    """Parse what a page sent. Raises MalformedMessageError."""
    if text is None or len(text) > MAX_MESSAGE:
        raise MalformedMessageError
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError from error
    match content:
        case {"seen": int(n), **rest} if not rest and not isinstance(n, bool):
            return Seen(n)
        case {"after": int(after), "task": str() | None as task, **rest} if not rest:
            if isinstance(after, bool) or not 0 <= after < 2**63:
                raise MalformedMessageError
            if task is not None and not TASK_ID.fullmatch(task):
                raise MalformedMessageError
            return Hello(after, task)
    raise MalformedMessageError


class FeedConsumer(AsyncWebsocketConsumer):  # type: ignore[misc] # channels has no types
    """One page that is open somewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._hello: Hello | None = None
        self._is_over = False
        self._seq = 0  # every event up to here was sent, or is none of this page's business
        self._sent = 0
        self._seen = 0

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Serve the socket; groups and tailer are left however it ends, cancelled too."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._hello is not None:
                tailer().leave(self._hello.task)
                for group in self._groups(self._hello):
                    await self.channel_layer.group_discard(group, self.channel_name)

    async def connect(self) -> None:
        """Let in those who may use the dashboard; the others get 403 before the upgrade."""
        if not access.socket_may_use(self.scope):
            await self._end(FORBIDDEN)
        else:
            await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take a message of the page; one that is none ends the socket."""
        if self._is_over:
            return
        try:
            message = read_message(text_data)
            if isinstance(message, Hello) and self._hello is None:
                await self._start(message)
            elif isinstance(message, Seen) and self._seen <= message.n <= self._sent:
                self._seen = message.n
            else:
                raise MalformedMessageError
        except MalformedMessageError:
            await self._end(MALFORMED)

    async def feed_look(self, message: Mapping[str, Any]) -> None:
        """Pass on what the tailer published."""
        if message["after"] > self._seq:
            # The layer dropped a nudge for this socket, so it reads the rows instead.
            await self._catch_up()
            return
        notices = [Notice(*each) for each in message["notices"] if each[0] > self._seq]
        self._seq = max(self._seq, message["seq"])
        mine = [
            notice for notice in notices if self._hello and self._hello.task in {None, notice.task}
        ]
        if mine:
            await self._look(mine)

    async def feed_log(self, message: Mapping[str, Any]) -> None:
        """Pass on that the log of the page's task grew."""
        await self._tell("log", task=message["task"], run=message["run"], size=message["size"])

    async def _start(self, hello: Hello) -> None:
        # In this order nothing is missed: hear first, then read. What comes twice is dropped,
        # for messages of the group wait until this is done.
        self._hello = hello
        self._seq = hello.after
        for group in self._groups(hello):
            await self.channel_layer.group_add(group, self.channel_name)
        try:
            await asyncio.wait_for(tailer().join(hello.task), READ_TIMEOUT_S)
        except TimeoutError:
            await self._end(TRY_LATER)
            return
        await self._catch_up(is_first=True)

    async def _catch_up(self, is_first: bool = False) -> None:
        if self._hello is None or self._is_over:
            return
        read = database_sync_to_async(read_backlog)(self._seq, self._hello.task)
        try:
            newest, notices = await asyncio.wait_for(read, READ_TIMEOUT_S)
        except (DatabaseTrouble, TimeoutError):
            await self._end(TRY_LATER)
            return
        is_lost = newest < self._seq or len(notices) > BACKLOG
        self._seq = newest
        if is_lost:
            await self._tell("resync", seq=newest)
        elif notices or is_first:
            await self._look(notices)

    async def _look(self, notices: Iterable[Notice]) -> None:
        await self._tell("look", seq=self._seq, events=[asdict(notice) for notice in notices])

    async def _tell(self, kind: str, **content: Any) -> None:
        if self._is_over:
            return
        if self._sent - self._seen >= MAX_UNSEEN:
            await self._end(TOO_SLOW)
            return
        self._sent += 1
        await self.send(text_data=json.dumps({"type": kind, "n": self._sent, **content}))

    async def _end(self, code: int) -> None:
        if not self._is_over:
            self._is_over = True
            await self.close(code)

    @staticmethod
    def _groups(hello: Hello) -> list[str]:
        return [EVENTS, log_group(hello.task)] if hello.task else [EVENTS]


def read_backlog(after: int, task_id: str | None) -> tuple[int, list[Notice]]:
    """Return the newest number and the events after `after`, one more than BACKLOG at most.

    The number is read first: an event that commits in between is then told of, not lost.
    """
    newest = newest_seq()
    events = Event.objects.after(after).filter(seq__lte=newest)
    if task_id is not None:
        events = events.filter(task__task_id=task_id)
    rows = events.values_list("seq", "kind", "task__task_id")[: BACKLOG + 1]
    return newest, [Notice(*row) for row in rows]
