"""Whether this host has room to begin another task."""

from __future__ import annotations

from django.conf import settings

from tasks import disk


def disk_trouble() -> str:
    """Say why this host begins no task for want of room; "" if there is enough. Microseconds."""
    return disk.shortage(settings.CHIMERA.home, settings.CHIMERA.min_free_mb)
