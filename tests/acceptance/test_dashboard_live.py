"""The real server, a real browser, and workers that are other processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
WAIT_S = 60.0
WAIT_MS = 30_000
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE *.localhost, EXCLUDE localhost, "
    "EXCLUDE 127.0.0.1",
]
PROJECT = """
from tasks.models import Project
Project.objects.create(
    name="shop", repository="/nowhere", target_url="https://shop.example/", serve_command="x"
)
"""
SUBMIT = """
task = Task.submit(Project.objects.get(), {feature!r}, "https://shop.example/", priority=7)
print(task.task_id)
"""
# Leases outlive the process that took them here, as in a worker that is busy in a child.
RESUME = """
from tasks.models import Lease
task = Task.objects.get(task_id={task_id!r})
lease = Lease(task.pk, task.task_id, task.holder, task.fence)
if not task.holder:
    lease = rows.claim(task)
"""


@dataclass
class Factory:
    """A home of its own, and the server on it."""

    home: Path
    port: int
    server: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return the address that people open."""
        return f"http://localhost:{self.port}"

    def manage(self, *arguments: str) -> str:
        """Run manage.py in a process of its own and return what it prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def work(self, code: str, **values: str) -> str:
        """Do something as a worker does: in another process, on the same database."""
        start = (
            "from django.utils import timezone\n"
            "from tasks.models import Project, Task\n"
            "from tests.integration import dashboard_rows as rows\n"
        )
        return self.manage("shell", "-v", "0", "-c", start + code.format(**values))

    def serve(self) -> None:
        """Start the server and wait until it answers."""
        log = (self.home / "server.log").open("ab")
        self.server = subprocess.Popen(
            [
                *(sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(self.port)),
                "chimera_site.asgi:application",
            ],
            cwd=ROOT,
            env=self.environment,
            stdout=log,
            stderr=log,
        )
        log.close()
        deadline = time.monotonic() + WAIT_S
        while not self._answers():
            assert self.server.poll() is None, (self.home / "server.log").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server at once."""
        if self.server is not None:
            self.server.send_signal(signal.SIGKILL)
            self.server.wait(WAIT_S)
            self.server = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def serving(home: Path) -> Iterator[Factory]:
    """Yield a factory with one project, being served."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")}
    kept |= {
        "CHIMERA_HOME": str(home),
        "CHIMERA_API_PORT": str(port),
        "CHIMERA_DEMO": "0",
        "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
    }
    made = Factory(home, port, environment=kept)
    made.manage("migrate", "-v", "0")
    made.work(PROJECT)
    try:
        made.serve()
        yield made
    finally:
        made.kill()


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Factory]:
    """Return a factory that nobody has used."""
    yield from serving(tmp_path)


@pytest.fixture(scope="module")
def used_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    """Return a factory that other tests of this module use too."""
    yield from serving(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return the system's Chromium."""
    found = os.environ.get("CHIMERA_CHROMIUM") or next(
        (
            path
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (path := shutil.which(name))
        ),
        None,
    )
    assert found, "no Chromium is here; install one or set CHIMERA_CHROMIUM"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a page that fails the test on a script error, a dialog, or a breach of the policy."""
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(WAIT_MS)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: complaints.append(dialog.message))
    opened.on(
        "console",
        lambda message: (
            complaints.append(message.text) if "Security Policy" in message.text else None
        ),
    )
    yield opened
    context.close()
    assert complaints == []


def mark_loaded(page: Page) -> None:
    """Leave a mark that only lives as long as this load of the page."""
    page.evaluate("() => { globalThis.wasNeverReloaded = true; }")


def was_never_reloaded(page: Page) -> bool:
    return bool(page.evaluate("() => globalThis.wasNeverReloaded === true"))


def test_a_task_page_follows_a_worker_and_survives_the_servers_death(
    factory: Factory, page: Page
) -> None:
    task_id = factory.work(SUBMIT, feature="Add dark mode toggle")
    page.goto(f"{factory.url}/tasks/{task_id}/")
    expect(page.locator("#feed")).to_have_attribute("data-state", "live", timeout=WAIT_MS)
    expect(page.locator("h1")).to_have_text("Add dark mode toggle")
    mark_loaded(page)

    # A worker opens its first try and writes its log.
    begin = RESUME + (
        "run = Task.objects.open_run(lease, timezone.now())\n"
        "rows.write_log(run, '\\x1b[31m<script>alert(1)</script>\\x1b[0m\\nfirst words\\n')\n"
    )
    factory.work(begin, task_id=task_id)
    expect(page.locator(".card h2")).to_have_text(
        "Working on: Workspace preparation", timeout=WAIT_MS
    )
    expect(page.locator("#announce")).to_contain_text("Workspace preparation. running")
    expect(page.locator(".logbox")).to_contain_text(
        "<script>alert(1)</script>first words", timeout=WAIT_MS
    )

    # The log grows, and no event tells of it.
    grow = RESUME + "rows.write_log(task.phase_runs.get(verdict=''), 'second words\\n')\n"
    factory.work(grow, task_id=task_id)
    expect(page.locator(".logbox")).to_contain_text("second words", timeout=WAIT_MS)

    # It settles, and goes on to the third step.
    settle = RESUME + (
        "run = task.phase_runs.get(verdict='')\n"
        "run.task = task\n"
        "Task.objects.settle(lease, run, rows.passing(run.phase), timezone.now())\n"
        "rows.advance(task, lease, 1)\n"
        "Task.objects.open_run(lease, timezone.now())\n"
    )
    page.locator("#step-3 summary").click()
    factory.work(settle, task_id=task_id)
    expect(page.locator(".card h2")).to_have_text("Working on: Red verification", timeout=WAIT_MS)
    expect(page.locator(".stepper .mark.done")).to_have_count(2)
    expect(page.locator(".step.active")).to_contain_text("Red verification")

    # The server dies; the page says so. Work goes on meanwhile.
    factory.kill()
    expect(page.locator("#feed")).to_have_text("Reconnecting…", timeout=WAIT_MS)
    unseen = RESUME + (
        "run = task.phase_runs.get(verdict='')\n"
        "run.task = task\n"
        "rows.leave_evidence(run)\n"
        "Task.objects.settle(lease, run, rows.passing(run.phase), timezone.now())\n"
        "rows.advance(task, lease, 4)\n"
    )
    factory.work(unseen, task_id=task_id)
    factory.serve()
    expect(page.locator("#feed")).to_have_text("Live", timeout=WAIT_MS)
    expect(page.locator(".card h2")).to_have_text(
        "The test failed before the change and passes after it", timeout=WAIT_MS
    )
    expect(page.locator(".stepper .mark.done")).to_have_count(7)
    assert was_never_reloaded(page)


def test_the_list_hears_of_new_tasks_and_keeps_what_is_being_typed(
    factory: Factory, page: Page
) -> None:
    page.goto(f"{factory.url}/")
    expect(page.locator("#feed")).to_have_attribute("data-state", "live", timeout=WAIT_MS)
    mark_loaded(page)
    expect(page.locator(".empty")).to_contain_text("curl -X POST")
    page.get_by_label("Feature").fill("Half a sentence")
    task_id = factory.work(SUBMIT, feature="<img src=x onerror=alert(1)>")
    expect(page.locator(f"#{task_id} .task-name")).to_have_text(
        "<img src=x onerror=alert(1)>", timeout=WAIT_MS
    )
    expect(page.locator(".counter.queued b")).to_have_text("1")
    expect(page.locator(".empty")).to_have_count(0)
    expect(page.get_by_label("Feature")).to_be_focused()
    expect(page.get_by_label("Feature")).to_have_value("Half a sentence")
    assert was_never_reloaded(page)


def test_a_long_log_is_bounded_and_waits_for_its_reader(used_factory: Factory, page: Page) -> None:
    task_id = used_factory.work("print(rows.a_running_task(Project.objects.get()).task_id)")
    write = RESUME + (
        "run = task.phase_runs.get(verdict='')\n"
        "rows.write_log(run, ''.join(f'{{n}} {words}\\n' for n in range({count})))\n"
    )
    page.goto(f"{used_factory.url}/tasks/{task_id}/")
    box = page.locator(".logbox")
    used_factory.work(write, task_id=task_id, words="flood", count="6000")
    expect(box.locator(".line").last).to_have_text("5999 flood", timeout=WAIT_MS)
    assert box.locator(".line").count() <= 2000
    assert box.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 40

    box.evaluate("box => { box.scrollTop = 100; }")
    button = page.get_by_role("button", name="Follow")
    expect(button).to_be_visible()
    used_factory.work(write, task_id=task_id, words="more", count="3")
    expect(box.locator(".line").last).to_have_text("2 more", timeout=WAIT_MS)
    assert box.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") > 1000
    button.click()
    assert box.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 40
    expect(button).to_be_hidden()


def test_a_person_can_submit_and_cancel_a_task(used_factory: Factory, page: Page) -> None:
    used_factory.work(SUBMIT, feature="Folds the form away")
    page.goto(f"{used_factory.url}/")
    page.get_by_text("New task").click()
    page.get_by_label("Feature").fill("Add a wish list")
    page.get_by_label("Project").select_option("shop")
    page.get_by_role("button", name="Submit the task").click()
    expect(page.locator("h1")).to_have_text("Add a wish list", timeout=WAIT_MS)
    page.get_by_role("button", name="Cancel the task").click()
    expect(page.locator(".card h2")).to_have_text("Cancelled in: Workspace preparation")


def test_pages_fit_a_narrow_screen(used_factory: Factory, page: Page) -> None:
    task_id = used_factory.work(
        "print(rows.a_completed_task(Project.objects.get(), 'x' * 300).task_id)"
    )
    page.set_viewport_size({"width": 390, "height": 844})
    for url in ("/", f"/tasks/{task_id}/"):
        page.goto(f"{used_factory.url}{url}")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_pages_are_whole_without_scripts(used_factory: Factory, browser: Browser) -> None:
    task_id = used_factory.work("print(rows.a_running_task(Project.objects.get()).task_id)")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{used_factory.url}/tasks/{task_id}/")
    expect(page.locator(".card h2")).to_have_text("Working on: Code implementation")
    expect(page.locator(".logbox")).to_contain_text("All 41 tests passed")
    expect(page.locator("#feed")).to_have_text("Reload to see news")
    context.close()
