"""Ending staging copies by hand: their rows first, then the keepers that hold them."""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone

from tasks.models import Deployment
from tasks.workflow import pids
from tasks.workspace import staging


def live() -> QuerySet[Deployment]:
    """Return the copies that this host serves, in this boot."""
    return Deployment.objects.filter(
        ended_at=None, host=pids.host_name(), boot_id=pids.boot_id()
    ).order_by("id")


def newest() -> int:
    """Return a mark: `end_since` of it ends what comes after now."""
    return Deployment.objects.order_by("-id").values_list("id", flat=True).first() or 0


def end_since(mark: int) -> list[str]:
    """End this host's copies that were recorded after `mark`, and return their addresses.

    Blocks for a second a copy at most. Copies that ended in the meantime count as ended.
    """
    ended = []
    for copy in live().filter(id__gt=mark):
        Deployment.objects.filter(pk=copy.pk, ended_at=None).update(ended_at=timezone.now())
        staging.end(copy.pid, copy.pid_started)
        ended.append(copy.url)
    return ended
