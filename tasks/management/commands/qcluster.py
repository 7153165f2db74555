"""Run workers: django-q2's command with the same options, made whole or gone."""

from __future__ import annotations

import os
import sys
from typing import Any

from django_q.management.commands.qcluster import Command as DjangoQCommand


class Command(DjangoQCommand):  # type: ignore[misc] # django_q has no types
    """Start a cluster of workers in the foreground."""

    help = "Starts a cluster of workers that perform tasks."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the cluster and exit with its code."""
        if options.get("cluster_name"):
            os.environ["Q_CLUSTER_NAME"] = options["cluster_name"]
        from tasks.workflow import cluster

        sys.exit(cluster.run(run_once=options.get("run_once", False)))
