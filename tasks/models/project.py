"""A Git repository that Chimera may work on, and how to install, test and serve it."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from tasks.lifecycle import TIME_LIMITS_S, Phase

DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """Return scheme://host:port of an http(s) URL, lower case, port always named.

    Raises ValueError where the URL has no host, another scheme, or a port out of range.
    """
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"not an http(s) URL: {url!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or DEFAULT_PORTS[parts.scheme]}"


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
    is_demo = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse an address that requests could not be matched with."""
        try:
            origin_of(self.target_url)
        except ValueError as error:
            message = "Use an address such as https://shop.example/ (http or https)."
            raise ValidationError({"target_url": message}) from error

    def save(self, *args: object, **kwargs: object) -> None:
        """Keep `target_origin`, which tasks are matched by, in step with `target_url`."""
        self.target_origin = origin_of(self.target_url)
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    def time_limit_s(self, phase: Phase) -> int:
        """Return the seconds that one try at `phase` may take."""
        return int(self.time_limits.get(phase.value, TIME_LIMITS_S[phase]))
