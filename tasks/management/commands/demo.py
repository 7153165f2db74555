"""Show one feature going through all seven phases, on the bundled bookshop."""

from __future__ import annotations

import logging
import signal
import sys
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.text import Text

from chimera_daemon import ChimeraClient, ChimeraError
from chimera_daemon.display import follow, printable
from tasks.models import Project
from tasks.workflow import first_start, showcase
from tasks.workflow.showcase import Account, Factory

FEATURE = "Add dark mode toggle"
LIMIT_S = 1800.0


class Command(BaseCommand):
    """Prepare the home, start the factory, submit the feature, watch it, tell how it ended."""

    help = "Shows one feature going through all seven phases, on the bundled bookshop."
    requires_system_checks: list[str] = []  # the daemon makes them

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--once", action="store_true", help="stop everything at the end")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the demo; exit 0 only if the task completed."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _as_ctrl_c)
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # else a line for every look
        console = Console(highlight=False, soft_wrap=True)
        stays = sys.stdout.isatty() and not options["once"]
        try:
            completed = self._show(console, stays)
        except (showcase.ShowcaseError, first_start.FirstStartError, ChimeraError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            console.print("Stopped before the end.")
            sys.exit(130)
        if not completed:
            sys.exit(1)

    def _show(self, console: Console, stays: bool) -> bool:
        console.print("Preparing the database and the demo's repository …")
        first_start.prepare()
        if not Project.objects.filter(name=first_start.DEMO_NAME, is_demo=True).exists():
            raise showcase.ShowcaseError("There is no demo project here (CHIMERA_DEMO=0?).")
        factory = showcase.open_factory()
        task_id = ""
        try:
            _introduce(console, factory)
            lack = showcase.await_health(factory)
            if lack:
                console.print(Text(f"The factory says: {lack}", style="yellow"))
            with ChimeraClient(factory.url) as client:
                task = client.submit_task(
                    feature=FEATURE,
                    target_url=first_start.DEMO_ADDRESS,
                    project=first_start.DEMO_NAME,
                )
                task_id = task.id
                console.print(f"Submitted {FEATURE!r}: {factory.url}/tasks/{task_id}/\n")
                follow(client, task_id, console, LIMIT_S)
            account = showcase.account_of(task_id)
            _tell(console, account, f"{factory.url}/tasks/{task_id}/")
            if stays:
                _serve(console, factory)
        finally:
            if not stays or factory.is_ours:
                _stop(console, factory, task_id)
        return account.status == "completed"


def _introduce(console: Console, factory: Factory) -> None:
    if not factory.is_ours:
        console.print(f"The factory of this home runs already, at {factory.url}.")
        return
    if factory.obstacle:
        console.print(f"{factory.obstacle}; using a free one.")
    console.print(f"Starting the factory at {factory.url} …")


def _tell(console: Console, account: Account, address: str) -> None:
    """Print how the task ended, and what anybody can look at."""
    completed = account.status == "completed"
    style = "bold green" if completed else "bold red"
    console.print()
    console.print(Text(f"The task {account.status}.", style=style))
    if account.reason and not completed:
        _line(console, "why", account.reason)
    if account.commits:
        _line(console, "branch", f"{account.branch} in {account.repository}")
        for sha, subject in account.commits:
            _line(console, "", f"{sha[:10]} {subject}")
    if account.red_reason:
        _line(console, "before", f"the test failed: {account.red_reason}")
    if account.validation_status == "passed":
        _line(console, "now", "the same test passes on the staged site")
    if completed:
        _line(console, "staging", account.deployment_url)
    else:
        _line(console, "logs", str(account.logs))
    _line(console, "dashboard", address)


def _line(console: Console, name: str, text: str) -> None:
    console.print(Text.assemble((f"  {name:<10} ", "dim"), printable(text, 1000)))


def _serve(console: Console, factory: Factory) -> None:
    """Keep the dashboard and the staged site up until Ctrl-C."""
    console.print()
    if not factory.is_ours:
        console.print("The factory ran before and goes on; so does the staged site.")
        return
    console.print("Serving until Ctrl-C. Have a look, or submit something of your own.")
    try:
        while factory.child is not None and factory.child.poll() is None:
            time.sleep(0.2)
    except KeyboardInterrupt:
        return
    raise showcase.ShowcaseError(f"The factory ended by itself; its log: {factory.log}")


def _stop(console: Console, factory: Factory, task_id: str) -> None:
    """End everything that the demo has started; a second Ctrl-C can't leave half of it behind."""
    console.print("Stopping …" if factory.is_ours else "Ending the staged copy of this demo …")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    showcase.close_factory(factory, task_id)


def _as_ctrl_c(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
