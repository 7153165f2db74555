"""The live feed: what a nudge says, which group hears it, and the only way to send one.

A nudge carries no authority: it says where to look. The rows are the truth, so a nudge may be
lost; `after` lets a reader see that one was, and then it reads the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from channels.layers import get_channel_layer

EVENTS = "feed.events"  # the group that hears of every event


@dataclass(frozen=True)
class Notice:
    """One event as the feed tells of it; `task` is None for an event of the whole factory."""

    seq: int
    kind: str
    task: str | None


@dataclass(frozen=True)
class Nudge:
    """The events with after < seq <= `seq`, oldest first, and none left out."""

    after: int
    seq: int
    notices: tuple[Notice, ...]


@dataclass(frozen=True)
class LogGrowth:
    """The log of a try at a phase is now `size_bytes` long."""

    task: str
    run: int
    size_bytes: int


def log_group(task_id: str) -> str:
    """Return the group that hears when the log of this task grows."""
    return f"feed.log.{task_id}"


async def publish(news: Nudge | LogGrowth) -> None:
    """Tell the sockets of this process; a full or absent reader is passed over in silence."""
    layer = get_channel_layer()
    if isinstance(news, Nudge):
        notices = [(notice.seq, notice.kind, notice.task) for notice in news.notices]
        message = {"type": "feed.look", "after": news.after, "seq": news.seq, "notices": notices}
        await layer.group_send(EVENTS, message)
    else:
        message = {"type": "feed.log", "task": news.task, "run": news.run, "size": news.size_bytes}
        await layer.group_send(log_group(news.task), message)
