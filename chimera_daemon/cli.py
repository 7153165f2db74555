"""The commands: `chimera-daemon` runs the factory, `chimera` talks to one.

Exit codes: 0 done, 1 error, 2 wrong usage, 3 the watched task did not complete,
5 it had not ended in time, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chimera_daemon import display
from chimera_daemon.client import ChimeraClient
from chimera_daemon.errors import ChimeraError, WaitTimeoutError
from chimera_daemon.values import Task

FAILED = 3
TIMED_OUT = 5
STOPPED = 130
SETTINGS = "chimera_site.settings"
NO_SERVER = (
    "Only Chimera's client is installed here, not its server. "
    "Install it with: pip install 'chimera-daemon[server]'"
)


class Commands(click.Group):
    """A group of commands that turns Chimera's errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors go to stderr, with a next step."""
        try:
            return super().invoke(ctx)
        except WaitTimeoutError as error:
            click.echo(f"{error}", err=True)
            ctx.exit(TIMED_OUT)
        except ChimeraError as error:
            click.echo(display.printable(str(error), 2000), err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("Stopped looking; the task goes on.", err=True)
            ctx.exit(STOPPED)


@click.group()
@click.version_option(package_name="chimera-daemon")
def daemon() -> None:
    """Run the factory: web server and workers."""


@daemon.command()
@click.option("--max-concurrent", type=click.IntRange(1, 200), help="tasks at once (default 5)")
@click.option("--host", help="address to listen at (default 127.0.0.1)")
@click.option("--port", type=click.IntRange(1, 65535), help="port to listen at (default 8000)")
def start(max_concurrent: int | None, host: str | None, port: int | None) -> None:
    """Start the factory in the foreground; Ctrl-C ends it."""
    wanted = {"--max-concurrent": max_concurrent, "--host": host, "--port": port}
    _django("start", *[f"{name}={value}" for name, value in wanted.items() if value is not None])


@daemon.command()
def stop() -> None:
    """Stop the factory of this CHIMERA_HOME; tasks go on where they were at the next start."""
    _django("stop")


@daemon.command()
def status() -> None:
    """Say whether the factory of this CHIMERA_HOME runs, and how it is."""
    _django("status")


def _django(*arguments: str) -> None:
    """Become `manage.py daemon …`: this process is replaced, so signals reach it directly."""
    if not all(importlib.util.find_spec(name) for name in ("django", "chimera_site")):
        click.echo(NO_SERVER, err=True)
        raise SystemExit(1)
    # -P: a folder named `tasks` where the user stands must not be taken for Chimera's.
    argv = [sys.executable, "-P", "-m", "chimera_site", "daemon", *arguments]
    os.execve(sys.executable, argv, os.environ | {"DJANGO_SETTINGS_MODULE": SETTINGS})  # noqa: S606


def default_url() -> str:
    """Return where Chimera is looked for."""
    port = os.environ.get("CHIMERA_API_PORT") or "8000"
    return os.environ.get("CHIMERA_URL") or f"http://localhost:{port}"


@click.group(cls=Commands)
@click.option("--url", default=default_url, help="the server (default $CHIMERA_URL, localhost)")
@click.version_option(package_name="chimera-daemon")
@click.pass_context
def chimera(ctx: click.Context, url: str) -> None:
    """Ask a Chimera server for features, and watch them come to life."""
    ctx.obj = ctx.with_resource(ChimeraClient(url))


json_option = click.option("--json", "as_json", is_flag=True, help="print the server's answer")


@chimera.command()
@click.argument("feature")
@click.option("--target-url", required=True, help="the page where the feature begins")
@click.option("--staging-url", help="where it is to be staged")
@click.option("--priority", type=click.IntRange(1, 10), help="1 to 10, higher is sooner")
@click.option("--project", help="the project to work on")
@click.option("--watch", "watched", is_flag=True, help="show it until it has ended")
@json_option
@click.pass_context
def submit(
    ctx: click.Context,
    feature: str,
    target_url: str,
    staging_url: str | None,
    priority: int | None,
    project: str | None,
    watched: bool,
    as_json: bool,
) -> None:
    """Submit a feature request."""
    task = ctx.obj.submit_task(
        feature=feature,
        target_url=target_url,
        staging_url=staging_url,
        priority=priority,
        project=project,
    )
    if not watched:
        _print(task, as_json)
        return
    click.echo(task.id, err=True)
    _watch(ctx, task.id, None, as_json)


@chimera.command("list")
@click.option("--status", help="only queued, running, completed, failed or cancelled ones")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@click.pass_obj
def list_(client: ChimeraClient, status: str | None, limit: int, as_json: bool) -> None:
    """List tasks, the newest first."""
    tasks = client.list_tasks(status=status, limit=limit)
    if as_json:
        _print_json([task.document for task in tasks])
    elif not tasks:
        click.echo('No task yet. Submit one: chimera submit "Add …" --target-url http://…')
    else:
        _print_table(tasks)


@chimera.command()
@click.argument("task_id")
@json_option
@click.pass_obj
def show(client: ChimeraClient, task_id: str, as_json: bool) -> None:
    """Show how a task stands."""
    task = client.get_task(task_id)
    _print(task, as_json)
    if not as_json:
        for run in client.phases(task_id):
            display.line(Console(), run, run.verdict or "running")


@chimera.command()
@click.argument("task_id")
@click.option("--timeout", "timeout_s", type=float, help="seconds to wait at most")
@json_option
@click.pass_context
def watch(ctx: click.Context, task_id: str, timeout_s: float | None, as_json: bool) -> None:
    """Show a task until it has ended; exit 3 if it did not complete."""
    _watch(ctx, task_id, timeout_s, as_json)


@chimera.command()
@click.argument("task_id")
@json_option
@click.pass_obj
def cancel(client: ChimeraClient, task_id: str, as_json: bool) -> None:
    """End a task now."""
    _print(client.cancel(task_id), as_json)


@chimera.command()
@click.argument("task_id")
@json_option
@click.pass_obj
def retry(client: ChimeraClient, task_id: str, as_json: bool) -> None:
    """Queue a failed or cancelled task again, where it stopped."""
    _print(client.retry(task_id), as_json)


def _watch(ctx: click.Context, task_id: str, timeout_s: float | None, as_json: bool) -> None:
    task = display.follow(ctx.obj, task_id, Console(stderr=as_json), timeout_s)
    _print(task, as_json)
    if task.status != "completed":
        ctx.exit(FAILED)


def _print(task: Task, as_json: bool) -> None:
    if as_json:
        _print_json(task.document)
        return
    parts = [task.id, task.status, task.phase, task.progress]
    click.echo("  ".join(part for part in parts if part))
    if task.reason:
        click.echo(f"  {display.printable(task.reason, 1000)}")
    if task.result:
        click.echo(f"  staged at {display.printable(task.result.deployment_url)}")


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _print_table(tasks: list[Task]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("task", "status", "phase", "feature"):
        table.add_column(name, overflow="fold" if name == "feature" else "ellipsis", no_wrap=False)
    for task in tasks:
        cells = (task.id, task.status, task.phase, display.printable(task.feature, 80))
        table.add_row(*[Text(cell) for cell in cells])
    Console().print(table)
