"""The pages as a browser without scripts gets them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks.lifecycle import Phase, Status, Verdict
from tasks.models import Breaker, Event, Project, Task
from tasks.outcome import Finding, Outcome
from tests.integration import dashboard_rows as rows

HOSTILE = "</script><script>alert('x')</script>\x1b[31mred\x1b[0m \u202egnp.exe"
SHOWN = "&lt;/script&gt;&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;red [U+202E]gnp.exe"
INLINE = re.compile(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:|https?://(?!\w)")


@pytest.fixture
def remote(client: Client) -> Client:
    """Return a client on another machine."""
    client.defaults["REMOTE_ADDR"] = "203.0.113.9"
    return client


def page_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def proofs_on(page: str) -> tuple[str, str]:
    """Return the parts of a task's page that show red and green."""
    _, red, green = re.split(r'<figure id="proof-', page)
    return red, green.partition("</figure>")[0]


def task_url(task: Task) -> str:
    return f"/tasks/{task.task_id}/"


def queries(client: Client, url: str) -> int:
    client.get(url)  # the first visit makes the session
    with CaptureQueriesContext(
        connection,
    ) as caught:
        assert client.get(url).status_code == 200
    return len(caught)


def test_an_empty_factory_shows_a_command_that_works(client: Client, project: Project) -> None:
    page = page_of(client, "/")
    assert "curl -X POST http://testserver/api/tasks" in page
    assert "No worker is alive" in page


def test_the_list_shows_each_task_newest_first(client: Client, project: Project) -> None:
    rows.a_failed_task(project)
    rows.a_completed_task(project)
    running = rows.a_running_task(project)
    page = page_of(client, "/")
    shown = [page.index(words) for words in ("by author", "dark mode toggle</bdi>", "stock level")]
    assert shown == sorted(shown)
    for words in ("3/7 phases complete", "7/7 phases complete", "priority 6", running.task_id):
        assert words in page
    assert "1 busy of 5 slots" in page
    assert page.count('class="mark ') == 3 * 7


def test_the_list_filters_by_status(client: Client, project: Project) -> None:
    failed = rows.a_failed_task(project)
    queued = Task.submit(project, "Wait", project.target_url)
    page = page_of(client, "/?status=failed")
    assert failed.task_id in page
    assert queued.task_id not in page
    assert "No task is completed" in page_of(client, "/?status=completed")


def test_a_status_or_page_that_does_not_exist_shows_the_nearest(
    client: Client, submit: Callable[..., Task]
) -> None:
    task = submit()
    for query in ("status=%3Cscript%3E", "page=0", "page=99999", "page=x", f"page={'9' * 5000}"):
        assert task.task_id in page_of(client, f"/?{query}")


def test_the_list_is_paged(client: Client, submit: Callable[..., Task]) -> None:
    tasks = [submit(f"Feature {number}") for number in range(30)]
    first, second = page_of(client, "/"), page_of(client, "/?page=2")
    assert tasks[-1].task_id in first
    assert tasks[0].task_id not in first
    assert tasks[0].task_id in second
    assert "Page 1 of 2" in first


def test_queries_of_the_list_do_not_grow(client: Client, project: Project) -> None:
    rows.a_running_task(project)
    few = queries(client, "/")
    for number in range(6):
        rows.a_completed_task(project, f"Feature {number}")
        rows.worker(5000 + number)
    assert queries(client, "/") == few
    assert few <= 10


def test_queries_of_a_task_do_not_grow(client: Client, project: Project) -> None:
    short = queries(client, task_url(rows.a_failed_task(project)))
    long = queries(client, task_url(rows.a_completed_task(project)))
    assert short == long
    assert long <= 8


def test_a_completed_task_shows_both_proofs_and_the_change(
    client: Client, project: Project
) -> None:
    task = rows.a_completed_task(project)
    page = page_of(client, task_url(task))
    red, green = task.artifacts.filter(title__in=["red.png", "green.png"]).order_by("id")
    for shot in (red, green):
        assert f'src="/api/tasks/{task.task_id}/artifacts/{shot.pk}?inline=1"' in page
    assert "to have attribute" in page
    assert "<ins>    &lt;button id=&quot;theme&quot;" in page
    assert "test_dark_mode_survives_a_reload" in page
    assert "c40be7f1d62a" in page
    assert f"chimera/{task.task_id}" in page
    assert 'href="http://chimera-demo.localhost:8100/"' in page


