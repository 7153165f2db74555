"""Start, stop and look at the factory of this CHIMERA_HOME."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tasks.lifecycle import Status
from tasks.models import Task, Worker
from tasks.workflow import supervisor


class Command(BaseCommand):
    """The factory as one program in the foreground."""

    help = "Runs the web server and the workers of this CHIMERA_HOME."
    requires_system_checks: list[str] = []  # both programs make them for themselves

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name the three verbs, and what start may be told."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        start = verbs.add_parser("start", help="run in the foreground; Ctrl-C stops it")
        start.add_argument("--max-concurrent", type=_whole(1, 200), help="tasks at once")
        start.add_argument("--host", default=settings.CHIMERA.api_host)
        start.add_argument("--port", type=_whole(1, 65535), default=settings.CHIMERA.api_port)
        verbs.add_parser("stop", help="stop it; running tasks go on at the next start")
        verbs.add_parser("status", help="say whether it runs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the verb says."""
        try:
            getattr(self, options["verb"])(options)
        except supervisor.DaemonError as error:
            raise CommandError(str(error)) from error

    def start(self, options: dict[str, Any]) -> None:
        """Run until told to stop."""
        workers = options["max_concurrent"] or settings.CHIMERA.max_workers
        plan = supervisor.Plan(options["host"], options["port"], workers)
        supervisor.start(plan, self._say)

    def stop(self, options: dict[str, Any]) -> None:
        """Stop the one that runs."""
        self._say("Chimera has stopped." if supervisor.stop() else "Chimera does not run.")

    def status(self, options: dict[str, Any]) -> None:
        """Say whether one runs; exit with 1 if not."""
        running = supervisor.find()
        if running is None:
            self._say(f"Chimera does not run (CHIMERA_HOME is {settings.CHIMERA.home}).")
            sys.exit(1)
        workers = Worker.objects.live(timezone.now()).count()
        counts = [
            f"{Task.objects.filter(status=status).count()} {status}"
            for status in (Status.RUNNING, Status.QUEUED)
        ]
        self._say(
            f"Chimera runs at {running.url} (pid {running.process.pid}): "
            f"{workers} workers, tasks: {', '.join(counts)}."
        )

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _whole(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        number = int(text)
        if not low <= number <= high:
            raise ValueError(text)
        return number

    parse.__name__ = f"number from {low} to {high}"
    return parse
