"""Which bytes the log, the diff and the pieces of evidence of a task are."""

from __future__ import annotations

from pathlib import PurePosixPath

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
from tasks.api.problems import problem
from tasks.models import Artifact, PhaseRun, Task

FOLLOW_BYTES = 1024 * 1024  # the most that one answer to `?offset=` holds
PLAIN = "text/plain; charset=utf-8"
SHOWN_IN_PLACE = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webm": "video/webm",
}


def artifact(task: Task, pk: int, request: Request) -> HttpResponseBase:
    """Return the answer with one piece of evidence. Raises NotFound."""
    found = task.artifacts.filter(pk=pk).first()
    if found is None:
        raise NotFound(f"{task.task_id} has no artifact {pk}.")
    name = PurePosixPath(found.path)
    in_place = SHOWN_IN_PLACE.get(name.suffix.lower())
    content_type = in_place or "application/octet-stream"
    shown = in_place is not None and request.query_params.get("inline") == "1"
    return _send([_file(task, found)], request, content_type, "" if shown else name.name)


def diff(task: Task, request: Request) -> HttpResponseBase:
    """Return the answer with the newest change. Raises NotFound."""
    found = task.artifacts.filter(kind=Artifact.Kind.DIFF).order_by("-id").first()
    if found is None:
        raise NotFound(f"{task.task_id} has no change yet.")
    return _send([_file(task, found)], request, PLAIN)


def log(task: Task, request: Request) -> HttpResponseBase:
    """Return the answer with the log of one try, or of all of them, each under its heading.

    Earlier tries have ended, so what was at an offset stays there and a reader can follow.
    """
    asked = request.query_params.get("run", "")
    runs = task.phase_runs.order_by("number")
    if asked:
        run = runs.filter(number=_number("run", asked)).first()
        if run is None:
            raise NotFound(f"{task.task_id} has no run {asked}; …/phases lists them.")
        sections = _log(task, run)
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
    try:
        return File.find(task.folder, found.path)
    except GoneError as error:
        raise NotFound(str(error)) from error


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
