"""The exclusive right to a staging address that a project's own script deploys to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import models, transaction
from django.db.models import Q

from tasks.addresses import overlap, wildcard_of
from tasks.lifecycle import OPEN, Phase
from tasks.models.lease import Lease

if TYPE_CHECKING:
    from tasks.models.task import Task

HOLDING = frozenset({Phase.STAGING_DEPLOYMENT, Phase.E2E_VALIDATION})
# What a cancelled task's script may go on for, until its worker has noticed: a heartbeat of 5 s,
# and the seconds that its processes get to end.
CUT_SHORT_S = 12


class StagingLeaseQuerySet(models.QuerySet["StagingLease"]):
    """Taking addresses; nobody has to give them back."""

    def take(self, lease: Lease, addresses: list[str], now: datetime) -> StagingLease | None:
        """Give all the addresses to the task of `lease`, or none; return what another one has.

        None when they are all the task's. Taking again what it has already does no harm.
        """
        with transaction.atomic(using=self.db):
            # Always in the same order, so that two takers cannot wait for one another.
            for address in sorted(addresses):
                self.get_or_create(address=address)
            # Locked first, looked at then: of a row that it had to wait for, PostgreSQL reads
            # what is new, but not of rows joined to it, so the new holder would be missing.
            locked = self._near(addresses).select_for_update(no_key=True).order_by("address")
            near = [row.pk for row in locked]
            for row in self.filter(pk__in=near).select_related("task").order_by("address"):
                is_anothers = row.task_id != lease.task_pk and row.is_held(now)
                if is_anothers and any(overlap(row.address, address) for address in addresses):
                    return row
            wanted = self.filter(address__in=addresses)
            wanted.update(task_id=lease.task_pk, fence=lease.fence, taken_at=now)
        return None

    def _near(self, addresses: list[str]) -> StagingLeaseQuerySet:
        """Return the rows of these addresses, and those that may overlap with one of them."""
        near = Q(address__in={*addresses, *map(wildcard_of, addresses)})
        for address in addresses:
            scheme, star, parent = address.partition("://*.")
            if star:
                near |= Q(address__startswith=f"{scheme}://", address__endswith=f".{parent}")
        return self.filter(near)


class StagingLease(models.Model):
    """Who deploys to an address, and shows there what is deployed.

    It is held as long as the holder's row says that it is in phase 6 or 7, so whatever ends those
    ends the lease: nothing has to be given back, and nothing can be forgotten.
    """

    address = models.CharField(max_length=300, unique=True)
    task = models.ForeignKey("tasks.Task", null=True, on_delete=models.CASCADE, related_name="+")
    fence = models.PositiveBigIntegerField(default=0)
    taken_at = models.DateTimeField(null=True)

    objects = StagingLeaseQuerySet.as_manager()

    def __str__(self) -> str:
        return self.address

    def is_held(self, now: datetime) -> bool:
        """Say whether the holder may still deploy, or look at what it deployed."""
        if self.task is None:
            return False
        was_cut_short = self.task.fence != self.fence
        if self.task.status in OPEN:
            is_retried = was_cut_short and self._has_just_ended(self.task, now)
            return self.task.phase in HOLDING or is_retried
        ended_at = self.task.completed_at or now
        return was_cut_short and now < ended_at + timedelta(seconds=CUT_SHORT_S)

    def _has_just_ended(self, task: Task, now: datetime) -> bool:
        """Say whether a try that held it ended so lately that its script may still go on."""
        since = now - timedelta(seconds=CUT_SHORT_S)
        tries = task.phase_runs.filter(fence=self.fence, phase__in=sorted(HOLDING))
        return tries.filter(finished_at__gt=since).exists()
