"""A Git repository that Chimera may work on, and how to install, test and serve it."""

from __future__ import annotations

import shlex

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from tasks.addresses import MAX_STAGING_URL, is_allowed, origin_of, pattern_of
from tasks.commits import CommitCheck
from tasks.lifecycle import TIME_LIMITS_S, Phase


def default_protected_paths() -> list[str]:
    """Paths that a coder may not change, beside the end-to-end tests."""
    return [".github", ".gitlab-ci.yml", ".ci", "conftest.py", "pytest.ini", "tox.ini"]


class Project(models.Model):
    """Where a site lives, and the commands and agents that Chimera uses on it.

    Commands are one line each and are split into arguments by shlex; no shell ever sees them.
    An agent is named as NAME or NAME:ARGUMENT, e.g. `playbook` or `command:./coder.py {prompt}`.
    """

    name = models.SlugField(max_length=60, unique=True)
    repository = models.CharField(max_length=500, help_text="path or URL, as for git clone")
    branch = models.CharField(max_length=200, default="main")
    target_url = models.CharField(max_length=500, help_text="where people use the site")
    target_origin = models.CharField(max_length=300, db_index=True, editable=False)
    install_command = models.CharField(max_length=1000, blank=True)
    test_command = models.CharField(max_length=1000, blank=True)
    serve_command = models.CharField(max_length=1000, help_text="{port} is replaced")
    health_path = models.CharField(max_length=300, default="/")
    e2e_folder = models.CharField(
        max_length=200,
        default="tests/e2e",
        validators=[RegexValidator(r"^[\w-]+(/[\w-]+)*$", "a relative folder, such as tests/e2e")],
    )
    protected_paths = models.JSONField(default=default_protected_paths, blank=True)
    deploy_command = models.CharField(
        max_length=1000, blank=True, help_text="empty: Chimera serves staging copies itself"
    )
    rollback_command = models.CharField(
        max_length=1000, blank=True, help_text="run when the test fails on staging"
    )
    commit_check = models.CharField(
        max_length=1000, blank=True, help_text="header:NAME, path:/PATH or command:COMMAND"
    )
    staging_origins = models.JSONField(
        default=list, blank=True, help_text="where the deploy command may deploy to"
    )
    author = models.CharField(max_length=1000, default="playbook")
    coder = models.CharField(max_length=1000, default="playbook")
    reviewer = models.CharField(max_length=1000, blank=True)
    agent_network = models.BooleanField(
        default=False, help_text="agents may use this machine's network (default: none)"
    )
    max_changed_lines = models.PositiveIntegerField(default=2000)
    max_changed_files = models.PositiveIntegerField(default=50)
    time_limits = models.JSONField(default=dict, blank=True, help_text="seconds by phase")
    max_open_tasks = models.PositiveIntegerField(
        default=0, db_default=0, help_text="how many of its tasks may run at once; 0 = no limit"
    )
    is_demo = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse an address that requests could not be matched with, and an unfit deployment."""
        errors = deployment_errors(self)
        try:
            origin_of(self.target_url)
        except ValueError:
            errors["target_url"] = "Use an address such as https://shop.example/ (http or https)."
        if errors:
            raise ValidationError(errors)

    def save(self, *args: object, **kwargs: object) -> None:
        """Keep `target_origin`, which tasks are matched by, in step with `target_url`."""
        self.target_origin = origin_of(self.target_url)
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    @property
    def staging_addresses(self) -> list[str]:
        """Return the origins that its deploy command may deploy to; [] without such a command."""
        return list(self.staging_origins) if self.deploy_command else []

    def refuses_staging_url(self, url: str) -> str:
        """Return why a task may not ask for `url` as its staging address; "" if it may.

        Where Chimera serves the copies itself, a wish is only noted.
        """
        if not (url and self.deploy_command):
            return ""
        if len(url) > MAX_STAGING_URL:
            return f"A deployment's address has at most {MAX_STAGING_URL} characters; shorten it."
        if is_allowed(url, self.staging_origins):
            return ""
        return f"{self.name} deploys only to {', '.join(self.staging_origins)}; name one of these."

    def time_limit_s(self, phase: Phase) -> int:
        """Return the seconds that one try at `phase` may take."""
        return int(self.time_limits.get(phase.value, TIME_LIMITS_S[phase]))


def deployment_errors(project: Project) -> dict[str, str]:
    """Return what is wrong with how a project is deployed, by field."""
    errors: dict[str, str] = {}
    if not project.deploy_command:
        needless = ("rollback_command", "commit_check", "staging_origins")
        text = "This is of use only with a deploy command."
        return {name: text for name in needless if getattr(project, name)}
    for name in ("deploy_command", "rollback_command"):
        if wrong := _wrong_program(getattr(project, name)):
            errors[name] = wrong
    try:
        if CommitCheck.parse(project.commit_check).source == "command":
            wrong = _wrong_program(project.commit_check.partition(":")[2], has_base=False)
            errors |= {"commit_check": wrong} if wrong else {}
    except ValueError as error:
        errors["commit_check"] = f"A deployment must be told from an older one: {error}."
    origins = project.staging_origins
    if not isinstance(origins, list) or not origins:
        errors["staging_origins"] = "Name the origins that the deploy command may deploy to."
        return errors
    try:
        for origin in origins:
            pattern_of(str(origin))
    except ValueError as error:
        errors["staging_origins"] = f"{error}."
    return errors


def _wrong_program(line: str, *, has_base: bool = True) -> str:
    """Say why the first word of a command of the operator's own cannot be run; "" if it can."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        return f"This line cannot be split into arguments: {error}."
    places = ("/", "{base}/") if has_base else ("/",)
    if words and words[0] and (words[0].startswith(places) or "/" not in words[0]):
        return ""
    if not words or not words[0]:
        return "" if line == "" else "This line names no program."
    return (
        "Name the program by its absolute path, or as a program on the PATH; a path inside the "
        "change could be an agent's. (A deploy command may be {base}/…, the branch's own file.)"
    )
