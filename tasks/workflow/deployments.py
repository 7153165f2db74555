"""Ending staging copies by hand: their rows first, then the keepers that hold them."""

from __future__ import annotations

from django.utils import timezone

from tasks.models import Deployment
from tasks.workspace import staging


def newest() -> int:
    """Return a mark: `end_since` of it ends what comes after now."""
    return Deployment.objects.order_by("-id").values_list("id", flat=True).first() or 0


def end_since(mark: int, task_id: str = "") -> list[str]:
    """End this host's live copies recorded after `mark`, and return their addresses.

    Of one task, or of all with "". Blocks for a second a copy at most.
    """
    live = Deployment.objects.filter(
        ended_at=None, host=staging.host_name(), boot_id=staging.boot_id(), id__gt=mark
    )
    ended = []
    for copy in live.filter(task__task_id=task_id) if task_id else live:
        Deployment.objects.filter(pk=copy.pk, ended_at=None).update(ended_at=timezone.now())
        staging.end(copy.pid, copy.pid_started)
        ended.append(copy.url)
    return ended
