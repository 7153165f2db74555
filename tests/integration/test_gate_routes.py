"""A walk over every address of the site, whoever added it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from chimera_site.gate import Refusal, judge
from tasks.models import Task

# Kept by Django itself for every visitor; no page of ours writes them.
VISITOR_TABLES = {"django_session"}


def patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Yield every pattern with the whole text that leads to it."""
    for entry in resolver.url_patterns:
        text = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry, text)
        else:
            yield text, entry


def address(text: str, task: Task) -> str:
    """Return an address that a pattern matches."""
    text = re.sub(r"\(\?P<task_id>[^)]*\)", task.task_id, text)
    text = re.sub(r"\(\?P<\w+>[^)]*\)", "1", text)
    text = re.sub(r"<(?:\w+:)?task_id>", task.task_id, text)
    text = re.sub(r"<[^>]+>", "1", text)
    text = re.sub(r"\(\?:/\.\*\)\?", "/none", text)
    return "/" + re.sub(r"[\^$?]|\\Z", "", text)


def contents() -> dict[str, list[Any]]:
    return {
        model._meta.db_table: list(model._default_manager.order_by("pk").values())
        for model in apps.get_models(include_auto_created=True)
        if model._meta.db_table not in VISITOR_TABLES
    }


@pytest.fixture
def task(submit: Callable[..., Task]) -> Task:
    """Return a task with a try, so that its pages have something to show."""
    made = submit()
    lease = Task.objects.claim("host:1:1", timezone.now())
    assert lease is not None
    Task.objects.open_run(lease, timezone.now())
    return made


@pytest.mark.django_db
def test_no_address_changes_anything_when_it_is_only_looked_at(task: Task) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("root", password="x"))
    before = contents()
    visited = []
    for text, _ in patterns(get_resolver()):
        path = address(text, task)
        if "logout" in path:
            continue
        visited.append(path)
        for method in ("GET", "HEAD", "OPTIONS"):
            response = client.generic(method, path)
            assert response.status_code < 500 or path.startswith("/health"), (method, path)
            if response.streaming:
                b"".join(response.streaming_content)
        assert contents() == before, path
    assert f"/api/tasks/{task.task_id}/cancel/" in visited
    assert "/admin/tasks/task/" in visited
    assert len(visited) > 40


INLINE = re.compile(rb"<script(?![^>]*\bsrc=)(?![^>]*application/json)|\son\w+=[\"\']|javascript:")


@pytest.mark.django_db
def test_no_page_needs_a_script_of_its_own_text(task: Task) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="x"))
    pages = 0
    for text, _ in patterns(get_resolver()):
        path = address(text, task)
        if "logout" in path:
            continue
        response = client.get(path, headers={"Accept": "text/html"})
        if response.streaming or not response["Content-Type"].startswith("text/html"):
            continue
        assert INLINE.search(response.content) is None, path
        pages += 1
    assert pages > 30


@pytest.mark.django_db
def test_no_address_answers_under_a_foreign_name(task: Task) -> None:
    for text, _ in patterns(get_resolver()):
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            scope = {
                "type": "http",
                "method": method,
                "path": address(text, task),
                "headers": [(b"host", b"evil.example:8000")],
            }
            answer = judge(scope)
            assert isinstance(answer, Refusal)
            assert answer.status == 400
