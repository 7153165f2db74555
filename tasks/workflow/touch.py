"""Whether this process may judge by its clock that a lease has run out.

It may not after an outage, a freeze or a jump of the clock: then leases run out whose holders are
well. They get a moment to renew them. Whoever was not affected, on another host, need not wait.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from django.conf import settings
from django.db import connection
from django.utils import timezone

# Of a lease. A holder renews it once in a quarter, so none runs out any sooner in an outage.
OVERDUE_SHARE = 2 / 3
COME_BACK_S = 3.0  # for holders to renew their leases, which they try four times a second
JUMP_S = 2.0  # further apart two clocks are not by chance
SKEW_S = 5.0  # what a lease of usual length can bear


class Touch:
    """When a process was last in touch with the database, and what its clocks showed then."""

    def __init__(self) -> None:
        self._made_at: float | None = None  # monotonic, like all times here
        self._apart_s = 0.0
        self._judges_from = float("-inf")
        self._skew_s = 0.0

    def made(self) -> None:
        """Note that the database has just taken a write. Asks PostgreSQL for its time."""
        if self._made_at is not None and (self._is_overdue() or self.has_jumped):
            self._judges_from = time.monotonic() + COME_BACK_S
        self._made_at, self._apart_s = time.monotonic(), _apart_s()
        self._skew_s = skew_s()

    @property
    def has_jumped(self) -> bool:
        """Say whether the clock was set, or the host slept, since the last touch."""
        return self._made_at is not None and abs(_apart_s() - self._apart_s) > JUMP_S

    @property
    def is_lost(self) -> bool:
        """Say whether leases are not to be judged now."""
        return (
            time.monotonic() < self._judges_from
            or self._is_overdue()
            or self.has_jumped
            or abs(self._skew_s) > SKEW_S
        )

    def _is_overdue(self) -> bool:
        """Say whether so much time has passed that leases may have run out meanwhile."""
        if self._made_at is None:
            return False
        return time.monotonic() - self._made_at > OVERDUE_SHARE * settings.CHIMERA.lease_s


def skew_s() -> float:
    """Return by how much this host's clock is ahead of the database server's, in seconds.

    SQLite has no clock of its own.
    """
    if connection.vendor != "postgresql":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        (theirs,) = cursor.fetchone()
    return (timezone.now() - datetime.fromtimestamp(theirs, UTC)).total_seconds()


def clock_trouble() -> str:
    """Say why this host's clock keeps it from taking tasks; "" if it doesn't."""
    ahead_s = skew_s()
    if abs(ahead_s) <= SKEW_S:
        return ""
    word = "ahead of" if ahead_s > 0 else "behind"
    return (
        f"The clock of this host is {abs(ahead_s):.0f} s {word} the database's; "
        "set it, and keep it so by NTP."
    )


def _apart_s() -> float:
    return timezone.now().timestamp() - time.monotonic()
