"""Believable rows for the dashboard's tests: every write goes through the engine's own doors."""

from __future__ import annotations

import hashlib
import struct
import zlib
from datetime import timedelta
from pathlib import Path

from django.utils import timezone

from tasks.lifecycle import ROUTE, Phase, Verdict
from tasks.models import Artifact, Lease, PhaseRun, Project, Task, Worker
from tasks.outcome import Finding, Outcome

DIFF = """diff --git a/shop/templates/base.html b/shop/templates/base.html
index 1d2c3b4..5e6f7a8 100644
--- a/shop/templates/base.html
+++ b/shop/templates/base.html
@@ -3,9 +3,11 @@
 <html lang="en">
 <head>
   <meta charset="utf-8">
-  <link rel="stylesheet" href="/static/shop.css">
+  <link rel="stylesheet" href="/static/shop.css?v=2">
+  <script src="/static/theme.js" defer></script>
 </head>
 <body>
   <header>
+    <button id="theme" aria-pressed="false">Dark mode</button>
   </header>
diff --git a/shop/static/theme.js b/shop/static/theme.js
new file mode 100644
index 0000000..9f8e7d6
--- /dev/null
+++ b/shop/static/theme.js
@@ -0,0 +1,4 @@
+const button = document.querySelector("#theme");
+const root = document.documentElement;
+root.dataset.theme = localStorage.getItem("theme") ?? "light";
+button.addEventListener("click", () => { root.dataset.theme = "dark"; });
"""
TEST = """def test_dark_mode_survives_a_reload(page, base_url):
    page.goto(base_url)
    page.get_by_role("button", name="Dark mode").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
"""
RED = {
    "result": "failed",
    "expected": "to have attribute 'dark'",
    "where": 'locator("html")',
    "actual": "no such element",
    "source": 'expect(page.locator("html")).to_have_attribute("data-theme", "dark")',
    "message": "",
    "line": 5,
    "console": ["TypeError: theme is undefined (http://shop.localhost/static/theme.js)"],
    "console_count": 7,
    "failed_requests": ["http://shop.localhost/static/theme.js: HTTP 404"],
    "failed_requests_count": 1,
}
NOTHING: dict[str, object] = {"console": [], "console_count": 0} | {
    "failed_requests": [],
    "failed_requests_count": 0,
}
WORDLESS = dict.fromkeys(("expected", "where", "actual", "source", "message"), "")
GREEN = {"result": "passed", "line": 0, **WORDLESS, **NOTHING}
LOG = "".join(
    f"10:{i // 60:02d}:{i % 60:02d}  step {i}: reading shop/views.py, line {i * 7 % 90}\n"
    for i in range(60)
)


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """Return a picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = (b"\0" + bytes(colour) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def worker(pid: int, task: Task | None = None, **fields: object) -> Worker:
    """Return a worker that was heard from just now."""
    now = timezone.now()
    values: dict[str, object] = {
        "name": f"forge:{pid}:{pid}.0",
        "host": "forge",
        "pid": pid,
        "pid_started": float(pid),
        "cluster": "chimera",
        "task": task,
        "started_at": now - timedelta(hours=3),
        "seen_at": now,
    }
    found, _ = Worker.objects.update_or_create(name=values["name"], defaults=values | fields)
    return found


def claim(task: Task) -> Lease:
    """Give this very task to a worker."""
    lease = task.take("forge:4101:4101.0", timezone.now())
    assert lease is not None
    return lease


def leave(run: PhaseRun, kind: str, name: str, content: bytes) -> Artifact:
    """Put a piece of evidence on disk and on record."""
    path = run.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Artifact.objects.create(
        task=run.task,
        phase_run=run,
        kind=kind,
        title=name,
        path=path.relative_to(run.task.folder).as_posix(),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )


def write_log(run: PhaseRun, text: str) -> Path:
    """Add to the log of a try."""
    run.log_path.parent.mkdir(parents=True, exist_ok=True)
    with run.log_path.open("a", encoding="utf-8") as file:
        file.write(text)
    return run.log_path


def passing(phase: Phase) -> Outcome:
    """Return what a good try at `phase` brings."""
    brings = {
        Phase.WORKSPACE_PREPARATION: {"base_sha": "1f0c2d7a9b3e" + "0" * 28},
        Phase.E2E_TEST_GENERATION: {
            "test_path": "tests/e2e/test_dark_mode.py",
            "test_sha": "8d31aa0c55e9" + "0" * 28,
        },
        Phase.RED_VERIFICATION: {
            "red_reason": "AssertionError: no button named “Dark mode” is on the page."
        },
        Phase.CODE_IMPLEMENTATION: {"code_sha": "c40be7f1d62a" + "0" * 28},
        Phase.GUARDIAN_REVIEW: {"review_decision": "approved"},
        Phase.STAGING_DEPLOYMENT: {"deployment_url": "http://chimera-demo.localhost:8100/"},
        Phase.E2E_VALIDATION: {"validation_status": "passed"},
    }
    shows = {
        Phase.RED_VERIFICATION: {"proof": RED},
        Phase.CODE_IMPLEMENTATION: {"proof": GREEN},
        Phase.E2E_VALIDATION: {"proof": GREEN},
    }
    return Outcome(Verdict.PASSED, checkpoint=brings[phase], facts=shows.get(phase, {}))


def advance(task: Task, lease: Lease, count: int) -> None:
    """Pass the next `count` phases, leaving the evidence that real ones leave."""
    for _ in range(count):
        run = Task.objects.open_run(lease, timezone.now())
        leave_evidence(run)
        Task.objects.settle(lease, run, passing(Phase(run.phase)), timezone.now())
    task.refresh_from_db()


def leave_evidence(run: PhaseRun) -> None:
    """Leave what a try at this phase leaves."""
    write_log(run, LOG)
    if run.phase == Phase.E2E_TEST_GENERATION:
        leave(run, "test", "test_dark_mode.py", TEST.encode())
    if run.phase == Phase.RED_VERIFICATION:
        leave(run, "screenshot", "red.png", png(640, 360, (246, 244, 238)))
        leave(run, "trace", "trace.zip", b"PK")
    if run.phase == Phase.CODE_IMPLEMENTATION:
        leave(run, "diff", "change.diff", DIFF.encode())
        leave(run, "screenshot", "local.png", png(640, 360, (30, 34, 48)))
    if run.phase == Phase.E2E_VALIDATION:
        leave(run, "screenshot", "green.png", png(640, 360, (24, 28, 42)))


def send_back(task: Task, lease: Lease) -> None:
    """Reject the next try, with findings."""
    run = Task.objects.open_run(lease, timezone.now())
    write_log(run, LOG)
    findings = (
        Finding("ruff:S602", "A shell string can be made to run anything.", "shop/views.py", 41),
        Finding("protected-path", "This file may not be changed.", "tests/e2e/test_dark_mode.py"),
    )
    rejected = Outcome(Verdict.REJECTED, "Two findings in the change.", findings=findings)
    Task.objects.settle(lease, run, rejected, timezone.now())
    task.refresh_from_db()


def a_completed_task(project: Project, feature: str = "Add dark mode toggle") -> Task:
    """Return a task that went all the way, sent back once."""
    task = Task.submit(project, feature, project.target_url, priority=8)
    lease = claim(task)
    advance(task, lease, 4)
    send_back(task, lease)
    advance(task, lease, len(ROUTE) - 3)
    return task


def a_failed_task(project: Project) -> Task:
    """Return a task whose base was broken."""
    task = Task.submit(project, "Show the stock level on each book", project.target_url)
    lease = claim(task)
    run = Task.objects.open_run(lease, timezone.now())
    write_log(run, "ModuleNotFoundError: No module named 'shop.stock'\n")
    reason = (
        "The site doesn't start: it exited with 1.\nModuleNotFoundError: No module named 'shop'"
    )
    Task.objects.settle(lease, run, Outcome(Verdict.REJECTED, reason), timezone.now())
    task.refresh_from_db()
    return task


def a_running_task(project: Project) -> Task:
    """Return a task that is at work on its code for the second time."""
    task = Task.submit(project, "Let readers search by author", project.target_url, priority=6)
    lease = claim(task)
    advance(task, lease, 4)
    send_back(task, lease)
    run = Task.objects.open_run(lease, timezone.now())
    write_log(run, LOG + "\x1b[32mAll 41 tests passed\x1b[0m\nstill writing")
    worker(4101, task)
    task.refresh_from_db()
    return task
