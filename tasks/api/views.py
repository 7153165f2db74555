"""The tasks over HTTP: submit, look, cancel, retry, and fetch what they left behind."""

from __future__ import annotations

import re
from typing import Any, cast

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.urls import reverse
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from tasks.api import downloads
from tasks.api.auth import Anyone, LocalUser
from tasks.api.intake import choose_project
from tasks.api.problems import Conflict, Unprocessable
from tasks.api.representations import (
    artifact_json,
    receipt,
    run_json,
    task_json,
    with_staging_expiry,
)
from tasks.api.serializers import RetryRequest, TaskRequest
from tasks.lifecycle import ROUTE, Phase, Status
from tasks.models import Task, TaskStateError

_TASK_ID = re.compile(r"[a-z0-9-]{1,40}")
_PROJECT = re.compile(r"[\w-]{1,60}")


class Pages(PageNumberPagination):
    """50 tasks a page; `?page_size=` up to 200."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class TaskViewSet(GenericViewSet[Task]):
    """Feature requests and how they stand."""

    permission_classes = [LocalUser]
    pagination_class = Pages
    serializer_class = TaskRequest
    lookup_field = "task_id"
    lookup_value_regex = "[^/]+"
    queryset = with_staging_expiry(
        Task.objects.select_related("project").defer("baseline").order_by("-id")
    )

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        """Return what the body of this action holds."""
        return RetryRequest if self.action == "retry" else TaskRequest

    def get_object(self) -> Task:
        """Return the task of the address, in one query. Raises NotFound."""
        task_id = self.kwargs["task_id"]
        task = None
        if _TASK_ID.fullmatch(task_id):
            task = self.get_queryset().filter(task_id=task_id).first()
        if task is None:
            raise NotFound(f"There is no task “{task_id[:60]}”. GET /api/tasks lists them.")
        return task

    def create(self, request: Request) -> Response:
        """Put a feature request into the queue."""
        asked = self._checked(request)
        project = choose_project(asked.get("project") or "", asked["target_url"])
        staging_url = asked.get("staging_url") or ""
        if refusal := project.refuses_staging_url(staging_url):
            raise Unprocessable(f"staging_url: {refusal}")
        task = Task.submit(
            project,
            asked["feature"],
            asked["target_url"],
            staging_url=staging_url,
            priority=asked.get("priority") or 5,
        )
        address = reverse("task-detail", kwargs={"task_id": task.task_id})
        return Response(receipt(task), status=201, headers={"Location": address})

    def list(self, request: Request) -> Response:
        """List the tasks, the newest first; `?status=` and `?project=` narrow it."""
        tasks = _narrowed(self.get_queryset(), request)
        page = self.paginate_queryset(tasks)
        return self.get_paginated_response([task_json(task) for task in page or []])

    def retrieve(self, request: Request, task_id: str) -> Response:
        """Show one task."""
        return Response(task_json(self.get_object()))

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, task_id: str) -> Response:
        """End a task that is queued or running; a second time changes nothing."""
        task = self.get_object()
        _ = request.data  # a body that is no JSON is refused here as everywhere
        try:
            task.cancel()
        except TaskStateError as error:
            raise Conflict(f"{error}; it cannot be cancelled.") from error
        return Response(task_json(task))

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, task_id: str) -> Response:
        """Queue a failed or cancelled task again, where it stopped or at `from_phase`."""
        task = self.get_object()
        start = _phase(self._checked(request).get("from_phase") or "")
        try:
            task.retry(start)
        except TaskStateError as error:
            task.refresh_from_db()
            if start and task.status in {Status.FAILED, Status.CANCELLED}:
                raise Unprocessable(f"{error}; name an earlier phase, or none.") from error
            raise Conflict(f"{error}.") from error
        return Response(task_json(task))

    @action(detail=True)
    def phases(self, request: Request, task_id: str) -> Response:
        """Show every try at every phase, in order."""
        runs = self.get_object().phase_runs.order_by("number")
        return Response({"task_id": task_id, "phases": [run_json(run) for run in runs]})

    @action(detail=True)
    def artifacts(self, request: Request, task_id: str) -> Response:
        """List the evidence, in the order in which it was made."""
        found = self.get_object().artifacts.select_related("phase_run").order_by("id")
        return Response({"task_id": task_id, "artifacts": [artifact_json(each) for each in found]})

    @action(detail=True, url_path=r"artifacts/(?P<pk>\d{1,18})")
    def artifact(self, request: Request, task_id: str, pk: str) -> HttpResponseBase:
        """Send one piece of evidence; `?inline=1` shows pictures and videos in place."""
        return downloads.artifact(self.get_object(), int(pk), request)

    @action(detail=True)
    def log(self, request: Request, task_id: str) -> HttpResponseBase:
        """Send the log; `?run=` picks one try, `?offset=` or a Range follows it."""
        return downloads.log(self.get_object(), request)

    @action(detail=True)
    def diff(self, request: Request, task_id: str) -> HttpResponseBase:
        """Send the newest change as a diff."""
        return downloads.diff(self.get_object(), request)

    def _checked(self, request: Request) -> dict[str, Any]:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return cast("dict[str, Any]", serializer.validated_data)


class NowhereView(APIView):
    """What is left below /api: nothing, said in JSON."""

    name = "API"
    permission_classes = [Anyone]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Answer every method alike."""
        raise NotFound("There is nothing at this address. The tasks are at /api/tasks.")


def _narrowed(tasks: QuerySet[Task], request: Request) -> QuerySet[Task]:
    status = request.query_params.get("status", "")
    project = request.query_params.get("project", "")
    if status:
        if status not in Status:
            known = ", ".join(Status)
            raise ValidationError({"status": f"is none of {known}."})
        tasks = tasks.filter(status=status)
    if project:
        if not _PROJECT.fullmatch(project):
            raise ValidationError({"project": "is no name of a project."})
        tasks = tasks.filter(project__name=project)
    return tasks


def _phase(name: str) -> Phase | None:
    if not name:
        return None
    if name not in ROUTE:
        raise Unprocessable(f"from_phase: use one of {', '.join(ROUTE)}.")
    return Phase(name)
