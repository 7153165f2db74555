"""The gate in front of everything: who may speak to this server, from where, and how much.

It stands outside Django, for HTTP and WebSocket alike, so that no route can forget it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from asgiref.typing import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
)
from django.conf import settings
from django.http.request import validate_host

logger = logging.getLogger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
HOME = "localhost"  # the one name of the pages: staged sites share the cookies of no other
OTHER_NAMES = frozenset({"127.0.0.1", "[::1]"})
ANY_NAME = ("/api", "/health", "/static")  # paths that answer on every name of this machine

DEFAULT_PORTS = {"http": "80", "https": "443"}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(\d{1,5}))?")
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(\d{1,5}))?")

CSP = (
    "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    b"content-security-policy": CSP.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}


@dataclass(frozen=True)
class Refusal:
    """An answer that the gate gives itself: what is wrong, and what to do."""

    status: int
    detail: str


@dataclass(frozen=True)
class Redirect:
    """A page that is asked for under another name than the pages have."""

    location: str


@dataclass(frozen=True)
class Served:
    """The origin under which a request reached us; the port is always named."""

    scheme: str
    host: str
    port: str

    @property
    def origin(self) -> str:
        """Return scheme://host:port."""
        return f"{self.scheme}://{self.host}:{self.port}"


class Gate:
    """An ASGI application that lets the fitting requests through to another one."""

    def __init__(self, app: ASGI3Application) -> None:
        self.app = app

    async def __call__(
        self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Judge by the scope alone, then take the body up to its limit, then pass both on."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        answer = judge(scope)
        if isinstance(answer, Refusal):
            logger.warning("refused %r: %s", scope["path"], answer.detail)
        if scope["type"] == "websocket":
            if answer is None:
                await self.app(scope, receive, send)
            else:
                await _close(receive, send)
            return
        send = _guarded(scope["path"], send)
        body = b"" if answer else await _take(receive, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        if body is None:
            return  # the caller has gone
        if isinstance(body, Refusal):
            answer = body
        if answer is not None:
            await _answer(answer, send)
            return
        assert isinstance(body, bytes)  # noqa: S101 - narrows the type
        await self.app(_measured(scope, len(body)), _replay(body, receive), send)


def judge(scope: Mapping[str, Any]) -> Refusal | Redirect | None:
    """Say what is wrong with a request as far as its headers tell; None lets it through."""
    headers = _headers(scope)
    served = _served(scope, headers)
    if isinstance(served, Refusal):
        return served
    is_socket = scope["type"] == "websocket"
    if is_socket or scope["method"] not in SAFE_METHODS:
        return _judge_sender(headers, served, is_socket) or _judge_length(headers)
    if served.host in OTHER_NAMES and not _is_below(scope["path"], ANY_NAME):
        port = "" if served.port == DEFAULT_PORTS[served.scheme] else f":{served.port}"
        return Redirect(f"{served.scheme}://{HOME}{port}{_target(scope)}")
    return _judge_length(headers)


def _headers(scope: Mapping[str, Any]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _served(scope: Mapping[str, Any], headers: Mapping[str, list[str]]) -> Served | Refusal:
    """Return under which name we were called; a foreign one may be a page that rebinds its own."""
    given = headers.get("host", [])
    found = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
    if found is None:
        return Refusal(400, "Send one Host header, such as “Host: localhost:8000”.")
    host, port = found.groups()
    if not validate_host(host, settings.ALLOWED_HOSTS):
        known = ", ".join(settings.ALLOWED_HOSTS)
        return Refusal(400, f"This server does not go by the name in the Host header; use {known}.")
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme") or "", scope.get("scheme"))
    scheme = scheme if scheme in DEFAULT_PORTS else "http"
    return Served(scheme, host, port or DEFAULT_PORTS[scheme])


def _judge_sender(
    headers: Mapping[str, list[str]], served: Served, is_socket: bool
) -> Refusal | None:
    """Refuse what a page of another origin sends; programs send neither of these headers."""
    origins = headers.get("origin", [])
    if not origins and is_socket:
        return Refusal(403, "A WebSocket needs an Origin header with the address of this server.")
    if origins and [_normal(origin) for origin in origins] != [served.origin]:
        return Refusal(
            403, f"Pages of another origin may not do this; it is open to {served.origin} alone."
        )
    if {"cross-site", "same-site"} & set(headers.get("sec-fetch-site", [])):
        return Refusal(403, "A browser sent this for a page of another site, which is not allowed.")
    return None


def _judge_length(headers: Mapping[str, list[str]]) -> Refusal | None:
    given = headers.get("content-length", [])
    if not given:
        return None
    if len(given) > 1 or not (given[0].isascii() and given[0].isdigit()):
        return Refusal(400, "Send one Content-Length header with a whole number.")
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    too_long = len(given[0]) > 18 or int(given[0]) > limit
    return _too_large(limit) if too_long else None


def _normal(origin: str) -> str | None:
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        return None
    scheme, host, port = found.groups()
    return f"{scheme}://{host}:{port or DEFAULT_PORTS[scheme]}"


def _is_below(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def _target(scope: Mapping[str, Any]) -> str:
    query = quote(scope.get("query_string", b""), safe="/?:@!$&'()*+,;=%~-._")
    return quote(scope["path"]) + (f"?{query}" if query else "")


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"The body is larger than {limit} bytes, the most that is taken.")


async def _take(receive: ASGIReceiveCallable, limit: int) -> bytes | Refusal | None:
    """Return the body, counted while it comes; None if the caller went away before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
        if len(body) > limit:
            return _too_large(limit)
        if not message.get("more_body"):
            return bytes(body)


def _measured(scope: Any, size_bytes: int) -> Any:
    """Return the scope with the true length, which a chunked request doesn't tell by itself."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name.lower() not in {b"content-length", b"transfer-encoding"}
    ]
    return {**scope, "headers": [*headers, (b"content-length", str(size_bytes).encode())]}


def _replay(body: bytes, receive: ASGIReceiveCallable) -> ASGIReceiveCallable:
    waiting: list[ASGIReceiveEvent] = [{"type": "http.request", "body": body, "more_body": False}]

    async def following() -> ASGIReceiveEvent:
        return waiting.pop() if waiting else await receive()

    return following


def _guarded(path: str, send: ASGISendCallable) -> ASGISendCallable:
    """Return a `send` that adds the security headers which the application left out."""

    async def guarded(message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            wanted = dict(HEADERS)
            if _is_below(path, ("/api", "/health")):
                wanted[b"cache-control"] = b"no-store"
            added = [(name, value) for name, value in wanted.items() if name not in given]
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return guarded


async def _answer(answer: Refusal | Redirect, send: Any) -> None:
    if isinstance(answer, Redirect):
        status, body = 307, b""
        headers = [(b"location", answer.location.encode("ascii"))]
    else:
        status, body = answer.status, problem_bytes(answer.status, answer.detail)
        headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _close(receive: ASGIReceiveCallable, send: Any) -> None:
    """End a socket before it is accepted; the browser sees 403."""
    await receive()
    await send({"type": "websocket.close", "code": 4403})


def problem_bytes(status: int, detail: str) -> bytes:
    """Return an error in the shape that the API gives its own."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return json.dumps(body, ensure_ascii=False).encode()
