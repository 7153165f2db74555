"""Which bytes the log, the diff and the pieces of evidence of a task are."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath

from django.db.models import QuerySet
from django.http import HttpResponseBase
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from tasks.api.evidence import (
    EvidenceResponse,
    File,
    GoneError,
    Section,
    Text,
    Window,
    out_of_range,
    window,
)
from tasks.api.problems import Gone, problem
from tasks.api.representations import instant
from tasks.models import Artifact, Event, PhaseRun, Task

FOLLOW_BYTES = 1024 * 1024  # the most that one answer to `?offset=` holds
PLAIN = "text/plain; charset=utf-8"
SHOWN_IN_PLACE = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webm": "video/webm",
}


def artifact(task: Task, pk: int, request: Request) -> HttpResponseBase:
    """Return the answer with one piece of evidence. Raises NotFound, Gone."""
    found = task.artifacts.filter(pk=pk).first()
    if found is None:
        raise NotFound(f"{task.task_id} has no artifact {pk}.")
    name = PurePosixPath(found.path)
    in_place = SHOWN_IN_PLACE.get(name.suffix.lower())
    content_type = in_place or "application/octet-stream"
    shown = in_place is not None and request.query_params.get("inline") == "1"
    return _send([_file(task, found)], request, content_type, "" if shown else name.name)


def diff(task: Task, request: Request) -> HttpResponseBase:
    """Return the answer with the newest change. Raises NotFound, Gone."""
    found = task.artifacts.filter(kind=Artifact.Kind.DIFF).order_by("-id").first()
    if found is None:
        raise NotFound(f"{task.task_id} has no change yet.")
    return _send([_file(task, found)], request, PLAIN)


def log(task: Task, request: Request) -> HttpResponseBase:
    """Return the answer with the log of one try, or of all of them, each under its heading.

    Earlier tries have ended, so what was at an offset stays there and a reader can follow.
    Raises NotFound, and Gone where retention removed all that was asked for.
    """
    asked = request.query_params.get("run", "")
    runs = list(task.phase_runs.filter(number=_number("run", asked)) if asked else _runs(task))
    if asked and not runs:
        raise NotFound(f"{task.task_id} has no run {asked}; …/phases lists them.")
    removed_at = Event.objects.evidence_removed_at(task)
    if removed_at and runs and all(run.ended_before(removed_at) for run in runs):
        raise Gone(_removed(removed_at))
    if asked:
        sections = _log(task, runs[0])
    else:
        sections = [part for run in runs for part in (_heading(run), *_log(task, run))]
    if "offset" in request.query_params:
        return _follow(sections, request)
    return _send(sections, request, PLAIN)


def _follow(sections: list[Section], request: Request) -> HttpResponseBase:
    size_bytes = sum(section.size_bytes for section in sections)
    start = _number("offset", request.query_params["offset"])
    if start > size_bytes:
        raise ValidationError({"offset": f"is beyond the end, which is at {size_bytes}."})
    end = min(size_bytes, start + FOLLOW_BYTES)
    response = EvidenceResponse(sections, Window(start, end), PLAIN)
    response["X-Next-Offset"] = str(end)
    return response


def _send(
    sections: list[Section], request: Request, content_type: str, filename: str = ""
) -> HttpResponseBase:
    size_bytes = sum(section.size_bytes for section in sections)
    part = window(size_bytes, request.headers.get("Range", ""))
    if part is None:
        refused = Response(problem(416, f"The end is at byte {size_bytes}."), status=416)
        refused.exception = True
        return out_of_range(size_bytes, refused)
    return EvidenceResponse(sections, part, content_type, filename)


def _file(task: Task, found: Artifact) -> File:
    if found.removed_at is not None:
        raise Gone(_removed(found.removed_at))
    try:
        return File.find(task.folder, found.path)
    except GoneError as error:
        raise NotFound(str(error)) from error


def _runs(task: Task) -> QuerySet[PhaseRun]:
    return task.phase_runs.order_by("number")


def _removed(removed_at: datetime) -> str:
    return (
        f"Removed by retention on {instant(removed_at)}; CHIMERA_KEEP_DAYS and CHIMERA_KEEP_GB "
        "say how long evidence is kept."
    )


def _heading(run: PhaseRun) -> Text:
    before = "" if run.number == 1 else "\n"
    return Text(f"{before}==> run {run.number}: {run.phase}\n".encode())


def _log(task: Task, run: PhaseRun) -> list[Section]:
    path = run.log_path.relative_to(task.folder).as_posix()
    try:
        return [File.find(task.folder, path)]
    except GoneError:
        return []  # nothing was printed yet


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ValidationError({name: "must be a whole number, 0 or more."})
    return int(text)
