"""How much room is left where Chimera keeps everything."""

from __future__ import annotations

import shutil
from pathlib import Path


def shortage(home: Path, min_free_mb: int) -> str:
    """Say that fewer than `min_free_mb` (10⁶ bytes) are free; "" if not, or if it can't be told."""
    try:
        free_mb = shutil.disk_usage(home).free // 10**6
    except OSError:
        return ""
    if free_mb >= min_free_mb:
        return ""
    return (
        f"The disk of {home} is nearly full: {free_mb} MB are free, and {min_free_mb} are needed "
        "(CHIMERA_MIN_FREE_MB). No task is begun until there is room."
    )
