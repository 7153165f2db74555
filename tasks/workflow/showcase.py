"""What `manage.py demo` needs of the engine: a factory to show, and the account of what it did."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from chimera_daemon import ChimeraClient, ChimeraError
from chimera_site import options
from tasks.lifecycle import OPEN
from tasks.models import Task, TaskStateError
from tasks.workflow import deployments, ports, supervisor
from tasks.workspace import git, process

READY_WITHIN_S = 90.0
STOP_WITHIN_S = 60.0  # the supervisor itself promises less
TICK_S = 0.1


class ShowcaseError(Exception):
    """The factory cannot be shown; the text says why."""


@dataclass(frozen=True)
class Factory:
    """A running factory. `child` is None if it ran before, and then it isn't ours to stop."""

    url: str
    log: Path
    child: subprocess.Popen[bytes] | None
    mark: int  # the newest staging copy before it, see deployments.end_since
    obstacle: str = ""  # why it isn't at the port that was asked for

    @property
    def is_ours(self) -> bool:
        """Say whether it was started for the showcase."""
        return self.child is not None


@dataclass(frozen=True)
class Account:
    """What a task has left behind, as rows and Git tell it."""

    status: str
    reason: str
    branch: str
    repository: Path
    commits: tuple[tuple[str, str], ...]  # sha and subject, oldest first
    red_reason: str
    validation_status: str
    deployment_url: str
    logs: Path


def open_factory() -> Factory:
    """Return the factory that runs at this home, or start one. Call it in a long-lived thread."""
    mark = deployments.newest()
    log = settings.CHIMERA.home / "demo.log"
    running = supervisor.find()
    if running is not None:
        return Factory(running.url, log, None, mark)
    host, port = settings.CHIMERA.api_host, settings.CHIMERA.api_port
    taker = ports.taken_by(host, port)
    obstacle = f"Port {port} is taken by {taker}" if taker else ""
    if port == 0 or taker:
        port = _free_port(host)
    child = _start(host, port, log)
    return Factory(supervisor.Plan(host, port, 1).url, log, child, mark, obstacle)


def await_health(factory: Factory) -> str:
    """Wait until somebody serves the queue; return what they lack, "" for nothing.

    The bundled demo may do without a sandbox, so that is for its task to say. Raises
    ShowcaseError when nobody is there.
    """
    until = time.monotonic() + READY_WITHIN_S
    said = "It has not answered."
    with ChimeraClient(factory.url) as client:
        while time.monotonic() < until:
            if factory.child is not None and factory.child.poll() is not None:
                raise ShowcaseError(f"The factory ended at once:\n{_tail(factory.log)}")
            try:
                health = client.health()
            except ChimeraError as error:
                said = str(error)
            else:
                if health.is_healthy:
                    return ""
                said = str(health.document.get("reason") or health.status)
                if health.workers:  # they are there, and say what they lack
                    return said
            time.sleep(TICK_S)
    raise ShowcaseError(f"The factory is not ready for work. {said}\nIts log: {factory.log}")


def close_factory(factory: Factory, task_id: str = "") -> None:
    """End what was started for the showcase: the task if it is unfinished, and staging copies.

    Blocks for a minute at most. A factory that ran before goes on, with all that isn't the task's.
    """
    _cancel(task_id)
    if factory.child is None:
        deployments.end_since(factory.mark, task_id or "-")
        return
    factory.child.terminate()
    process.end_group(factory.child, grace_s=STOP_WITHIN_S)
    deployments.end_since(factory.mark)


def _cancel(task_id: str) -> None:
    """End the task if somebody stopped looking at it; else the next factory would go on with it."""
    task = Task.objects.filter(task_id=task_id, status__in=sorted(OPEN)).first()
    if task is not None:
        with contextlib.suppress(TaskStateError):  # it has ended by itself since
            task.cancel()


def account_of(task_id: str) -> Account:
    """Return what the task has left behind. Raises ShowcaseError if it is not of this home."""
    task = Task.objects.select_related("project").filter(task_id=task_id).first()
    if task is None:
        raise ShowcaseError(f"The factory does not share this CHIMERA_HOME: no {task_id} here.")
    repository = settings.CHIMERA.home / "repositories" / f"{task.project.name}.git"
    return Account(
        status=task.status,
        reason=task.reason,
        branch=task.branch,
        repository=repository,
        commits=_commits(task, repository),
        red_reason=task.red_reason,
        validation_status=task.validation_status,
        deployment_url=task.deployment_url,
        logs=task.folder,
    )


def _commits(task: Task, path: Path) -> tuple[tuple[str, str], ...]:
    newest = task.code_sha or task.test_sha
    if not newest:
        return ()
    try:
        history = git.Repository.open(path).log(newest, 10)
    except git.GitError:
        return ()
    own = []
    for commit in history:
        if commit.sha == task.base_sha:
            break
        own.append((commit.sha, commit.subject))
    return tuple(reversed(own))


def _start(host: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    # On a leash: kill -9 of this process must not leave the factory behind.
    leash = (sys.executable, "-m", "tasks.workspace.leash", str(os.getpid()))
    daemon = (sys.executable, "-m", "django", "daemon", "start", "--host", host, "--port", port)
    command = process.Command(
        argv=(*leash, *map(str, daemon)),
        env=options.environment(DJANGO_SETTINGS_MODULE=settings.SETTINGS_MODULE),
        cwd=Path(settings.BASE_DIR),
    )
    with log.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        try:
            return process.start(command, stdin=nothing.fileno(), stdout=output.fileno())
        except process.ProcessError as error:
            raise ShowcaseError(f"The factory cannot be started: {error}") from error


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return f"(there is nothing in {log})"
