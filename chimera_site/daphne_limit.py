"""Daphne's part of the gate: it collects a whole body before any application sees the first byte.

So the limit has to hold where the bytes arrive (Daphne 4.2.3, Twisted 26: `gotLength` is called
after the headers, `handleContentChunk` for each piece).
"""

from __future__ import annotations

import logging
from typing import Any

from daphne import http_protocol, server
from django.conf import settings

from chimera_site.gate import problem_bytes

logger = logging.getLogger(__name__)

LINGER_S = 5.0  # for the caller to read the answer, while what it still sends is dropped


class LimitedRequest(http_protocol.WebRequest):  # type: ignore[misc]
    """A request that is answered with 413 as soon as its body is known to be too large."""

    received_bytes = 0
    is_refused = False

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
        """Look at the announced length."""
        super().gotLength(length)
        if length is not None and length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            self.refuse()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Count what comes, announced or not."""
        self.received_bytes += len(data)
        if self.received_bytes > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            self.refuse()
        if not self.is_refused:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """Hand a whole request on; a refused one may end in the bytes that were at hand."""
        if not self.is_refused:
            super().requestReceived(command, path, version)

    def refuse(self) -> None:
        """Answer at once and drop the rest: to close on a sender would lose it the answer."""
        if self.is_refused:
            return
        self.is_refused = True
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        logger.warning("refused a body of more than %s bytes", limit)
        detail = f"The body is larger than {limit} bytes, the most that is taken."
        body = problem_bytes(413, detail)
        head = (
            "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/problem+json\r\n"
            "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.requestHeaders.removeHeader(b"expect")  # else “100 Continue” would follow
        channel: Any = self.channel
        channel.transport.write(head.encode() + body)
        channel.dataReceived = _drop
        server.reactor.callLater(LINGER_S, channel.transport.abortConnection)


def _drop(_: bytes) -> None:
    """Take no more from this connection."""


def install() -> None:
    """Make Daphne use it; Daphne has no option for the class of its requests."""
    http_protocol.WebRequest = LimitedRequest
