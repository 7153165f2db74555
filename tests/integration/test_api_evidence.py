"""Logs, diffs and evidence over HTTP: the right bytes, and never a file from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.utils import timezone

from tasks.api.evidence import EvidenceResponse, File, Window
from tasks.models import Artifact, PhaseRun, Task

pytestmark = pytest.mark.django_db
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


@pytest.fixture
def task(submit: Callable[..., Task]) -> Task:
    """Return a task with a folder of its own."""
    made = submit()
    made.folder.mkdir(parents=True)
    return made


def add_run(task: Task, number: int, log: bytes | None) -> PhaseRun:
    now = timezone.now()
    run = PhaseRun.objects.create(
        task=task,
        number=number,
        phase="CODE_IMPLEMENTATION",
        worker="w",
        fence=1,
        started_at=now,
        finished_at=now,
        verdict="passed",
    )
    if log is not None:
        run.folder.mkdir()
        run.log_path.write_bytes(log)
    return run


def add_artifact(task: Task, path: str, data: bytes | None, kind: str = "log") -> str:
    run = task.phase_runs.first() or add_run(task, 1, None)
    if data is not None:
        file = task.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    size_bytes = len(data or b"")
    made = Artifact.objects.create(
        task=task, phase_run=run, kind=kind, path=path, sha256="0" * 64, size_bytes=size_bytes
    )
    return f"/api/tasks/{task.task_id}/artifacts/{made.pk}"


def content(response: Any) -> bytes:
    return b"".join(response.streaming_content)


def assert_harmless(response: Any) -> None:
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "sandbox; default-src 'none'"


def test_the_log_holds_every_run_in_order_under_its_heading(client: Client, task: Task) -> None:
    add_run(task, 1, b"first\n")
    add_run(task, 2, None)
    add_run(task, 3, b"third\xff\x1b[31m\n")
    response = client.get(f"/api/tasks/{task.task_id}/log")
    assert content(response) == (
        b"==> run 1: CODE_IMPLEMENTATION\nfirst\n"
        b"\n==> run 2: CODE_IMPLEMENTATION\n"
        b"\n==> run 3: CODE_IMPLEMENTATION\nthird\xff\x1b[31m\n"
    )
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert_harmless(response)


def test_one_run_can_be_asked_for_alone(client: Client, task: Task) -> None:
    add_run(task, 1, b"first\n")
    add_run(task, 2, b"second\n")
    path = f"/api/tasks/{task.task_id}/log"
    assert content(client.get(f"{path}?run=2")) == b"second\n"
    assert client.get(f"{path}?run=3").status_code == 404
    assert client.get(f"{path}?run=x").status_code == 400
    assert client.get(f"{path}?run={'9' * 40}").status_code == 400


def test_a_reader_follows_the_log_by_its_offset(client: Client, task: Task) -> None:
    run = add_run(task, 1, b"one\n")
    path = f"/api/tasks/{task.task_id}/log"
    first = client.get(f"{path}?offset=0")
    seen = content(first)
    with run.log_path.open("ab") as log:
        log.write(b"two\n")
    second = client.get(f"{path}?offset={first['X-Next-Offset']}")
    seen += content(second)
    add_run(task, 2, b"three\n")
    third = client.get(f"{path}?offset={second['X-Next-Offset']}")
    seen += content(third)
    assert seen == content(client.get(path))
    assert content(client.get(f"{path}?offset={third['X-Next-Offset']}")) == b""
    for wrong in ("99999", "-1", "x", ""):
        assert client.get(f"{path}?offset={wrong}").status_code == 400


def test_one_answer_to_a_follower_is_bounded(client: Client, task: Task) -> None:
    add_run(task, 1, b"x" * 3_000_000)
    response = client.get(f"/api/tasks/{task.task_id}/log?offset=10")
    assert len(content(response)) == 1024 * 1024
    assert response["X-Next-Offset"] == str(10 + 1024 * 1024)


@pytest.mark.parametrize(
    ("asked", "status", "got", "place"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
    ],
)
def test_a_range_gives_its_bytes(
    client: Client, task: Task, asked: str, status: int, got: bytes, place: str | None
) -> None:
    add_run(task, 1, b"0123456789")
    response = client.get(f"/api/tasks/{task.task_id}/log?run=1", headers={"Range": asked})
    assert response.status_code == status
    assert content(response) == got
    assert response["Content-Length"] == str(len(got))
    assert response.get("Content-Range") == place


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=11-20", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(client: Client, task: Task, asked: str) -> None:
    add_run(task, 1, b"0123456789")
    response = client.get(f"/api/tasks/{task.task_id}/log?run=1", headers={"Range": asked})
    assert response.status_code == 416
    assert response["Content-Range"] == "bytes */10"
    assert response["Content-Type"] == "application/problem+json"


def test_a_range_reaches_across_runs(client: Client, task: Task) -> None:
    add_run(task, 1, b"first\n")
    add_run(task, 2, b"second\n")
    path = f"/api/tasks/{task.task_id}/log"
    whole = content(client.get(path))
    for start, end in [(0, 5), (30, 45), (20, 80), (37, len(whole) - 1)]:
        part = client.get(path, headers={"Range": f"bytes={start}-{end}"})
        assert content(part) == whole[start : end + 1]


def test_the_evidence_is_listed_with_where_to_fetch_it(client: Client, task: Task) -> None:
    add_artifact(task, "001-x/report.xml", b"<x/>", "report")
    listed = client.get(f"/api/tasks/{task.task_id}/artifacts").json()["artifacts"]
    assert [(each["kind"], each["path"], each["run"]) for each in listed] == [
        ("report", "001-x/report.xml", 1)
    ]
    assert content(client.get(listed[0]["url"])) == b"<x/>"


def test_evidence_is_a_download_even_if_it_is_a_page(client: Client, task: Task) -> None:
    url = add_artifact(task, "001-x/re port\n.html", b"<script>alert(1)</script>", "report")
    for query in ("", "?inline=1"):
        response = client.get(url + query)
        assert response["Content-Disposition"] == 'attachment; filename="re_port_.html"'
        assert response["Content-Type"] == "application/octet-stream"
        assert_harmless(response)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("a.png", "image/png"), ("a.JPG", "image/jpeg"), ("a.webm", "video/webm")],
)
def test_pictures_and_videos_are_shown_in_place_when_asked(
    client: Client, task: Task, name: str, content_type: str
) -> None:
    url = add_artifact(task, name, PNG, "screenshot")
    shown = client.get(f"{url}?inline=1", headers={"Accept": "image/avif,image/webp"})
    assert shown["Content-Type"] == content_type
    assert "Content-Disposition" not in shown
    assert content(shown) == PNG
    if content_type == "video/webm":
        # Its player needs an origin; it gets no script, no frame, and nothing from elsewhere.
        assert shown["X-Content-Type-Options"] == "nosniff"
        assert shown["Content-Security-Policy"] == (
            "sandbox allow-same-origin; default-src 'none'; media-src 'self'; "
            "style-src 'unsafe-inline'"
        )
    else:
        assert_harmless(shown)
    assert client.get(url)["Content-Disposition"].startswith("attachment")


def test_a_picture_that_can_hold_scripts_is_not_shown_in_place(client: Client, task: Task) -> None:
    url = add_artifact(task, "a.svg", b"<svg/>", "screenshot")
    assert client.get(f"{url}?inline=1")["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "path",
    [
        *("../secret", "/etc/passwd", "a/../../secret", "", ".", "a//b", "link", "dir/secret"),
        pytest.param("a\0b", marks=pytest.mark.only_on("sqlite", "PostgreSQL keeps no NUL")),
    ],
)
def test_a_path_that_leads_out_of_the_folder_is_not_followed(
    client: Client, task: Task, tmp_path: Path, path: str
) -> None:
    (task.folder.parent / "secret").write_text("secret")
    (tmp_path / "secret").write_text("secret")
    (task.folder / "link").symlink_to(tmp_path / "secret")
    (task.folder / "dir").symlink_to(tmp_path)
    response = client.get(add_artifact(task, path, None))
    assert response.status_code == 404
    assert b"secret" not in response.content


def test_what_is_no_plain_file_is_refused_at_once(client: Client, task: Task) -> None:
    os.mkfifo(task.folder / "pipe")
    (task.folder / "folder").mkdir()
    for path in ("pipe", "folder"):
        assert client.get(add_artifact(task, path, None)).status_code == 404


def test_a_log_that_is_a_link_is_not_followed(client: Client, task: Task, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    run = add_run(task, 1, None)
    run.folder.mkdir()
    run.log_path.symlink_to(tmp_path / "secret")
    assert content(client.get(f"/api/tasks/{task.task_id}/log?run=1")) == b""


def test_evidence_of_another_task_is_not_given_under_this_one(
    client: Client, task: Task, submit: Callable[..., Task]
) -> None:
    url = add_artifact(task, "a.txt", b"mine")
    foreign = url.replace(task.task_id, submit().task_id)
    assert client.get(foreign).status_code == 404


def test_the_newest_diff_is_shown_as_text(client: Client, task: Task) -> None:
    path = f"/api/tasks/{task.task_id}/diff"
    assert client.get(path).status_code == 404
    add_artifact(task, "1.diff", b"-old\n", "diff")
    add_artifact(task, "2.diff", b"+new\n", "diff")
    add_artifact(task, "3.log", b"log\n", "log")
    response = client.get(path, headers={"Accept": "text/plain"})
    assert content(response) == b"+new\n"
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert_harmless(response)


def test_under_asgi_a_large_file_is_read_in_small_blocks(task: Task) -> None:
    (task.folder / "large").write_bytes(b"x" * 1_000_000)
    file = File.find(task.folder, "large")

    async def collect() -> list[int]:
        response = EvidenceResponse([file], Window(5, 1_000_000), "video/webm")
        return [len(block) async for block in response]

    sizes = async_to_sync(collect)()
    assert sum(sizes) == 999_995
    assert max(sizes) == 64 * 1024
