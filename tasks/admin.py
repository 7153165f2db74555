"""Django's admin: projects can be edited, tasks cancelled and retried, history only read."""

from __future__ import annotations

import shlex
from typing import Any

import django_q.admin  # noqa: F401 - registers its pages now, so that they can go below
from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from tasks.addresses import origin_of
from tasks.lifecycle import ROUTE
from tasks.models import (
    Artifact,
    Deployment,
    Event,
    PhaseRun,
    Project,
    Task,
    TaskStateError,
    Worker,
)

COMMANDS = (
    *("install_command", "test_command", "serve_command", "deploy_command", "rollback_command"),
    *("author", "coder", "reviewer"),
)

admin.site.site_header = admin.site.site_title = "Chimera"

# A schedule there names any function to be run: whoever may add one may do everything. Which of
# the two admin modules is imported first makes no difference.
for _model in [model for model in admin.site._registry if model._meta.app_label == "django_q"]:
    admin.site.unregister(_model)


class ProjectForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """A project, with its lines checked as they will be read."""

    class Meta:
        model = Project
        fields = "__all__"

    def clean(self) -> dict[str, Any]:
        """Check that each command line can be split into arguments."""
        cleaned = super().clean() or {}
        for name in COMMANDS:
            try:
                shlex.split(cleaned.get(name) or "")
            except ValueError as error:
                self.add_error(name, f"This line cannot be split into arguments: {error}.")
        return cleaned

    def clean_target_url(self) -> str:
        """Check that the address is one of a site."""
        url = str(self.cleaned_data["target_url"])
        try:
            origin_of(url)
        except ValueError as error:
            raise forms.ValidationError("Write it like https://app.example/login.") from error
        return url

    def clean_protected_paths(self) -> list[str]:
        """Check the list of paths."""
        paths = self.cleaned_data["protected_paths"] or []
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise forms.ValidationError('Write a JSON list of paths, such as [".ci", "tox.ini"].')
        return paths

    def clean_staging_origins(self) -> list[str]:
        """Check the list of origins; the project itself says which of them do not fit."""
        origins = self.cleaned_data["staging_origins"] or []
        if not isinstance(origins, list) or not all(isinstance(each, str) for each in origins):
            raise forms.ValidationError(
                'Write a JSON list of origins, such as ["https://staging.shop.example"].'
            )
        return origins

    def clean_time_limits(self) -> dict[str, int]:
        """Check the seconds by phase."""
        limits = self.cleaned_data["time_limits"] or {}
        if not isinstance(limits, dict) or not all(
            name in ROUTE and type(seconds) is int and seconds > 0
            for name, seconds in limits.items()
        ):
            raise forms.ValidationError(
                f'Write seconds by phase, such as {{"{ROUTE[0]}": 900}}. '
                f"The phases are {', '.join(ROUTE)}."
            )
        return limits


@admin.register(Project)
class ProjectAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Where sites live and how to work on them."""

    form = ProjectForm
    list_display = ("name", "target_url", "repository", "branch", "coder", "is_demo")
    search_fields = ("name", "target_url", "repository")
    readonly_fields = ("target_origin", "is_demo", "created_at")


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that the engine alone writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse."""
        return False


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    """Requests and where they stand; what may be done to them goes through the same verbs."""

    list_display = ("task_id", "project", "status", "phase", "priority", "hold", "created_at")
    list_filter = ("status", "phase", "project")
    list_select_related = ("project",)
    search_fields = ("task_id", "feature")
    actions = ("cancel", "retry")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Say whether this user may cancel and retry."""
        return request.user.has_perm("tasks.change_task")

    @admin.action(description="Cancel the selected tasks", permissions=["operate"])
    def cancel(self, request: HttpRequest, tasks: QuerySet[Task]) -> None:
        """End each of them that has not ended."""
        for task in tasks:
            self._try(request, task, task.cancel, "is cancelled")

    @admin.action(description="Retry the selected tasks", permissions=["operate"])
    def retry(self, request: HttpRequest, tasks: QuerySet[Task]) -> None:
        """Queue each of them again that failed or was cancelled."""
        for task in tasks:
            self._try(request, task, task.retry, "is queued again")

    def _try(self, request: HttpRequest, task: Task, verb: Any, done: str) -> None:
        try:
            verb()
        except TaskStateError as error:
            self.message_user(request, f"{error}.", messages.WARNING)
        else:
            self.message_user(request, f"{task} {done}.", messages.SUCCESS)


@admin.register(PhaseRun)
class PhaseRunAdmin(ReadOnlyAdmin):
    """Every try at every phase."""

    list_display = ("task", "number", "phase", "round", "attempt", "verdict", "started_at")
    list_filter = ("phase", "verdict")
    list_select_related = ("task",)
    search_fields = ("task__task_id", "reason")


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """What happened, in the order of its commits."""

    list_display = ("seq", "kind", "task", "created_at")
    list_filter = ("kind",)
    list_select_related = ("task",)
    search_fields = ("task__task_id",)
    ordering = ("-seq",)


@admin.register(Artifact)
class ArtifactAdmin(ReadOnlyAdmin):
    """Evidence on disk."""

    list_display = ("task", "kind", "path", "size_bytes", "created_at")
    list_filter = ("kind",)
    list_select_related = ("task",)
    search_fields = ("task__task_id", "path")


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    """Staged copies, live and ended."""

    list_display = ("task", "url", "commit_sha", "host", "pid", "created_at", "ended_at")
    list_select_related = ("task",)
    search_fields = ("task__task_id", "url", "commit_sha")


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Heartbeats."""

    list_display = ("name", "host", "pid", "task", "is_draining", "trouble", "seen_at")
    list_select_related = ("task",)