def test_the_failing_assertion_is_told_in_words_beside_what_holds_now(
    client: Client, project: Project
) -> None:
    red, green = proofs_on(page_of(client, task_url(rows.a_completed_task(project))))
    for term, words in (
        ("Expected", "to have attribute &#x27;dark&#x27;"),
        ("Where", "locator(&quot;html&quot;)"),
        ("Instead", "no such element"),
        ("Line 5", "expect(page.locator(&quot;html&quot;)).to_have_attribute("),
    ):
        assert re.search(rf"<dt>{term}</dt><dd[^>]*><bdi>{re.escape(words)}", red), term
    assert "7 console errors, 1 failed request</summary>" in red
    assert "theme.js: HTTP 404" in red
    assert "and 6 more console errors" in red
    assert "<dt>Expected</dt><dd><bdi>to have attribute" in green
    assert "<dt>Now</dt><dd><bdi>as expected" in green
    assert "Instead" not in green
    assert "No console errors, no failed requests" in green


def test_a_local_copy_that_fails_says_what_was_there_instead(
    client: Client, project: Project
) -> None:
    task = Task.submit(project, "Add dark mode toggle", project.target_url)
    lease = rows.claim(task)
    rows.advance(task, lease, 3)
    run = Task.objects.open_run(lease, timezone.now())
    facts = {"proof": {**rows.RED, "actual": "'light'", **rows.NOTHING}}
    sent_back = Outcome(Verdict.REJECTED, "The test fails: see there.", facts=facts)
    Task.objects.settle(lease, run, sent_back, timezone.now())
    red, green = proofs_on(page_of(client, task_url(task)))
    assert "no such element" in red
    assert "After: it does not pass" in green
    assert "<dt>Instead</dt><dd><bdi>&#x27;light&#x27;" in green
    assert "see there" not in green  # the rows say it


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"proof": "failed"},
        {"proof": {"result": 3, "console": "x", "line": "y"}},
        {"proof": {"result": "failed", "console_count": -4, "failed_requests": [None, {}, 1]}},
    ],
)
def test_facts_of_another_form_break_no_page(
    client: Client, project: Project, facts: dict[str, object]
) -> None:
    task = rows.a_completed_task(project)
    task.phase_runs.update(facts=facts)
    red, _ = proofs_on(page_of(client, task_url(task)))
    assert "no button named “Dark mode”" in red


def test_a_rejected_try_shows_its_findings(client: Client, project: Project) -> None:
    page = page_of(client, task_url(rows.a_running_task(project)))
    assert "shop/views.py:41" in page
    assert "ruff:S602" in page
    assert "A shell string can be made to run anything." in page
    assert "sent back once" in page.lower()


def test_a_task_that_ran_without_a_sandbox_says_so(client: Client, project: Project) -> None:
    task = rows.a_completed_task(project)
    assert "not contained" not in page_of(client, task_url(task))
    task.phase_runs.filter(number=1).update(facts={"sandboxed": False})
    assert "what ran here was not contained" in page_of(client, task_url(task))


def test_a_failed_task_says_why_and_what_next(client: Client, project: Project) -> None:
    page = page_of(client, task_url(rows.a_failed_task(project)))
    assert "Stopped in: Workspace preparation" in page
    assert "ModuleNotFoundError" in page
    assert "Retry" in page
    assert "Cancel the task" not in page


def test_a_queued_task_says_what_it_waits_for(client: Client, submit: Callable[..., Task]) -> None:
    task = submit()
    assert "No worker is alive to take it" in page_of(client, task_url(task))
    rows.worker(4101)
    assert "as soon as a worker is free" in page_of(client, task_url(task))
    Task.objects.update(hold="approval")
    assert "somebody&#x27;s approval" in page_of(client, task_url(task))
    Task.objects.update(hold="", reason="Git was away.", due_at=timezone.now() + timedelta(hours=2))
    page = page_of(client, task_url(task))
    assert "Git was away." in page
    assert "tried again by itself in 2 h 00 min" in page
    Task.objects.update(waits_for="https://x.example:443", reason="Waits for another task there.")
    page = page_of(client, task_url(task))
    assert "Waiting for its turn: Workspace preparation" in page
    assert "Waits for another task there." in page


def test_a_paused_agent_is_named_with_its_end_and_its_last_words(
    client: Client, project: Project
) -> None:
    until = datetime(2030, 1, 1, 12, 5, tzinfo=UTC)
    Breaker.objects.create(digest="a", agent=HOSTILE, paused_until=until, reason=HOSTILE)
    page = page_of(client, "/")
    assert "is paused until 2030-01-01 12:05 UTC" in page
    assert page.count(SHOWN) == 2
    Breaker.objects.update(paused_until=None)
    assert "is paused" not in page_of(client, "/")


