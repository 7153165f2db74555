"""The exclusive right to a staging address that a project's own script deploys to."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models, transaction

from tasks.lifecycle import OPEN, Phase
from tasks.models.lease import Lease

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
            wanted = self.filter(address__in=addresses)
            rows = wanted.select_related("task").select_for_update(of=("self",), no_key=True)
            for row in rows.order_by("address"):
                if row.task_id != lease.task_pk and row.is_held(now):
                    return row
            wanted.update(task_id=lease.task_pk, fence=lease.fence, taken_at=now)
        return None


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
        if self.task.status in OPEN:
            return self.task.phase in HOLDING
        was_cut_short = self.task.fence != self.fence
        ended_at = self.task.completed_at or now
        return was_cut_short and now < ended_at + timedelta(seconds=CUT_SHORT_S)
