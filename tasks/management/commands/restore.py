"""Bring a backup back into an empty home."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tasks.workflow import restore


class Command(BaseCommand):
    """`restore FILE` into the home that CHIMERA_HOME names."""

    help = "Restore a backup into this CHIMERA_HOME, which must be empty."
    requires_system_checks: list[str] = []  # there may be no database yet

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the file."""
        parser.add_argument("file", type=Path, help="what manage.py backup has written")

    def handle(self, *args: Any, **options: Any) -> None:
        """Restore it and say what will go on."""
        file: Path = options["file"].expanduser().absolute()
        try:
            done = restore.restore(file, timezone.now(), self._say)
        except restore.RestoreError as error:
            raise CommandError(str(error)) from error
        self._say(f"Restored {settings.CHIMERA.home} as it was at {done.made_at}.")
        self._say(
            f"Tasks that will resume: {done.running + done.queued} "
            f"({done.running} in the phase where they were, {done.queued} from the queue). "
            "Start with: chimera-daemon start"
        )

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