def test_a_worker_in_trouble_is_named_with_its_cause(client: Client, project: Project) -> None:
    rows.worker(4101, trouble="Chromium made no screenshot")
    rows.worker(4102, seen_at=timezone.now() - timedelta(seconds=90))
    page = page_of(client, "/")
    assert "Chromium made no screenshot" in page
    assert "silent" in page


def test_hostile_text_is_shown_as_text_everywhere(client: Client, project: Project) -> None:
    task = Task.submit(project, HOSTILE, "https://shop.example/?<script>")
    lease = rows.claim(task)
    rows.advance(task, lease, 3)
    run = Task.objects.open_run(lease, timezone.now())
    rows.write_log(run, HOSTILE + "\n")
    rows.leave(run, "diff", "x.diff", f"diff --git a/x b/x\n@@ -0,0 +1 @@\n+{HOSTILE}\n".encode())
    rows.leave(run, "test", "x.py", HOSTILE.encode())
    rows.leave(run, "report", "<script>.xml", b"x")
    found = Finding(HOSTILE, HOSTILE, HOSTILE, 3)
    words = dict.fromkeys(("expected", "where", "actual", "source", "message"), HOSTILE)
    notes = {"console": [HOSTILE], "failed_requests": [HOSTILE], "result": HOSTILE}
    outcome = Outcome(
        Verdict.ERRORED,
        HOSTILE,
        {"red_reason": HOSTILE},
        (found,),
        facts={"proof": words | notes},
        permanent=True,
    )
    Task.objects.settle(lease, run, outcome, timezone.now())
    rows.worker(4101, task, trouble=HOSTILE)
    for url in ("/", task_url(task)):
        page = page_of(client, url)
        assert SHOWN in page
        assert "<script>alert" not in page
        assert not set("\x1b\u202e") & set(page)
    assert page.count(SHOWN) >= 15


def test_nothing_on_a_page_needs_more_than_the_strict_policy(
    client: Client, project: Project
) -> None:
    for url in ("/", task_url(rows.a_completed_task(project)), "/nowhere/"):
        page = client.get(url).content.decode()
        assert not INLINE.findall(page)


def test_a_fragment_is_the_changing_part_alone(client: Client, project: Project) -> None:
    task = rows.a_running_task(project)
    for url in ("/", task_url(task)):
        page = page_of(client, f"{url}?fragment=1")
        assert page.lstrip().startswith('<div id="live"')
        assert "<html" not in page
        assert f'data-seq="{Event.objects.latest("seq").seq}"' in page


def test_the_form_queues_a_task(client: Client, project: Project) -> None:
    sent = {"feature": "Add a wish list", "target_url": "https://SHOP.example/x", "priority": "9"}
    answer = client.post("/submit/", sent, follow=True)
    task = Task.objects.get()
    assert answer.redirect_chain == [(task_url(task), 302)]
    assert "The task is queued." in answer.content.decode()
    assert (task.feature, task.priority, task.project) == ("Add a wish list", 9, project)
    assert Event.objects.get().kind == "task.queued"


def test_the_form_takes_the_address_of_a_project_that_is_named(
    client: Client, project: Project
) -> None:
    client.post("/submit/", {"feature": "A", "project": "shop", "priority": "5"})
    assert Task.objects.get().target_url == project.target_url


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"feature": "  "}, "Say what to build"),
        ({"feature": "x" * 10_001}, "at most 10000 characters"),
        ({"feature": "a\0b"}, "Null characters"),
        ({"priority": "0"}, "whole number from 1 to 10"),
        ({"priority": "11"}, "whole number from 1 to 10"),
        ({"priority": "2.5"}, "whole number from 1 to 10"),
        ({"target_url": "javascript:alert(1)"}, "starts with http"),
        ({"target_url": "https://me:pw@shop.example/"}, "user name"),
        ({"target_url": "https://elsewhere.example/"}, "Choose one: other, shop"),
        ({"project": "nobody"}, "valid choice"),
    ],
)
def test_the_form_refuses_bad_input_and_keeps_what_was_typed(
    client: Client, project: Project, wrong: dict[str, str], words: str
) -> None:
    Project.objects.create(
        name="other", repository="/x", target_url="https://other.example/", serve_command="x"
    )
    sent = {"feature": "Keep me", "target_url": "https://shop.example/", "priority": "5"} | wrong
    answer = client.post("/submit/", sent)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert words in page
    assert "feature" in wrong or "Keep me</textarea>" in page
    assert not Task.objects.exists()


