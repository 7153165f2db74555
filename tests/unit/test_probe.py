"""The probe before the first task: whatever is wrong is told, and nothing is raised."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.workspace import browser, probe


def test_a_disk_that_is_full_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fill(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(browser, "find_chromium", lambda _: "/usr/bin/chromium")
    monkeypatch.setattr(probe.tempfile, "TemporaryDirectory", fill)
    told = probe.find_trouble("off", "", tmp_path)
    assert told == "The browser could not be tried: [Errno 28] No space left on device"
