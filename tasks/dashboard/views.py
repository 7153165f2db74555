"""The pages: the list of all tasks, one task, and what their forms and scripts ask for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from tasks.dashboard import evidence, story
from tasks.dashboard.access import guarded
from tasks.dashboard.forms import TaskForm
from tasks.dashboard.listing import list_context
from tasks.dashboard.logs import LogPiece, read_piece, read_tail
from tasks.dashboard.plain import plain
from tasks.dashboard.tailer import newest_seq
from tasks.lifecycle import ROUTE, TERMINAL, Phase, Status, finished_phases
from tasks.models import Event, PhaseRun, Task, TaskStateError, Worker

SHOWN_RUNS = 200  # the newest tries; a task has a few dozen at most, unless it is retried for ever
SHOWN_ARTIFACTS = 400
LOG_REMOVED = "Removed to save space."


@require_safe
@never_cache
@guarded
def task_list(request: HttpRequest) -> HttpResponse:
    """Show all tasks, newest first; with ?fragment=1 only the part that changes."""
    return _list_page(request, None)


@require_POST
@guarded
def submit(request: HttpRequest) -> HttpResponse:
    """Queue the task that the form asks for, or show what is wrong with it."""
    form = TaskForm(request.POST)
    if not form.is_valid():
        return _list_page(request, form)
    task = form.submit()
    messages.success(request, "The task is queued.")
    return redirect("dashboard:task", task_id=task.task_id)


@require_safe
@never_cache
@guarded
def task_detail(request: HttpRequest, task_id: str) -> HttpResponse:
    """Show one task; with ?fragment=1 only the part that changes."""
    seq = newest_seq()  # before the rows: what happens after it is told by the feed
    task = _task(task_id)
    context = task_context(task, timezone.now()) | {"seq": seq}
    if "fragment" in request.GET:
        return render(request, "dashboard/_task.html", context)
    return render(request, "dashboard/task.html", context)


@require_safe
@never_cache
@guarded
def log(request: HttpRequest, task_id: str) -> JsonResponse:
    """Return the lines of one try's log from a byte offset on, as JSON."""
    run = _run(task_id, _whole(request.GET.get("run"), 1))
    piece = read_piece(run.log_path, run.task.folder, _whole(request.GET.get("offset"), 0))
    return JsonResponse(
        {
            "run": run.number,
            "lines": piece.lines,
            "rest": piece.rest,
            "next_offset": piece.next_offset,
            "has_more": piece.has_more,
        }
    )


@require_safe
@never_cache
@guarded
def log_text(request: HttpRequest, task_id: str, number: int) -> HttpResponse:
    """Return the end of one try's log as plain text; the API has all of it."""
    run = _run(task_id, number)
    piece = read_tail(run.log_path, run.task.folder)
    none = LOG_REMOVED if _is_log_removed(run) else "This try has written no log."
    text = "\n".join([*piece.lines, piece.rest]) or none
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@require_POST
@guarded
def cancel(request: HttpRequest, task_id: str) -> HttpResponse:
    """End the task now."""
    task = _task(task_id)
    try:
        task.cancel()
    except TaskStateError as error:
        messages.error(request, str(error))
    return redirect("dashboard:task", task_id=task_id)


@require_POST
@guarded
def retry(request: HttpRequest, task_id: str) -> HttpResponse:
    """Queue a failed or cancelled task again, where it stopped or at the step that was chosen."""
    task = _task(task_id)
    wanted = request.POST.get("from_phase", "")
    try:
        task.retry(Phase(wanted) if wanted in Phase.values else None)
    except TaskStateError as error:
        messages.error(request, str(error))
    return redirect("dashboard:task", task_id=task_id)


def task_context(task: Task, now: datetime) -> dict[str, Any]:
    """Return all that a task's page shows. Blocks on the database and the disk."""
    runs = list(task.phase_runs.order_by("-number")[:SHOWN_RUNS])[::-1]
    for run in runs:
        run.task = task
    newest = task.artifacts.select_related("phase_run").order_by("-id")[:SHOWN_ARTIFACTS]
    artifacts = list(newest)[::-1]
    steps = story.steps_of(task, runs, now)
    has_workers = task.status != Status.QUEUED or Worker.objects.live(now).exists()
    stopped_in = Phase(task.stopped_in) if task.stopped_in else None
    return {
        "task": task,
        "feature": plain(task.feature),
        "title": plain(task.feature, 80),
        "target_url": plain(task.target_url),
        "project": plain(task.project.name),
        "steps": steps,
        "marks": [step.mark for step in steps],
        "done": finished_phases(Phase(task.phase), stopped_in),
        "card": story.card_of(task, now, has_workers=has_workers),
        "elapsed": story.elapsed(task, now),
        "age": story.age(task.created_at, now),
        "proofs": evidence.proofs_of(task, runs, artifacts),
        "diff": evidence.diff_of(task, artifacts),
        "is_diff_removed": evidence.is_diff_removed(artifacts),
        "test_source": evidence.test_source_of(task, artifacts),
        "links": evidence.links_of(task, artifacts),
        "is_running": task.status == Status.RUNNING,
        "is_open": task.status not in TERMINAL,
        "can_retry": task.status in {Status.FAILED, Status.CANCELLED},
        "retry_phases": _retry_phases(task),
        "staging_url": task.deployment_url if _is_web(task.deployment_url) else "",
        "is_unsandboxed": any(run.facts.get("sandboxed") is False for run in runs),
        "log_run": runs[-1] if runs else None,
        "log": read_tail(runs[-1].log_path, task.folder) if runs else LogPiece(),
        "is_log_removed": bool(runs) and _is_log_removed(runs[-1]),
        "now": now,
    }


def _list_page(request: HttpRequest, form: TaskForm | None) -> HttpResponse:
    page = _whole(request.GET.get("page"), 1)
    context = list_context(request.GET.get("status", ""), page, timezone.now())
    context["address"] = request.build_absolute_uri("/").rstrip("/")
    if "fragment" in request.GET:
        return render(request, "dashboard/_list.html", context)
    context["form"] = form or TaskForm()
    status = 422 if form is not None else 200
    return render(request, "dashboard/list.html", context, status=status)


def _task(task_id: str) -> Task:
    tasks = Task.objects.select_related("project").defer("baseline", "findings")
    return get_object_or_404(tasks, task_id=task_id)


def _run(task_id: str, number: int) -> PhaseRun:
    runs = PhaseRun.objects.select_related("task").filter(task__task_id=task_id, number=number)
    found = runs.first()
    if found is None:
        raise Http404("This task has no such try.")
    return found


def _is_log_removed(run: PhaseRun) -> bool:
    removed_at = Event.objects.evidence_removed_at(run.task)
    return removed_at is not None and run.ended_before(removed_at)


def _retry_phases(task: Task) -> list[tuple[str, str]]:
    if task.stopped_in not in ROUTE:
        return []
    reached = ROUTE[: ROUTE.index(Phase(task.stopped_in)) + 1]
    return [(phase.value, story.LABELS[phase]) for phase in reversed(reached)]


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _whole(text: str | None, default: int) -> int:
    """Read a whole number that fits the database; `default` for anything else."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 15:
        return default
    return int(text)
