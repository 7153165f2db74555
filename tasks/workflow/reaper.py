"""Housekeeping on one host: what dead workers and old staging copies leave behind."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings

from tasks.lifecycle import OPEN, Status
from tasks.models import Breaker, Deployment, Task, Worker
from tasks.workflow import pids
from tasks.workflow.leftovers import remove_leftovers
from tasks.workspace import staging

logger = logging.getLogger(__name__)

SILENT_FOR = timedelta(minutes=5)  # a worker of another host, unheard of so long, is forgotten
TRY_FOR = timedelta(hours=1)  # rows that ended longer ago are looked at when a cluster starts


def sweep(now: datetime, ended_since: datetime | None = None) -> None:
    """Do everything once; cheap when there is nothing to do. Call it each second.

    `ended_since` widens the search for keepers that outlived their row; an hour by default.
    """
    free_dead_holders(now)
    forget_workers(now)
    Breaker.objects.release_due(now)
    if Deployment.objects.filter(host=pids.host_name(), ended_at=None).exists():
        close_dead_deployments(now)
        end_expired_deployments(now)
        end_surplus_deployments(now)
    end_keepers(now, ended_since or now - TRY_FOR)
    remove_leftovers()


def free_dead_holders(now: datetime) -> int:
    """Let the leases of this host's dead workers run out now; return how many.

    The lease itself is for hosts that are lost; a process of this host can be looked at.
    """
    held = Task.objects.filter(status=Status.RUNNING, lease_expires_at__gt=now)
    freed = 0
    for task in held.filter(holder__startswith=f"{pids.host_name()}:"):
        if is_dead_here(task.holder) and Task.objects.free(task, now):
            logger.warning("%s is free again: its worker %s is gone", task.task_id, task.holder)
            freed += 1
    return freed


def forget_workers(now: datetime) -> None:
    """Remove the rows of workers that are gone, or were not heard of for minutes."""
    rows = Worker.objects.values_list("name", "host", "seen_at")
    gone = [
        name
        for name, host, seen_at in rows
        if (host == pids.host_name() and is_dead_here(name)) or seen_at < now - SILENT_FOR
    ]
    if gone:
        Worker.objects.filter(name__in=gone).delete()


def is_dead_here(holder: str) -> bool:
    """Say whether `holder` is a process of this host that runs no more."""
    parsed = pids.parse_name(holder)
    return parsed is not None and parsed[0] == pids.host_name() and not parsed[1].is_alive


def close_dead_deployments(now: datetime) -> None:
    """End the rows of staging copies on this host whose keeper is gone."""
    for copy in Deployment.objects.filter(host=pids.host_name(), ended_at=None):
        is_here = copy.boot_id == staging.boot_id()
        if not (is_here and staging.is_alive(copy.pid, copy.pid_started)):
            logger.warning("The staging copy at %s is gone", copy.url)
            Deployment.objects.filter(pk=copy.pk, ended_at=None).update(ended_at=now)


def end_expired_deployments(now: datetime) -> None:
    """End the staging copies of this host whose time is over (CHIMERA_STAGING_HOURS).

    The copy of a task that is open, perhaps since a moment ago, is left: it is needed.
    """
    live = Deployment.objects.filter(host=pids.host_name(), ended_at=None)
    expired = live.filter(expires_at__lte=now).exclude(task__status__in=sorted(OPEN))
    if expired.exists():  # a write each second would wake every process that waits for changes
        expired.update(ended_at=now)


def end_surplus_deployments(now: datetime) -> None:
    """End the oldest staging copies of this host beyond the configured number.

    The copy of a task that is still on its way is left: it is about to be looked at.
    """
    live = Deployment.objects.filter(host=pids.host_name(), ended_at=None)
    surplus = live.count() - settings.CHIMERA.max_deployments
    if surplus > 0:
        over = live.exclude(task__status__in=sorted(OPEN)).order_by("created_at", "id")
        oldest = list(over.values_list("pk", flat=True)[:surplus])
        live.filter(pk__in=oldest).update(ended_at=now)


def end_keepers(now: datetime, ended_since: datetime) -> None:
    """End the keepers of this host whose row is over. Blocks for a second each at most."""
    here = Deployment.objects.filter(host=pids.host_name(), boot_id=staging.boot_id())
    for copy in here.filter(ended_at__gte=ended_since, ended_at__lte=now):
        staging.end(copy.pid, copy.pid_started)
