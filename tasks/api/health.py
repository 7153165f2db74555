"""GET /health: can work be done here, and how much of it is there?"""

from __future__ import annotations

import logging
import time
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.db.models import Count
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks.api.auth import Anyone, LocalUser
from tasks.api.representations import worker_json
from tasks.lifecycle import Status
from tasks.models import Task, Worker

logger = logging.getLogger(__name__)

SHOWN = (Status.QUEUED, Status.RUNNING, Status.COMPLETED, Status.FAILED)
NO_WORKER = (
    "No worker has been heard from lately, so nothing is being worked on. "
    "Start one: “chimera-daemon start”, or “manage.py qcluster”."
)

_started_s = time.monotonic()  # asgi.py imports this module when the server starts


class HealthView(APIView):
    """Counts and workers; 503 with a reason while nobody can serve the queue."""

    permission_classes = [Anyone]

    def get(self, request: Request) -> Response:
        """Answer in two queries, whatever the number of tasks."""
        standing: dict[str, Any] = {"uptime": int(time.monotonic() - _started_s)}
        try:
            workers = list(Worker.objects.live(timezone.now()).select_related("task"))
            standing |= counts()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("the database did not answer: %s", error)
            reason = "The database cannot be read. If this lasts, see the server's log."
        else:
            reason = trouble(workers)
            if LocalUser().has_permission(request, self):
                standing["workers"] = [worker_json(worker) for worker in workers]
        if reason:
            standing = {"status": "unhealthy", "reason": reason, **standing}
            response = Response(standing, status=503)
            # An answer as planned; Django would log an error at each look of a monitor.
            response._has_been_logged = True  # type: ignore[attr-defined]
            return response
        return Response({"status": "healthy", **standing})


def counts() -> dict[str, int]:
    """Count the tasks by status, from the index alone."""
    rows = Task.objects.order_by().values_list("status").annotate(Count("pk"))
    found = dict(rows)
    return {f"tasks_{status}": found.get(status, 0) for status in SHOWN}


def trouble(workers: list[Worker]) -> str:
    """Say why nobody can serve the queue; "" if somebody can."""
    if not workers:
        return NO_WORKER
    if all(worker.trouble for worker in workers):
        said = sorted({worker.trouble for worker in workers})
        return "No worker can do its work: " + " ".join(said)
    return ""
