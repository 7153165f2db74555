"""Tidy by hand: what the cluster does each hour."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from tasks.workflow import pruning
from tasks.workflow.retention import Sizes, megabytes


class Command(BaseCommand):
    """`retention` removes what may not be kept any longer; `--dry-run` only says what that is."""

    help = "Remove evidence, environments and refs by age and size, as the options say."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the switch."""
        parser.add_argument("--dry-run", action="store_true", help="only say what would go")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make passes until nothing is left to do, and say what was freed."""
        is_dry = options["dry_run"]
        sizes, tasks, size_bytes, has_more = Sizes(), 0, 0, True
        while has_more:
            freed = pruning.tidy(timezone.now(), self._show, sizes=sizes, is_dry=is_dry)
            tasks, size_bytes = tasks + freed.tasks, size_bytes + freed.size_bytes
            has_more = freed.has_more
        done = "would be removed" if is_dry else "removed"
        self.stdout.write(f"Evidence of {tasks} tasks {done}, {megabytes(size_bytes)}.")

    def _show(self, text: str) -> None:
        self.stdout.write(f"  {text}")
        self.stdout.flush()
