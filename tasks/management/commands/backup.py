"""Keep everything that cannot be made again, in one file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tasks.workflow import backup


class Command(BaseCommand):
    """`backup FILE` while work goes on; `restore FILE` brings it back."""

    help = "Write database, repositories, key and evidence to one file, while work goes on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the file and the switch."""
        parser.add_argument("file", type=Path, help="a new file, such as chimera.tar.gz")
        parser.add_argument(
            "--without-evidence", action="store_true", help="leave out logs and evidence"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it and say how large it is."""
        file: Path = options["file"].expanduser().absolute()
        try:
            size_bytes = backup.make(
                file,
                timezone.now(),
                self._say,
                with_evidence=not options["without_evidence"],
            )
        except backup.BackupError as error:
            raise CommandError(str(error)) from error
        self._say(f"{file} holds the backup, {max(1, size_bytes // 10**6)} MB.")
        self._say("It holds the secret key too: keep it where nobody else can read it.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()
