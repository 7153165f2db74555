"""GET /health: can work be done here, and how much of it is there?"""

from __future__ import annotations

import logging
import time
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.db.models import Count
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks import disk
from tasks.api.auth import Anyone, LocalUser
from tasks.api.representations import breaker_json, worker_json
from tasks.lifecycle import Status
from tasks.models import Breaker, Task, Worker

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
        """Answer in three queries; tasks are only counted, and by an index."""
        standing: dict[str, Any] = {"uptime": int(time.monotonic() - _started_s)}
        try:
            workers = list(Worker.objects.live(timezone.now()).select_related("task"))
            paused = list(Breaker.objects.paused().order_by("paused_until"))
            standing |= counts()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("the database did not answer: %s", error)
            reason = "The database cannot be read. If this lasts, see the server's log."
        else:
            reason = disk.shortage(settings.CHIMERA.home, settings.CHIMERA.min_free_mb)
            reason = reason or trouble(workers)
            if LocalUser().has_permission(request, self):
                standing["workers"] = [worker_json(worker) for worker in workers]
                standing["agents_paused"] = [breaker_json(each) for each in paused]
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
