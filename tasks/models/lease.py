"""The right to work on one task, as long as the row carries its fence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings


class LeaseLostError(Exception):
    """The lease is gone: another worker holds the task, or it was cancelled."""


@dataclass(frozen=True)
class Lease:
    """Holder and fence of one claim. The fence only grows, so a stale holder can be told."""

    task_pk: int
    task_id: str
    holder: str
    fence: int


def lease_end(now: datetime) -> datetime:
    """Return when a lease taken or renewed at `now` runs out."""
    return now + timedelta(seconds=settings.CHIMERA.lease_s)
