"""Show and end the staging copies of this host."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tasks.models import Deployment
from tasks.workflow import deployments


class Command(BaseCommand):
    """`staging list` shows the live copies; `staging end TASK` and `staging end --all` end them."""

    help = "Show and end the staging copies of this host; they outlive tasks and the daemon."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommands."""
        commands = parser.add_subparsers(dest="verb", required=True)
        commands.add_parser("list", help="show the live copies")
        end = commands.add_parser("end", help="end copies")
        end.add_argument("task_id", metavar="TASK", nargs="?", default="")
        end.add_argument("--all", action="store_true", help="those of every task")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the verb."""
        if options["verb"] == "list":
            for copy in Deployment.objects.filter(ended_at=None).select_related("task"):
                self.stdout.write(f"{copy.task.task_id}\t{copy.url}\t{copy.commit_sha[:10]}")
            return
        if bool(options["task_id"]) == options["all"]:
            raise CommandError("Name a task, or say --all.")
        for url in deployments.end_since(0, options["task_id"]):
            self.stdout.write(f"ended {url}")
