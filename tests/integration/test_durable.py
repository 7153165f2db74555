"""A 201 means committed, and on the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

ASK = """
import {module}
import django
django.setup()
from django.db import connection
print(connection.cursor().execute("PRAGMA synchronous").fetchone()[0])
"""
NORMAL, FULL = "1", "2"


@pytest.mark.parametrize(
    ("module", "level"), [("chimera_site.asgi", FULL), ("tasks.workflow", NORMAL)]
)
def test_the_web_server_waits_for_the_disk_and_workers_do_not(
    tmp_path: Path, module: str, level: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(module=module)],
        env={
            "PATH": "/usr/bin:/bin",
            "CHIMERA_HOME": str(tmp_path / "home"),
            "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
        },
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == level, done.stderr
