"""The gate: who may speak to the server, under which name, from which page, and how much."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from hypothesis import given
from hypothesis import strategies as st

from chimera_site.gate import Gate, Redirect, Refusal, judge

LIMIT = 256 * 1024


class Echo:
    """An application that answers with the body that it got, and remembers its scopes."""

    def __init__(self, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.scopes: list[Any] = []
        self.headers = headers or []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": message["body"]})


def scope_of(method: str = "GET", path: str = "/api/tasks", **headers: str) -> dict[str, Any]:
    given = {"host": "localhost:8000", **{k.replace("_", "-"): v for k, v in headers.items()}}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [pair for pair in pairs if pair[1]],
    }


def socket_of(**headers: str) -> dict[str, Any]:
    scope = scope_of("", "/ws/feed/", **headers)
    return {**scope, "type": "websocket"}


async def _ask(
    gate: Gate, scope: dict[str, Any], *chunks: bytes
) -> tuple[int, dict[str, str], bytes]:
    communicator = ApplicationCommunicator(gate, scope)
    for position, chunk in enumerate(chunks or (b"",)):
        more = position < len(chunks) - 1
        await communicator.send_input({"type": "http.request", "body": chunk, "more_body": more})
    start = await communicator.receive_output(5)
    body = await communicator.receive_output(5)
    await communicator.wait(5)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, body["body"]


def ask(
    scope: dict[str, Any], *chunks: bytes, app: Any = None
) -> tuple[int, dict[str, str], bytes]:
    return asyncio.run(_ask(Gate(app or Echo()), scope, *chunks))


def status_of(scope: dict[str, Any]) -> int:
    answer = judge(scope)
    return answer.status if isinstance(answer, Refusal) else 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "chimera-x.localhost", "127.0.0.2", "0.0.0.0",
        "localhost:", "localhost:x", "localhost:123456", "local host", "user@localhost", "[::1",
        "localhost/", "localhost,evil.example", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/api/tasks", "/health", "/static/x.css", "/admin/"])
def test_a_foreign_host_is_refused_everywhere(host: str, path: str) -> None:
    status, headers, body = ask(scope_of(path=path, host=host))
    assert status == 400
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["status"] == 400


def test_two_hosts_are_refused() -> None:
    scope = scope_of()
    scope["headers"].append((b"host", b"localhost:8000"))
    assert status_of(scope) == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"])
@pytest.mark.parametrize("path", ["/api/tasks", "/api", "/health", "/health/", "/static/x.css"])
def test_api_health_and_static_files_answer_on_every_name_of_this_machine(
    host: str, path: str
) -> None:
    assert judge(scope_of(path=path, host=host)) is None


@pytest.mark.parametrize(
    ("host", "path", "location"),
    [
        ("127.0.0.1:8000", "/", "http://localhost:8000/"),
        ("[::1]:8000", "/tasks/chimera-1/", "http://localhost:8000/tasks/chimera-1/"),
        ("127.0.0.1", "/admin/", "http://localhost/admin/"),
        ("127.0.0.1:8000", "//evil.example/", "http://localhost:8000//evil.example/"),
        ("127.0.0.1:8000", "/a b\r\nX: é", "http://localhost:8000/a%20b%0D%0AX%3A%20%C3%A9"),
        ("127.0.0.1:8000", "/apiary", "http://localhost:8000/apiary"),
    ],
)
def test_pages_are_moved_to_the_one_name_that_no_staged_site_shares(
    host: str, path: str, location: str
) -> None:
    assert judge(scope_of(path=path, host=host)) == Redirect(location)
    status, headers, _ = ask(scope_of(path=path, host=host))
    assert (status, headers["location"]) == (307, location)


def test_a_moved_page_keeps_its_query() -> None:
    scope = scope_of(path="/", host="127.0.0.1:8000")
    scope["query_string"] = b"status=failed&x=%0d\r\n"
    assert judge(scope) == Redirect("http://localhost:8000/?status=failed&x=%0d%0D%0A")


FOREIGN = [
    "null", "http://evil.example", "http://localhost:9999", "http://localhost",
    "https://localhost:8000", "http://127.0.0.1:8000", "http://chimera-x.localhost:8000",
    "http://localhost:8000/", "http://localhost:8000 ", "http://user@localhost:8000",
    "ftp://localhost:8000", "localhost:8000",
]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post", "MKCOL"])
def test_a_page_of_another_origin_can_change_nothing(origin: str, method: str) -> None:
    status, headers, _ = ask(scope_of(method, origin=origin))
    assert status == 403
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_gets_no_socket(origin: str) -> None:
    assert status_of(socket_of(origin=origin)) == 403


def test_two_origins_are_refused() -> None:
    scope = scope_of("POST", origin="http://localhost:8000")
    scope["headers"].append((b"origin", b"http://localhost:8000"))
    assert status_of(scope) == 403


@pytest.mark.parametrize(
    ("host", "origin", "scheme"),
    [
        ("localhost:8000", "http://localhost:8000", "http"),
        ("localhost", "http://localhost", "http"),
        ("localhost:80", "http://localhost", "http"),
        ("localhost", "https://localhost", "https"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", "http"),
        ("[::1]:8000", "http://[::1]:8000", "http"),
    ],
)
def test_a_page_of_this_server_may_change_and_listen(host: str, origin: str, scheme: str) -> None:
    assert judge({**scope_of("POST", host=host, origin=origin), "scheme": scheme}) is None
    sockets = {"http": "ws", "https": "wss"}
    assert judge({**socket_of(host=host, origin=origin), "scheme": sockets[scheme]}) is None


def test_a_program_sends_no_origin_and_may_change_but_gets_no_socket() -> None:
    assert judge(scope_of("POST")) is None
    assert status_of(socket_of()) == 403


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)],
)
def test_what_a_browser_sends_for_another_site_is_refused(site: str, status: int) -> None:
    assert status_of(scope_of("POST", sec_fetch_site=site)) == status


def test_a_refused_socket_is_closed_before_it_is_accepted() -> None:
    async def connect(scope: dict[str, Any], app: Echo) -> Any:
        communicator = ApplicationCommunicator(Gate(app), scope)
        await communicator.send_input({"type": "websocket.connect"})
        return await communicator.receive_output(5)

    app = Echo()
    refused = asyncio.run(connect(socket_of(origin="http://evil.example"), app))
    assert refused["type"] == "websocket.close"
    assert app.scopes == []
    allowed = asyncio.run(connect(socket_of(origin="http://localhost:8000"), app))
    assert allowed["type"] == "websocket.accept"


def test_an_announced_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    async def announce(app: Echo) -> Any:
        scope = scope_of("POST", content_length=str(LIMIT + 1))
        communicator = ApplicationCommunicator(Gate(app), scope)
        return await communicator.receive_output(5)  # with nothing sent

    app = Echo()
    assert asyncio.run(announce(app))["status"] == 413
    assert app.scopes == []


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (str(LIMIT), 200),
        (str(LIMIT + 1), 413),
        ("9" * 5000, 413),
        ("-1", 400),
        ("x", 400),
        ("²", 400),
    ],
)
def test_the_announced_length_is_a_number_within_the_limit(length: str, status: int) -> None:
    assert status_of(scope_of("POST", content_length=length)) == status


def test_a_body_without_a_length_is_counted_while_it_comes() -> None:
    chunk = b"x" * 65_536
    app = Echo()
    scope = scope_of("POST", transfer_encoding="chunked")
    status, _, body = ask(scope, *[chunk] * 5, app=app)
    assert status == 413
    assert json.loads(body)["title"] == "Request Entity Too Large"
    assert app.scopes == []


def test_a_chunked_body_within_the_limit_reaches_the_application_with_its_length() -> None:
    app = Echo()
    scope = scope_of("POST", transfer_encoding="chunked")
    status, _, body = ask(scope, b"a" * 10, b"b" * 10, app=app)
    assert (status, body) == (200, b"a" * 10 + b"b" * 10)
    headers = dict(app.scopes[0]["headers"])
    assert headers[b"content-length"] == b"20"
    assert b"transfer-encoding" not in headers


def test_a_caller_who_leaves_in_the_middle_reaches_no_application() -> None:
    async def leave(app: Echo) -> bool:
        communicator = ApplicationCommunicator(Gate(app), scope_of("POST"))
        await communicator.send_input({"type": "http.request", "body": b"x", "more_body": True})
        await communicator.send_input({"type": "http.disconnect"})
        await communicator.wait(5)
        return await communicator.receive_nothing()

    app = Echo()
    assert asyncio.run(leave(app))
    assert app.scopes == []


def test_every_answer_carries_the_security_headers() -> None:
    for scope in (scope_of(), scope_of(host="evil.example"), scope_of(path="/", host="127.0.0.1")):
        _, headers, _ = ask(scope)
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_policy_that_the_application_set_stays() -> None:
    app = Echo([(b"Content-Security-Policy", b"sandbox")])
    _, headers, _ = ask(scope_of(), app=app)
    assert headers["Content-Security-Policy"] == "sandbox"
    assert "content-security-policy" not in headers


@pytest.mark.parametrize(("path", "kept"), [("/api/tasks", False), ("/health", False), ("/", True)])
def test_answers_of_the_api_are_kept_by_no_cache(path: str, kept: bool) -> None:
    _, headers, _ = ask(scope_of(path=path))
    assert ("cache-control" not in headers) is kept


@given(
    host=st.text(max_size=30),
    origin=st.text(max_size=40),
    length=st.text(max_size=8),
    path=st.text(),
)
def test_no_header_breaks_the_gate(host: str, origin: str, length: str, path: str) -> None:
    scope = scope_of("POST")
    named = {b"host": host, b"origin": origin, b"content-length": length}
    scope["headers"] = [(name, value.encode("utf-8", "replace")) for name, value in named.items()]
    scope["path"] = path
    assert isinstance(judge(scope), Refusal)
