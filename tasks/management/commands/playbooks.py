"""Show what the playbook agent can build."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from tasks.agents.playbooks import recognition


class Command(BaseCommand):
    """`playbooks` lists the features that need no model and no network."""

    help = "List the features that the playbook agent can test and build."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one line for each playbook."""
        for playbook in recognition.load_all():
            self.stdout.write(f"{playbook.name}\t{playbook.title}: {playbook.summary}")