def test_forms_need_their_token(project: Project, submit: Callable[..., Task]) -> None:
    task = submit()
    strict = Client(enforce_csrf_checks=True)
    for url in ("/submit/", f"{task_url(task)}cancel/", f"{task_url(task)}retry/"):
        answer = strict.post(url, {"feature": "A", "priority": "5"})
        assert answer.status_code == 403
        assert "Nothing was done" in answer.content.decode()
    task.refresh_from_db()
    assert (task.status, Task.objects.count()) == (Status.QUEUED, 1)


def test_a_get_never_changes_anything(client: Client, submit: Callable[..., Task]) -> None:
    task = submit()
    for url in ("/submit/", f"{task_url(task)}cancel/", f"{task_url(task)}retry/"):
        assert client.get(url).status_code == 405
    task.refresh_from_db()
    assert task.status == Status.QUEUED


def test_cancel_and_retry_from_the_page(client: Client, project: Project) -> None:
    task = rows.a_running_task(project)
    assert (
        "Cancelled in: Code implementation"
        in client.post(f"{task_url(task)}cancel/", follow=True).content.decode()
    )
    sent = {"from_phase": Phase.RED_VERIFICATION.value}
    client.post(f"{task_url(task)}retry/", sent)
    task.refresh_from_db()
    assert (task.status, task.phase) == (Status.QUEUED, Phase.RED_VERIFICATION)


def test_what_cannot_be_done_is_said(client: Client, project: Project) -> None:
    task = rows.a_completed_task(project)
    for action in ("cancel", "retry"):
        answer = client.post(f"{task_url(task)}{action}/", follow=True)
        assert "is completed" in answer.content.decode()


def test_the_log_is_read_by_offset(client: Client, project: Project) -> None:
    task = rows.a_running_task(project)
    url = f"{task_url(task)}log/?run=6"
    piece = client.get(url).json()
    assert piece["lines"][-1] == "All 41 tests passed"
    assert piece["rest"] == "still writing"
    run = task.phase_runs.get(number=6)
    run.task = task
    rows.write_log(run, " and done\n")
    following = client.get(f"{url}&offset={piece['next_offset']}").json()
    assert following["lines"] == ["still writing and done"]
    assert following["next_offset"] == run.log_path.stat().st_size


def test_the_log_of_a_try_is_plain_text(client: Client, project: Project) -> None:
    task = rows.a_running_task(project)
    answer = client.get(f"{task_url(task)}log/6/")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer.content.decode().endswith("All 41 tests passed\nstill writing")


def test_what_is_not_there_gets_a_page_that_says_so(client: Client, project: Project) -> None:
    task = rows.a_failed_task(project)
    for url in ("/tasks/chimera-nobody/", f"{task_url(task)}log/9/", f"{task_url(task)}log/?run=9"):
        answer = client.get(url)
        assert answer.status_code == 404
        assert "There is no such page" in answer.content.decode()


def test_people_elsewhere_are_refused(remote: Client, submit: Callable[..., Task]) -> None:
    task = submit()
    here = task_url(task)
    for url in ("/", here, f"{here}log/", f"{here}log/1/"):
        answer = remote.get(url)
        assert answer.status_code == 403
        assert task.task_id not in answer.content.decode()
    for url in ("/submit/", f"{here}cancel/", f"{here}retry/"):
        assert remote.post(url, {"feature": "A", "priority": "5"}).status_code == 403
    task.refresh_from_db()
    assert (task.status, Task.objects.count()) == (Status.QUEUED, 1)


def test_what_a_proxy_passed_on_counts_as_remote(client: Client, db: None) -> None:
    assert client.get("/", headers={"x-forwarded-for": "127.0.0.1"}).status_code == 403


def test_everybody_may_where_the_operator_says_so(
    remote: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "CHIMERA", replace(settings.CHIMERA, auth="off"))
    assert remote.get("/").status_code == 200


def test_the_page_for_a_fault_needs_no_database(client: Client) -> None:
    client.raise_request_exception = False
    answer = client.get("/")  # this test may not touch the database, so the view breaks on it
    assert answer.status_code == 500
    assert "Something broke" in answer.content.decode()
