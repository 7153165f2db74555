"""Whatever is sent, the answer says what is wrong, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.api.problems import PROBLEM_JSON
from tasks.models import Event, Project, Task

pytestmark = pytest.mark.django_db

GOOD = {"feature": "Add dark mode", "target_url": "https://shop.example/"}


def send(client: Client, body: bytes | str, content_type: str = "application/json") -> Any:
    return client.generic("POST", "/api/tasks", body, content_type=content_type)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


FIELDS: list[tuple[dict[str, Any], str]] = [
    (without("feature"), "feature"),
    ({**GOOD, "feature": ""}, "feature"),
    ({**GOOD, "feature": " \n\t\u2003"}, "feature"),
    ({**GOOD, "feature": None}, "feature"),
    ({**GOOD, "feature": 5}, "feature"),
    ({**GOOD, "feature": ["a"]}, "feature"),
    ({**GOOD, "feature": "x" * 10_001}, "feature"),
    (without("target_url"), "target_url"),
    *(
        ({**GOOD, "target_url": url}, "target_url")
        for url in [
            "", "app.dev", "ftp://app.dev/", "javascript:alert(1)", "file:///etc/passwd",
            "https://", "https:///x", "http://:80/", "https://user@app.dev/",
            "https://user:secret@app.dev/", "https://@app.dev/", "https://app.dev/a\nb",
            "\thttps://app.dev/", "https://app.dev/\x7f", "https://app.dev:99999/",
            "https://app.dev:0/", "https://app.dev:x/", "https://[::1/", "https://app dev/",
            "https://app.dev\\@evil.example/", "https://a..b/", "https://app.dev/\u202e",
            "https://app.dev/" + "a" * 2000,
        ]
    ),
    ({**GOOD, "staging_url": "ftp://x/"}, "staging_url"),
    ({**GOOD, "staging_url": "https://u:p@x/"}, "staging_url"),
    ({**GOOD, "staging_url": 5}, "staging_url"),
    *(
        ({**GOOD, "priority": value}, "priority")
        for value in [0, 11, -1, 10**50, 5.0, 5.5, True, False, "5", "", [], {}]
    ),
    ({**GOOD, "project": 5}, "project"),
    ({**GOOD, "status": "completed"}, "status"),
    ({**GOOD, "task_id": "chimera-1"}, "task_id"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "field"), FIELDS)
def test_a_field_that_does_not_fit_is_named(
    client: Client, project: Project, body: dict[str, Any], field: str
) -> None:
    response = send(client, json.dumps(body))
    problem = response.json()
    assert response.status_code == 400
    assert response["Content-Type"] == PROBLEM_JSON
    assert [entry["field"] for entry in problem["errors"]] == [field]
    assert problem["detail"].startswith(f"{field}: ")
    assert not Task.objects.exists()
    assert not Event.objects.exists()


def test_all_errors_are_told_at_once(client: Client, project: Project) -> None:
    response = send(client, json.dumps({"feature": "", "priority": 99, "colour": "red"}))
    fields = {entry["field"] for entry in response.json()["errors"]}
    assert fields == {"feature", "target_url", "priority", "colour"}


def test_the_largest_values_that_fit_are_taken(client: Client, project: Project) -> None:
    url = "https://shop.example/"
    body = {"feature": "🌙" * 10_000, "target_url": url + "a" * (2000 - len(url)), "priority": 10}
    assert send(client, json.dumps(body)).status_code == 201


RAW: list[tuple[str, bytes, int]] = [
    ("nothing", b"", 400),
    ("half", b'{"feature": "a"', 400),
    ("words", b"dark mode please", 400),
    ("no UTF-8", b'{"feature": "\xff"}', 400),
    ("UTF-16", json.dumps(GOOD).encode("utf-16"), 400),
    ("a list", b"[]", 400),
    ("a string", b'"dark mode"', 400),
    ("null", b"null", 400),
    ("a number", b"5", 400),
    ("deep lists", b"[" * 100_000, 400),
    ("deep objects", b'{"a":' * 40_000, 400),
    ("deep but closed", b'{"feature":' + b"[" * 33 + b"]" * 33 + b"}", 400),
    ("quotes without end", b'"' + b'\\"' * 100_000, 400),
    ("NaN", b'{"feature": "a", "priority": NaN}', 400),
    ("Infinity", b'{"feature": "a", "priority": -Infinity}', 400),
    ("1e999", b'{"feature": "a", "priority": 1e999}', 400),
    ("5000 digits", b'{"feature": "a", "priority": ' + b"9" * 5000 + b"}", 400),
    ("key twice", b'{"feature": "a", "feature": "b", "target_url": "https://shop.example/"}', 400),
    ("NUL", json.dumps({**GOOD, "feature": "a\0b"}).encode(), 400),
    ("NUL nested", json.dumps({**GOOD, "x": {"y": [{"z": "\0"}]}}).encode(), 400),
    ("NUL in a key", json.dumps({**GOOD, "x": {"\0": 1}}).encode(), 400),
    ("surrogate", json.dumps({**GOOD, "feature": "a\ud800b"}).encode(), 400),
    ("surrogate nested", json.dumps({**GOOD, "x": [["\udfff"]]}).encode(), 400),
    ("surrogate in a key", json.dumps({**GOOD, "\ud800": 1}).encode(), 400),
    ("too large", b'{"feature": "' + b"a" * 300_000 + b'"}', 413),
]


@pytest.mark.parametrize(("name", "body", "status"), RAW, ids=[entry[0] for entry in RAW])
def test_a_body_that_is_not_plain_json_is_refused(
    client: Client, project: Project, name: str, body: bytes, status: int
) -> None:
    response = send(client, body)
    assert response.status_code == status
    assert response["Content-Type"] == PROBLEM_JSON
    assert response.json()["detail"]
    assert not Task.objects.exists()


def test_a_nul_and_a_deep_body_are_said_to_be_just_that(client: Client, project: Project) -> None:
    assert "NUL" in send(client, json.dumps({**GOOD, "feature": "\0"})).json()["detail"]
    assert "surrogate" in send(client, json.dumps({**GOOD, "x": "\ud800"})).json()["detail"]
    assert "32" in send(client, b"[" * 100_000).json()["detail"]
    assert send(client, b"[]").json()["detail"] == "body: must be a JSON object."
    assert send(client, b"null").json()["detail"] == "body: must be a JSON object."
    assert "line 1, column 2" in send(client, b"{x}").json()["detail"]


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""],
)
def test_only_json_is_taken(client: Client, project: Project, content_type: str) -> None:
    response = send(client, json.dumps(GOOD), content_type)
    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]
    assert not Task.objects.exists()


def test_text_in_brackets_and_quotes_is_no_depth(client: Client, project: Project) -> None:
    feature = "[" * 100 + '\\"{{{' + "]" * 50
    assert send(client, json.dumps({**GOOD, "feature": feature})).status_code == 201


@pytest.mark.parametrize(
    "path",
    [
        "/api/tasks/chimera-none",
        "/api/tasks/..",
        "/api/tasks/%00",
        "/api/tasks/CHIMERA-X/phases",
        "/api/tasks/chimera-none/log",
        "/api/tasks/chimera-none/artifacts/1",
        "/api/nothing/here",
        "/api",
        "/api/",
    ],
)
def test_what_is_not_there_is_404_in_json(client: Client, db: None, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response["Content-Type"] == PROBLEM_JSON


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE"])
def test_a_method_that_is_not_possible_is_405_in_json(
    client: Client, project: Project, method: str
) -> None:
    response = client.generic(method, "/api/tasks")
    assert response.status_code == 405
    assert response["Content-Type"] == PROBLEM_JSON
    assert "POST" in response["Allow"]


def test_head_and_options_answer(client: Client, project: Project) -> None:
    assert client.head("/api/tasks").status_code == 200
    assert client.options("/api/tasks").status_code == 200


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["feature", "target_url", "staging_url", "priority", "project", "x"])
URLS = st.sampled_from(["https://shop.example/", "http://", "https://shop.example:1"])
REQUESTS = st.dictionaries(NAMES, VALUES | URLS | st.integers(0, 11), max_size=6)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=VALUES | REQUESTS | REQUESTS.map(lambda fields: {**GOOD, **fields}))
def test_no_body_breaks_the_api_or_its_list(client: Client, project: Project, body: Any) -> None:
    response = send(client, json.dumps(body))
    assert response.status_code in {201, 400, 422}
    assert client.get("/api/tasks").status_code == 200


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=200))
def test_no_bytes_break_the_api(client: Client, project: Project, body: bytes) -> None:
    assert send(client, body).status_code == 400
